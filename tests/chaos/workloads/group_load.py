"""What goes on around a group: values are written to its topic, and watchers ask what it has committed."""

import asyncio
import contextlib
import itertools

import ottla.client as sdk
from ottla.client.client import Client, connect
from ottla.client.coordinator import GroupCoordinator
from ottla.client.errors import OttlaError, TopicExists
from ottla.client.group_protocol import OffsetFetchRequest, OffsetFetchResponse, OffsetPartition

from ..group.told import GROUP
from ..stage import Stage, chance

TOPIC, PARTITIONS = "group", 24
PRODUCERS = 2
WATCH_EVERY_S = ((0.0, 2.0), (0.0, 2.0), (3.0, 9.0), (3.0, 9.0))
"""Of each watcher. Who asks rarely may ask one that is coordinator no more, and has not heard of it."""
ASK_S = 5.0
SEND_TIMEOUT_S = 10.0
OUTSIDE = 1_000_000
"""Processes from here on are no members: producers, watchers, and whoever makes members come and go."""


class GroupLoad:
    """``waiting``: values that were acknowledged and not handled; ``last``: of each partition, the highest offset
    that was acknowledged. ``stopping``: no more is written; ``done``: nobody watches any more."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.waiting: set[int] = set()
        self.last: dict[int, int] = {}
        self.handled: set[int] = set()
        self.stopping = self.done = False
        self._values = itertools.count()

    async def make_topic(self) -> None:
        while True:
            with contextlib.suppress(OttlaError):
                async with connect(self.stage.servers) as client:
                    with contextlib.suppress(TopicExists):
                        await client.admin.create_topic(TOPIC, partitions=PARTITIONS, replication=3)
                    return
            await asyncio.sleep(0.3)

    async def _connected(self, number: int) -> Client:
        servers = self.stage.servers
        while True:
            client = connect([servers[number % len(servers)], *servers])
            try:
                await client.__aenter__()
            except OttlaError:
                await asyncio.sleep(0.3)
            else:
                return client

    async def produce(self, number: int) -> None:
        dice = chance(self.stage, f"group producer {number}")
        client = await self._connected(number)
        async with client, client.producer(delivery_timeout_s=SEND_TIMEOUT_S, linger_ms=1) as producer:
            sending: set[asyncio.Task[None]] = set()
            for lane in itertools.cycle(range(8)):
                if self.stopping:
                    break
                process = OUTSIDE + 100 + number * 8 + lane
                if not any(task.get_name() == str(process) for task in sending):
                    work = self._send(producer, process, dice.randrange(PARTITIONS))
                    task = asyncio.create_task(work, name=str(process))
                    sending.add(task)
                    task.add_done_callback(sending.discard)
                await asyncio.sleep(dice.uniform(0, 2 * PRODUCERS / self.stage.rate))
            await asyncio.gather(*sending)

    async def _send(self, producer: sdk.Producer, process: int, partition: int) -> None:
        value, history = next(self._values), self.stage.history
        told = {"p": partition, "v": value}
        op = history.invoke(process, "put-one", told)
        try:
            sent = await producer.send(TOPIC, value=b"%d" % value, partition=partition)
        except OttlaError as error:
            history.complete(op, "info", told, error=f"{error.code}: {error}"[:200])
            return
        history.complete(op, "ok", {**told, "o": sent.offset})
        self.last[partition] = max(sent.offset, self.last.get(partition, 0))
        if value not in self.handled:
            self.waiting.add(value)

    async def watch(self, number: int) -> None:
        dice = chance(self.stage, f"group watcher {number}")
        client = await self._connected(number)
        async with client:
            coordinator = GroupCoordinator(client.cluster, GROUP)
            while not self.done:
                await self._fetch(coordinator, OUTSIDE + 10 + number)
                next_s = self.stage.now_s() + dice.uniform(*WATCH_EVERY_S[number])
                while not self.done and (left_s := next_s - self.stage.now_s()) > 0:
                    await asyncio.sleep(min(left_s, 0.5))

    async def watch_once(self, process: int) -> None:
        """What is committed in the end."""
        client = await self._connected(0)
        async with client:
            coordinator = GroupCoordinator(client.cluster, GROUP)
            for _ in range(20):
                if await self._fetch(coordinator, process, final=True):
                    return
                await asyncio.sleep(0.5)

    async def _fetch(self, coordinator: GroupCoordinator, process: int, *, final: bool = False) -> bool:
        wanted = tuple(OffsetPartition(TOPIC, number) for number in range(PARTITIONS))
        op = self.stage.history.invoke(process, "fetch", {"final": final})
        try:
            answer = await coordinator.ask(OffsetFetchRequest(GROUP, wanted), OffsetFetchResponse, timeout_s=ASK_S)
        except OttlaError as error:
            self.stage.history.complete(op, "fail", error=f"{error.code}: {error}"[:200])
            return False
        offsets = [[found.partition, found.offset] for found in answer.partitions]
        self.stage.history.complete(op, "fail" if answer.error else "ok", {"offsets": offsets, "final": final})
        return not answer.error
