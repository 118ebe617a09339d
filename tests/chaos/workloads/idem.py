"""The queue's workload where acknowledgements get lost: the SDK sends the batch again, and it must be stored once."""

import asyncio
from collections.abc import Sequence
from typing import Any
from unittest import mock

from ottla.client.connection import Answer, Connection, ConnectionLost
from ottla.client.protocol import ProduceRequest

from ..stage import Stage, chance
from .queue import QueueWorkload

LOST_SHARE = 0.2
"""Of all acknowledgements."""


class IdemWorkload(QueueWorkload):
    """As the queue's; every producer is idempotent, and a share of its acknowledgements never reaches it."""

    name = "idem"

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.lost = 0
        self._dice = chance(stage, "lost acknowledgements")
        self._patch: Any = None

    async def start(self) -> None:
        send, workload = Connection.send, self

        async def losing(connection: Connection, message: Any, batches: Sequence[Any] = ()) -> "asyncio.Future[Answer]":
            answer = await send(connection, message, batches)
            if not isinstance(message, ProduceRequest) or workload._dice.random() >= LOST_SHARE:
                return answer
            workload.lost += 1
            return _lose(answer)

        self._patch = mock.patch.object(Connection, "send", losing)
        self._patch.start()
        await super().start()

    async def stop(self) -> None:
        try:
            await super().stop()
        finally:
            self._patch.stop()


def _lose(answer: "asyncio.Future[Answer]") -> "asyncio.Future[Answer]":
    """A future that is told of a lost stream when the answer comes."""
    instead: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def came(future: "asyncio.Future[Answer]") -> None:
        if not future.cancelled():
            future.exception()
        if not instead.done():
            instead.set_exception(ConnectionLost("the acknowledgement was lost."))

    answer.add_done_callback(came)
    instead.add_done_callback(lambda lost: lost.cancelled() or lost.exception())  # who gave it up need not hear of it
    return instead
