"""DeleteRecords: nothing below an offset is read any more. Answered once every live replica knows (Kafka's low
watermark), and once it is written down here: what was deleted does not come back with another leader or a restart."""

import asyncio

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsResponse,
    DeleteRecordsResult,
)
from ottla.log.model import Offset

from ..replica import Refused, Replica
from ..replica_manager import ReplicaManager

WAIT_S_MAX = 300.0
"""No request waits longer for the followers, whatever it asks."""


async def delete_records(manager: ReplicaManager, request: DeleteRecordsRequest) -> DeleteRecordsResponse:
    """One result per partition, in order."""
    pending = [_Trim(manager, target) for target in request.partitions]  # all at once, before any waiting
    try:
        if any(trim.wanted is not None for trim in pending):
            await manager.run_blocking(manager.logs.checkpoint_log_starts)
    except OSError as error:
        for trim in pending:
            trim.refuse(ErrorCode.KAFKA_STORAGE_ERROR, f"it cannot be written down: {error}")
    timeout_s = min(request.timeout_ms / 1000, WAIT_S_MAX)
    return DeleteRecordsResponse(tuple(await asyncio.gather(*(trim.finish(timeout_s) for trim in pending))))


class _Trim:
    """One partition of a request. ``wanted``: the offset below which everything goes; None if that was refused."""

    def __init__(self, manager: ReplicaManager, target: DeleteRecordsPartition) -> None:
        self.wanted: Offset | None = None
        self._manager = manager
        self._target = target
        self._news = asyncio.Event()
        try:
            self._replica = manager.require(target.topic_id, target.partition)
            self.wanted = self._replica.delete_below(None if target.offset is None else Offset(target.offset))
        except Refused as refused:
            self._result = self._refusal(refused.error, str(refused))

    def readable(self, replica: Replica) -> None:
        """The low watermark may have risen, or the role changed."""
        self._news.set()

    def refuse(self, error: ErrorCode, message: str) -> None:
        """Nothing comes of it after all."""
        if self.wanted is not None:
            self.wanted, self._result = None, self._refusal(error, message)

    async def finish(self, timeout_s: float) -> DeleteRecordsResult:
        """The result, once every live replica starts there, or the time is up."""
        if self.wanted is None:
            return self._result
        self._replica.watch_trims(self)
        try:
            async with asyncio.timeout(timeout_s):
                while (low := self._replica.low_watermark(self._manager.may_join_isr)) < self.wanted:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return self._refusal(ErrorCode.REQUEST_TIMED_OUT, "not all live replicas have followed in time")
        except Refused as refused:
            return self._refusal(refused.error, str(refused))
        finally:
            self._replica.unwatch(self)
        return DeleteRecordsResult(self._target.topic_id, self._target.partition, ErrorCode.NONE, low)

    def _refusal(self, error: ErrorCode, message: str) -> DeleteRecordsResult:
        leader, _ = self._manager.leader_of(self._target.topic_id, self._target.partition)
        return DeleteRecordsResult(self._target.topic_id, self._target.partition, error, message=message, leader=leader)
