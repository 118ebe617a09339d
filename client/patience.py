"""Waiting for a leader that says nothing, no longer than it leads."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from ottla.log.model import BrokerId, TopicIdPartition

from .cluster import Cluster
from .connection import Answer, Connection, ConnectionLost
from .errors import OttlaError

STALL_S = 1.5
"""An answer overdue by so much makes us ask whether the leader still leads."""
RECHECK_S = 0.5
"""And so much later again: by then it is likely to lead no more, and every moment is one in which nothing is stored."""

Writing = asyncio.Task[asyncio.Future[Answer]]


def begin(sending: Coroutine[Any, Any, "asyncio.Future[Answer]"]) -> Writing:
    """Start to write a request; await the task to keep the order of requests."""
    return asyncio.ensure_future(sending)


async def answer_from_leader(
    cluster: Cluster,
    broker: BrokerId,
    connection: Connection,
    writing: Writing,
    targets: Sequence[TopicIdPartition],
    *,
    due_s: float,
    timeout_s: float,
) -> Answer:
    """The answer to a request that is being written. ``due_s``: when it should be there at the latest, if all is
    well. Raises ConnectionLost after ``timeout_s``, or as soon as none of ``targets`` is led by the silent broker any
    more; the stream is then closed, so that everything else that waits on it is told, too."""
    clock = cluster.clock
    deadline_s = clock.monotonic() + timeout_s
    patience_s = due_s + STALL_S
    waiting: asyncio.Future[Any] = writing
    try:
        while (left_s := deadline_s - clock.monotonic()) > 0:
            await asyncio.wait([waiting], timeout=min(patience_s, left_s))
            if waiting.done():
                if waiting is not writing:
                    return waiting.result()  # type: ignore[no-any-return]
                waiting = writing.result()
            elif await _has_moved(cluster, broker, targets):
                break
            else:
                patience_s = RECHECK_S
    finally:
        for unneeded in (writing, waiting):
            if not unneeded.done():
                unneeded.cancel()
    cluster.drop(connection)
    raise ConnectionLost(f"{connection.address} does not answer.")


async def _has_moved(cluster: Cluster, broker: BrokerId, targets: Sequence[TopicIdPartition]) -> bool:
    cluster.suspect(broker)
    try:
        await cluster.refresh()
    except OttlaError:
        return False
    leaders = [cluster.leader(*target) for target in targets]
    return all(leader is not None and leader.broker != broker for leader in leaders)
