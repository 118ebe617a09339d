"""Topics as registers: made, grown, deleted and listed through any node, with what is current asked of the quorum."""

import asyncio
import contextlib
from typing import ClassVar

from ottla.client.client import Client, connect
from ottla.client.error_codes import ErrorCode
from ottla.client.errors import OttlaError, RequestFailed, TopicExists, TopicNotFound

from ..history import Op
from ..stage import Stage, chance

NAMES = 5
PARTITIONS_MAX = 6
TIMEOUT_S = 10.0


class MetaWorkload:
    """A configuration is a number of partitions; ``alter`` grows it, so it fails where there are as many already."""

    name = "meta"
    expected_f = ("create", "delete", "list")
    facts: ClassVar[dict[str, object]] = {"hidden_retries": True}

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._clients: list[Client] = []

    async def start(self) -> None:
        self._tasks = [self._stage.spawn(self._run(number)) for number in range(1, self._stage.clients + 1)]

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def verify(self) -> None:
        """Everybody looks once more."""
        for number, client in enumerate(self._clients, start=1):
            await self._stage.spawn(self._list(client, number))
            await self._stage.spawn(client.close())

    async def _run(self, process: int) -> None:
        dice = chance(self._stage, f"meta {process}")
        client = await self._connected(process)
        pause_s = self._stage.clients / self._stage.rate
        while not self._stopping:
            name = f"meta-{dice.randrange(NAMES)}"
            what = dice.random()
            if what < 0.35:
                await self._list(client, process)
            elif what < 0.6:
                await self._create(client, process, name, dice.randint(1, 3))
            elif what < 0.8:
                await self._delete(client, process, name)
            else:
                await self._alter(client, process, name, dice.randint(2, PARTITIONS_MAX))
            await asyncio.sleep(dice.uniform(0, 2 * pause_s))

    async def _connected(self, process: int) -> Client:
        servers = self._stage.servers
        client = connect([servers[process % len(servers)], *servers])
        while True:
            try:
                await client.__aenter__()
            except OttlaError:
                await asyncio.sleep(0.2)
                client = connect(servers)
            else:
                self._clients.append(client)
                return client

    async def _create(self, client: Client, process: int, name: str, partitions: int) -> None:
        op = self._stage.history.invoke(process, "create", {"topic": name, "config": partitions})
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await client.admin.create_topic(name, partitions=partitions, replication=3)
        except (OttlaError, TimeoutError) as error:
            self._end(op, error)
        else:
            self._stage.history.complete(op, "ok")

    async def _delete(self, client: Client, process: int, name: str) -> None:
        op = self._stage.history.invoke(process, "delete", {"topic": name})
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await client.admin.delete_topic(name)
        except (OttlaError, TimeoutError) as error:
            self._end(op, error)
        else:
            self._stage.history.complete(op, "ok")

    async def _alter(self, client: Client, process: int, name: str, partitions: int) -> None:
        op = self._stage.history.invoke(process, "alter", {"topic": name, "config": partitions})
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await client.admin.grow_topic(name, partitions)
        except (OttlaError, TimeoutError) as error:
            self._end(op, error)
        else:
            self._stage.history.complete(op, "ok")

    async def _list(self, client: Client, process: int) -> None:
        op = self._stage.history.invoke(process, "list", {"current": True})
        try:
            async with asyncio.timeout(TIMEOUT_S):
                topics = await client.admin.list_topics(current=True)
        except (OttlaError, TimeoutError) as error:
            self._stage.history.complete(op, "fail", error=str(error)[:200])
            return
        found = {topic.name: len(topic.partitions) for topic in topics if topic.name.startswith("meta-")}
        self._stage.history.complete(op, "ok", found)

    def _end(self, op: Op, error: BaseException) -> None:
        """A refusal that says what there was is one; after any other error nobody knows. One who made a topic that is
        deleted before he sees it is told that there is none: that is no refusal."""
        told = isinstance(error, TopicExists if op.f == "create" else TopicNotFound) or (
            isinstance(error, RequestFailed) and error.error is ErrorCode.INVALID_PARTITIONS
        )
        with contextlib.suppress(ValueError):
            self._stage.history.complete(op, "fail" if told else "info", error=f"{type(error).__name__}: {error}"[:200])
