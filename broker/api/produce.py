"""Produce: append each batch at its leader at once, then wait for the acknowledgements that were asked for."""

import asyncio
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
        self._done: asyncio.Future[None] | None = None

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
        if self._done is not None and not self._waiting and not self._deferred:
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

    def _finish(self) -> None:
        """All is known, or the time is up."""
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    # --- the answer --------------------------------------------------------------------------------------------------

    async def response(self) -> ProduceResponse:
        """The results, once all are known or the request's time is up."""
        if self._waiting or self._deferred:
            loop = asyncio.get_running_loop()
            self._done = loop.create_future()
            timer = loop.call_later(min(self._request.timeout_ms / 1000, WAIT_S_MAX), self._finish)
            try:
                await self._done
                self._give_up()
            finally:
                self._over = True
                timer.cancel()
                for replica in self._waiting:
                    replica.stop_waiting(self)
        return ProduceResponse(tuple(result for result in self._results if result is not None))

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
