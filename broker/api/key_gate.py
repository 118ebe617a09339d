"""Keeps records without a key out of compacted topics: there the broker must look into a batch, and a large one, or
a compressed one, takes too long for the event loop.

Such batches are looked at in an executor, one at a time for each partition; what comes for the partition meanwhile
waits behind it, because a partition's batches are appended as they arrive.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from weakref import WeakKeyDictionary

from ottla.client.error_codes import ErrorCode
from ottla.log.errors import CorruptBatch, InvalidBatch
from ottla.log.records import RecordBatch
from ottla.log.run_blocking import RunBlocking
from ottla.log.validation import check_keys

from ..replica import Refused, Replica

ON_LOOP_BYTES_MAX = 8 << 10
"""An uncompressed batch of this size has at most about a thousand records: they are looked at within a millisecond."""
WAITING_MAX = 10_000
"""Batches of one partition that wait; beyond, a producer is told to come again."""

Then = Callable[[Refused | None], None]


class KeyGate:
    """``pass_through`` calls ``then`` with None once the batch may be appended, or with why it may not: at once
    where it can."""

    def __init__(self, run_blocking: RunBlocking) -> None:
        self._run_blocking = run_blocking
        self._waiting: WeakKeyDictionary[Replica, deque[tuple[memoryview, Then]]] = WeakKeyDictionary()
        self._tasks: set[asyncio.Task[None]] = set()

    def is_open(self, replica: Replica) -> bool:
        """Whether any batch of this partition may be appended at once, without a look."""
        return not replica.log.config.compacts and (not self._tasks or replica not in self._waiting)

    def pass_through(self, replica: Replica, batch: memoryview, then: Then) -> None:
        """Raises nothing: whatever is wrong with the batch, the log says it better."""
        if self.is_open(replica):
            then(None)
            return
        queue = self._waiting.get(replica)
        if queue is None and _is_quick(batch):
            then(_why_refused(batch))
            return
        if queue is None:
            queue = self._waiting[replica] = deque()
            task = asyncio.create_task(self._drain(replica, queue), name=f"keys-{replica.name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if len(queue) >= WAITING_MAX:
            then(Refused(ErrorCode.REQUEST_TIMED_OUT, f"{replica.name} has {WAITING_MAX} batches to look into"))
            return
        queue.append((batch, then))

    async def _drain(self, replica: Replica, queue: deque[tuple[memoryview, Then]]) -> None:
        try:
            while queue:
                refused = await self._look(replica, queue[0][0])
                queue.popleft()[1](refused)
        finally:  # at the end of the node too: nobody is left without a word
            del self._waiting[replica]
            for _, then in queue:
                then(Refused(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"{replica.name} is not served here any more"))

    async def _look(self, replica: Replica, batch: memoryview) -> Refused | None:
        if not replica.log.config.compacts:  # it may have become an ordinary topic meanwhile
            return None
        if _is_quick(batch):
            return _why_refused(batch)
        return await self._run_blocking(lambda: _why_refused(batch))


def _is_quick(batch: memoryview) -> bool:
    return len(batch) <= ON_LOOP_BYTES_MAX and not (len(batch) > 22 and batch[22] & 7)


def _why_refused(batch: memoryview) -> Refused | None:
    try:
        check_keys(RecordBatch.parse(batch))
    except InvalidBatch as error:
        return Refused(ErrorCode.named(error.code), str(error))
    except CorruptBatch:
        return None  # of its header: the log refuses it, with all its reasons
    return None
