"""A shard of groups on the broker that leads its partition, for one leader epoch: loading, writing, waiting, telling.

What a decision brings is appended as one batch in the step that replays it, so state and log never differ; an answer
leaves when the partition's high watermark has passed all that the answer may rest on. A coordinator that was deposed
can therefore acknowledge nothing: its appends are never committed in its epoch.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import GroupResponse
from ottla.log.clock import Clock
from ottla.log.compression import Compression
from ottla.log.model import LeaderEpoch, Offset
from ottla.log.records import BatchBuilder, batches_in
from ottla.log.run_blocking import RunBlocking

from ..replica import Refused, Replica
from .outcome import GroupRefused, Outcome, Reply
from .record_codec import decode_record, encode_key, encode_value
from .records import GroupRecord
from .refusals import OneGroupRequest, coordinator_error, refusal
from .shard import Shard
from .wire import BadRecord

log = structlog.get_logger(__name__)

LOAD_BYTES = 1 << 20
"""So much of the log is read and decoded at once."""
REPLAY_RECORDS = 500
"""So many records are replayed before others have their turn."""
RETRY_S = 1.0
"""After a deadline whose records could not be appended."""

Future = asyncio.Future[GroupResponse]


@dataclass(slots=True, eq=False)
class Pending:
    """Answers that wait for the high watermark."""

    replies: list[tuple[Future, GroupResponse, GroupResponse]]  # who, what, and what instead if it is not committed
    timer: asyncio.TimerHandle | None = None

    def committed(self, replica: Replica) -> None:
        """All that the answers rest on is committed."""
        for future, response, _ in self._take():
            _tell(future, response)

    def lost(self, replica: Replica, error: ErrorCode) -> None:
        """The partition changed hands before: what was written may survive or not."""
        for future, _, instead in self._take():
            _tell(future, instead)

    def _take(self) -> list[tuple[Future, GroupResponse, GroupResponse]]:
        if self.timer is not None:
            self.timer.cancel()
        taken, self.replies = self.replies, []
        return taken


class HostedShard:
    """One shard in one leader epoch. ``state`` is not to be asked before ``loaded``."""

    def __init__(self, replica: Replica, state: Shard, clock: Clock, commit_timeout_s: float) -> None:
        self.replica = replica
        self.epoch: LeaderEpoch = replica.leader_epoch
        self.state = state
        self.loaded = False
        self.end = Offset(0)  # of all that is appended or replayed
        self._clock = clock
        self._commit_timeout_s = commit_timeout_s
        self._waiting: dict[Future, OneGroupRequest] = {}
        self._promised: set[Future] = set()  # those of them whose answer is known, and waits for the high watermark
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        self.closed = False

    @property
    def leads(self) -> bool:
        """Whether this broker still leads the partition in this epoch."""
        return not self.closed and self.replica.leader is not None and self.replica.leader_epoch == self.epoch

    # --- loading -----------------------------------------------------------------------------------------------------

    async def load(self, run_blocking: RunBlocking) -> bool:
        """Replay the log; whether the epoch still stands at its end. Raises LogError, OSError."""
        started_s = self._clock.monotonic()
        offset = self.replica.log.log_start_offset
        records = 0
        while self.leads and offset < self.replica.log.log_end_offset:
            data = self.replica.log.read(offset, LOAD_BYTES, self.replica.log.log_end_offset)
            if not data:
                break
            decoded, offset = await run_blocking(lambda data=data: decode_batches(data))  # type: ignore[misc]
            for start in range(0, len(decoded), REPLAY_RECORDS):
                for record, written_ms in decoded[start : start + REPLAY_RECORDS]:
                    self.state.replay(record, written_ms)
                await asyncio.sleep(0)
            records += len(decoded)
        if not self.leads:
            return False
        self.end = self.replica.log.log_end_offset
        self.state.loaded(self._clock.monotonic(), self._clock.now_ms())
        self.loaded = True
        self._arm()
        log.info(
            "groups.loaded",
            partition=str(self.replica.name),
            epoch=self.epoch,
            records=records,
            groups=len(self.state.groups),
            seconds=round(self._clock.monotonic() - started_s, 3),
        )
        return True

    def close(self) -> None:
        """Not the coordinator of these groups any more: whoever waits is told to look for the next."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        for future, request in list(self._waiting.items()):
            _tell(future, refusal(request, ErrorCode.NOT_COORDINATOR, "the group has another coordinator now"))

    def finish(self) -> None:
        """Who waits for other members is told to look for another coordinator; what was written is still answered."""
        for future, request in list(self._waiting.items()):
            if future not in self._promised:
                _tell(future, refusal(request, ErrorCode.NOT_COORDINATOR, "the group's coordinator stops"))

    # --- requests ----------------------------------------------------------------------------------------------------

    async def answer(self, request: OneGroupRequest, decide: Callable[[Future], Outcome]) -> GroupResponse:
        """Decide, append, replay, and answer once that is committed: for a join or a sync, when the group is there."""
        if not self.leads:
            return refusal(request, ErrorCode.NOT_COORDINATOR, "the group has another coordinator now")
        if not self.loaded:
            return refusal(request, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, "the group is still being read")
        future: Future = asyncio.get_running_loop().create_future()
        self._waiting[future] = request
        try:
            try:
                self.carry_out(decide(future))
                self._arm()  # not only at the end: what is waited for may be a deadline that was set just now
            except GroupRefused as refused:
                return refusal(request, refused.error, str(refused))
            except Refused as refused:
                return refusal(request, coordinator_error(refused.error), str(refused))
            finally:
                self._arm()  # now: the answer may be to wait for a deadline
            return await future
        finally:
            self._waiting.pop(future, None)
            self._promised.discard(future)
            future.cancel()  # a group may still know it

    def carry_out(self, outcome: Outcome) -> None:
        """Raises Refused where the records cannot be appended; then nothing was, and whoever was to be told of it is
        told that."""
        if outcome.records:
            try:
                self._append(outcome.records)
            except Refused as refused:
                for future, _ in outcome.replies:
                    if not future.done():
                        _tell(future, refusal(self._waiting[future], coordinator_error(refused.error), str(refused)))
                raise
        replies = outcome.replies + (outcome.accept() if outcome.accept is not None else [])
        self._reply(replies)

    def _append(self, records: list[GroupRecord]) -> None:
        now_ms = self._clock.now_ms()
        batch = make_batch(records, now_ms)
        result = self.replica.append(memoryview(batch), need_all=True)
        self.end = Offset(result.last_offset + 1)
        for record in records:
            self.state.replay(record, now_ms)

    def _reply(self, replies: list[Reply]) -> None:
        told = [(future, response, self._instead(future)) for future, response in replies if not future.done()]
        if not told:
            return
        pending = Pending(told)
        self._promised.update(future for future, _, _ in told)
        self.replica.when_committed(self.end, pending)
        if pending.replies:
            loop = asyncio.get_running_loop()
            pending.timer = loop.call_later(self._commit_timeout_s, self._give_up, pending)

    def _instead(self, future: Future) -> GroupResponse:
        return refusal(self._waiting[future], ErrorCode.NOT_COORDINATOR, "the group has another coordinator now")

    def _give_up(self, pending: Pending) -> None:
        """It may still be committed; nobody waits for it any longer."""
        self.replica.stop_waiting(pending)
        for future, _, _ in pending.replies:
            request = self._waiting.get(future)
            if request is not None:
                _tell(future, refusal(request, ErrorCode.COORDINATOR_NOT_AVAILABLE, "not committed in time"))
        pending.replies = []

    # --- time --------------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        next_s = self.state.timers.next_s
        if next_s is None or self.closed or (self._timer is not None and self._timer_s <= next_s):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = next_s
        delay_s = max(0.0, next_s - self._clock.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if not self.leads:
            return
        now_s = self._clock.monotonic()
        for key in self.state.timers.expired(now_s):
            try:
                self.carry_out(self.state.expire(key, now_s, self._clock.now_ms()))
            except Refused as refused:
                log.warning("groups.deadline_postponed", what=key[0], group=key[1], problem=str(refused))
                self.state.timers.set(key, now_s + RETRY_S)
        self._arm()

    def sweep(self) -> None:
        """Forget what is too old, group by group, as far as the log takes it."""
        for group_id in self.state.all_ids():
            if not self.leads or not self.loaded:
                return
            records = self.state.sweep(group_id, self._clock.now_ms())
            if records:
                try:
                    self.carry_out(Outcome(records))
                except Refused as refused:
                    log.warning("groups.not_swept", group=group_id, problem=str(refused))
                    return

    # --- figures -----------------------------------------------------------------------------------------------------

    @property
    def members(self) -> int:
        return sum(len(group.members) for group in self.state.groups.values())

    @property
    def rebalances(self) -> int:
        return self.state.rebalances + self.state.classic.rebalances


def _tell(future: Future, response: GroupResponse) -> None:
    if not future.done():
        future.set_result(response)


def make_batch(records: list[GroupRecord], now_ms: int) -> bytes:
    """One decision as the log has it."""
    builder = BatchBuilder(Compression.NONE)
    for record in records:
        value = None if record.value is None else encode_value(record.value)
        builder.append(encode_key(record.key), value, timestamp_ms=now_ms)
    return builder.build()


def decode_batches(data: bytes) -> tuple[list[tuple[GroupRecord, int]], Offset]:
    """The records of whole batches, each with its time, and where the next one starts. What is not a record of ours is
    passed over: a coordinator that refused to start for it would take all its groups away."""
    decoded: list[tuple[GroupRecord, int]] = []
    offset = Offset(0)
    for batch in batches_in(data):
        offset = batch.next_offset
        if batch.is_control:
            continue
        for record in batch.records():
            try:
                parsed = decode_record(record.key or b"", record.value)
            except BadRecord as error:
                log.error("groups.bad_record", offset=record.offset, problem=str(error))
                continue
            if parsed is not None:
                decoded.append((parsed, record.timestamp_ms))
    return decoded, offset
