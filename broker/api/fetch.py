"""Fetch for consumers: whole batches below the high watermark, waiting a little where there is nothing yet."""

import asyncio

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import FetchPartition, FetchRequest, FetchResponse, FetchResult
from ottla.log.model import Offset, TopicIdPartition

from ..rack_reads import read_as_follower, read_replica
from ..reading import read
from ..replica import Refused, Replica
from ..replica_manager import ReplicaManager
from ..replica_session import RESPONSE_BYTES_MAX

Answer = tuple[FetchResponse, list[bytes]]

TURN = 250
"""Partitions that are read before others get their turn."""
WAIT_S_MAX = 60.0
"""No fetch waits longer for news, whatever it asks."""


class _LongPoll:
    """Wakes a fetch when any of its partitions has news."""

    def __init__(self) -> None:
        self.news = asyncio.Event()

    def readable(self, replica: Replica) -> None:
        self.news.set()


class LongPolls:
    """The fetches of one door that wait for news, and may be told to wait no longer."""

    def __init__(self) -> None:
        self.ended = False
        self._waiting: set[_LongPoll] = set()

    def end(self) -> None:
        """From now on every fetch is answered at once, with what there is."""
        self.ended = True
        for poll in self._waiting:
            poll.news.set()

    def add(self, poll: _LongPoll) -> None:
        self._waiting.add(poll)

    def remove(self, poll: _LongPoll) -> None:
        self._waiting.discard(poll)


async def fetch(manager: ReplicaManager, request: FetchRequest, polls: LongPolls | None = None) -> Answer:
    """Answer with ``min_bytes`` or any error at once, else with what there is after ``max_wait_ms``, or once ``polls``
    are ended."""
    polls = LongPolls() if polls is None else polls
    deadline_s = manager.clock.monotonic() + min(request.max_wait_ms / 1000, WAIT_S_MAX)
    poll = _LongPoll()
    watched = _watch(manager, request, poll)  # before the reading, which may let others do something meanwhile
    polls.add(poll)
    try:
        answer = await _read_all(manager, request)
        if _is_complete(answer, request) or request.max_wait_ms == 0:
            return answer
        while not polls.ended and (left_s := deadline_s - manager.clock.monotonic()) > 0:
            try:
                async with asyncio.timeout(left_s):
                    await poll.news.wait()
            except TimeoutError:
                break
            poll.news.clear()
            answer = await _read_all(manager, request)
            if _is_complete(answer, request):
                return answer
    finally:
        polls.remove(poll)
        for replica in watched:
            replica.unwatch(poll)
    return await _read_all(manager, request)


def _watch(manager: ReplicaManager, request: FetchRequest, poll: _LongPoll) -> list[Replica]:
    keys = (TopicIdPartition(asked.topic_id, asked.partition) for asked in request.partitions)
    watched = [replica for replica in map(manager.find, keys) if replica is not None]
    for replica in watched:
        replica.watch(poll)
    return watched


async def _read_all(manager: ReplicaManager, request: FetchRequest) -> Answer:
    budget = min(request.max_bytes, RESPONSE_BYTES_MAX)
    results: list[FetchResult] = []
    parts: list[bytes] = []
    for number, asked in enumerate(request.partitions):
        if number % TURN == TURN - 1:
            await asyncio.sleep(0)  # others get their turn
        result, data = _read_one(manager, asked, budget, request.rack)
        if len(data) > budget and any(parts):
            result, data = _read_one(manager, asked, 0, request.rack)  # a larger batch goes alone, in a later answer
        results.append(result)
        parts.append(data)
        budget -= len(data)
    return FetchResponse(tuple(results)), parts


def _read_one(manager: ReplicaManager, asked: FetchPartition, budget: int, rack: str) -> tuple[FetchResult, bytes]:
    try:
        replica = manager.require(asked.topic_id, asked.partition)
    except Refused as refused:
        leader, epoch = manager.leader_of(asked.topic_id, asked.partition)
        return FetchResult(
            topic_id=asked.topic_id,
            partition=asked.partition,
            error=refused.error,
            message=str(refused),
            leader=leader,
            leader_epoch=epoch,
        ), b""
    if rack and replica.leader is None:
        return read_as_follower(replica, asked, budget)
    near = (
        None
        if replica.leader is None
        else read_replica(replica.leader, manager.image, Offset(asked.fetch_offset), rack)
    )
    result, data = read(replica, asked, 0 if near is not None else budget)
    if near is not None and result.error is ErrorCode.NONE and result.diverging is None:
        result.preferred_read_replica = near
    return result, data


def _is_complete(answer: Answer, request: FetchRequest) -> bool:
    response, parts = answer
    if not request.partitions or not request.min_bytes:
        return True  # nothing is waited for: Kafka's consumers say goodbye so
    if sum(map(len, parts)) >= max(1, min(request.min_bytes, request.max_bytes, RESPONSE_BYTES_MAX)):
        return True
    return any(
        r.error is not ErrorCode.NONE or r.diverging is not None or r.preferred_read_replica is not None
        for r in response.partitions
    )
