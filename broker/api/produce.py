"""Produce: append each batch at its leader at once, then wait for the acknowledgements that were asked for."""

import asyncio
from collections.abc import Callable
from functools import partial

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import (
    ACKS_ALL,
    ACKS_LEADER,
    ACKS_NONE,
    ProducePartition,
    ProduceRequest,
    ProduceResponse,
    ProduceResult,
)
from ottla.log.model import Offset
from ottla.wire.deadlines import Deadlines

from ..group.internal_topic import is_internal
from ..replica import Refused, Replica
from ..replica_manager import ReplicaManager
from .key_gate import KeyGate

WAIT_S_MAX = 300.0
"""No request waits longer for its commit, whatever it asks."""


class PendingProduce:
    """One produce request whose batches are appended; results are filled in as partitions commit.

    ``may_be_forgotten``: its producer does not know how to begin again where it is not known (decision 18).
    """

    def __init__(
        self, manager: ReplicaManager, gate: KeyGate, request: ProduceRequest, *, may_be_forgotten: bool = False
    ) -> None:
        self._manager = manager
        self._gate = gate
        self._request = request
        self._may_be_forgotten = may_be_forgotten
        self._deferred = 0  # batches that wait at the gate
        self._over = False
        self._results: list[ProduceResult | None] = [None] * len(request.partitions)
        self._waiting: dict[Replica, int] = {}
        self._waiting_for: dict[Replica, ProduceResult] = {}
        self._tell: Callable[[ProduceResponse], None] | None = None
        self._deadlines: Deadlines | None = None
        self._deadline = 0

    def append(self, batches: list[memoryview]) -> None:
        """Append everything, in the request's order, without waiting for anything but the gate."""
        named: set[Replica] = set()
        for index, (target, batch) in enumerate(zip(self._request.partitions, batches, strict=True)):
            try:
                replica = self._replica_for(target, named)
            except Refused as refused:
                self._results[index] = self._refusal(target, refused.error, str(refused))
                continue
            self._deferred += 1
            if self._gate.is_open(replica):
                self._passed(index, target, batch, replica, None)
            else:
                self._gate.pass_through(replica, batch, partial(self._passed, index, target, batch, replica))

    @property
    def failed(self) -> bool:
        """Whether some batch was refused already."""
        return any(result is not None and result.error for result in self._results)

    def _replica_for(self, target: ProducePartition, named: set[Replica]) -> Replica:
        if self._request.acks not in (ACKS_NONE, ACKS_LEADER, ACKS_ALL):
            raise Refused(ErrorCode.INVALID_REQUIRED_ACKS, f"acks is {self._request.acks}, not -1, 0 or 1")
        replica = self._manager.require(target.topic_id, target.partition)
        if is_internal(replica.name.topic):
            raise Refused(ErrorCode.INVALID_TOPIC_EXCEPTION, f"{replica.name.topic} is written by coordinators only")
        if replica in named:
            raise Refused(ErrorCode.INVALID_REQUEST, f"{replica.name} stands in the request twice")
        named.add(replica)
        return replica

    def _passed(
        self, index: int, target: ProducePartition, batch: memoryview, replica: Replica, refused: Refused | None
    ) -> None:
        """The gate lets a batch through, or not; if late, whoever asked may have gone, and the batch is stored."""
        self._deferred -= 1
        try:
            if refused is not None:
                raise refused
            self._append_one(index, target, batch, replica)
        except Refused as why:
            self._results[index] = self._refusal(target, why.error, str(why))
        if not self._waiting and not self._deferred:
            self._finish()

    def _append_one(self, index: int, target: ProducePartition, batch: memoryview, replica: Replica) -> None:
        need_all = self._request.acks == ACKS_ALL
        appended = replica.append(batch, need_all=need_all, may_be_forgotten=self._may_be_forgotten)
        result = ProduceResult(
            topic_id=target.topic_id,
            partition=target.partition,
            error=ErrorCode.NONE,
            base_offset=appended.base_offset,
            log_start_offset=appended.log_start_offset,
            log_append_time_ms=appended.log_append_time_ms,
        )
        if self._over or self._request.acks == ACKS_NONE:
            self._results[index] = result
            return
        self._waiting[replica], self._waiting_for[replica] = index, result
        wait = replica.when_committed if need_all else replica.when_durable
        wait(Offset(appended.last_offset + 1), self)

    # --- told by the replicas ----------------------------------------------------------------------------------------

    def committed(self, replica: Replica) -> None:
        """The high watermark passed this request's batch, or with acks=1 it counts at the leader."""
        self._resolve(replica, self._waiting_for[replica])

    def lost(self, replica: Replica, error: ErrorCode) -> None:
        """The partition changed hands before the batch was committed; it may survive or not."""
        target = self._request.partitions[self._waiting[replica]]
        self._resolve(replica, self._refusal(target, error, f"{replica.name} changed its leader before the commit"))

    def _resolve(self, replica: Replica, result: ProduceResult) -> None:
        self._results[self._waiting.pop(replica)] = result
        if not self._waiting and not self._deferred:
            self._finish()

    # --- the answer --------------------------------------------------------------------------------------------------

    def when_done(self, tell: Callable[[ProduceResponse], None], deadlines: Deadlines) -> None:
        """Call ``tell``, which must not raise, once all results are known or the request's time is up; in this call,
        if they are. Without a task: a commit is answered in the call that brings its last acknowledgement."""
        self._tell = tell
        if not self._waiting and not self._deferred:
            self._finish()
            return
        self._deadlines = deadlines
        self._deadline = deadlines.add(min(self._request.timeout_ms / 1000, WAIT_S_MAX), self._give_up)

    async def response(self, deadlines: Deadlines | None = None) -> ProduceResponse:
        """The same, for who awaits it."""
        deadlines = Deadlines() if deadlines is None else deadlines
        answered: asyncio.Future[ProduceResponse] = asyncio.get_running_loop().create_future()
        self.when_done(lambda response: None if answered.done() else answered.set_result(response), deadlines)
        try:
            return await answered
        finally:
            self.forget()

    def forget(self) -> None:
        """Nobody waits for the answer any longer; what was appended stays."""
        self._over, self._tell = True, None
        if self._deadlines is not None:
            self._deadlines.discard(self._deadline)
        for replica in self._waiting:
            replica.stop_waiting(self)

    def _finish(self) -> None:
        """All is known, or as much as will be."""
        tell = self._tell
        if tell is not None:
            self.forget()
            tell(ProduceResponse(tuple([result for result in self._results if result is not None])))

    def _give_up(self) -> None:
        """What is still not committed may be later; nobody waits for it any longer."""
        for replica, index in self._waiting.items():
            target = self._request.partitions[index]
            leader = replica.leader
            too_few = leader is not None and not leader.enough_replicas
            error = ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND if too_few else ErrorCode.REQUEST_TIMED_OUT
            waited = f"not committed within {self._request.timeout_ms} ms; it may still be"
            self._results[index] = self._refusal(target, error, waited)
        for index, target in enumerate(self._request.partitions):
            if self._results[index] is None:
                waited = f"not looked at within {self._request.timeout_ms} ms; it may still be stored"
                self._results[index] = self._refusal(target, ErrorCode.REQUEST_TIMED_OUT, waited)
        self._finish()

    def _refusal(self, target: ProducePartition, error: ErrorCode, message: str) -> ProduceResult:
        leader, epoch = self._manager.leader_of(target.topic_id, target.partition)
        return ProduceResult(
            topic_id=target.topic_id,
            partition=target.partition,
            error=error,
            message=message,
            leader=leader,
            leader_epoch=epoch,
        )
