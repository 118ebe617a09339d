"""Carries a producer's batches to the leaders: grouped per broker, pipelined, retried until resolved.

Nothing here blocks on one broker for the sake of another: each broker with something to get has its own short-lived
pump, which ends as soon as nothing is ready.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from ottla.log.model import BrokerId, ProducerIdAndEpoch, TopicIdPartition

from .accumulator import Accumulator
from .backoff import backoff_s
from .batch import Batch
from .cluster import Cluster
from .connection import Connection, ConnectionLost
from .error_codes import ErrorCode
from .errors import DeliveryTimeout, OttlaError, TopicNotFound, error_for
from .jobs import Jobs
from .patience import Writing, answer_from_leader, begin
from .protocol import (
    ACKS_NONE,
    ErrorResponse,
    InitProducerIdRequest,
    InitProducerIdResponse,
    ProducePartition,
    ProduceRequest,
    ProduceResponse,
    ProduceResult,
)

REQUEST_BYTES_MAX = 4 << 20
GRACE_S = 2.0
"""How much longer than the broker's own timeout an answer is waited for."""
METADATA_AGE_S = 30.0
METADATA_AGE_UNANSWERED_S = 2.0
"""With acks=0 no answer tells of a new leader, so metadata must."""

Waiter = asyncio.Future[Any]
ProducerBatch = Batch[Waiter]

_NEVER_STORED = frozenset(
    {
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
    }
)
"""Retriable refusals given before the append. Any other failure leaves it open whether the batch is stored."""
_GAP = frozenset({ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.UNKNOWN_PRODUCER_ID})
_TOPIC_GONE = frozenset({ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_ID})


class Sender:
    """``on_stored`` gets a batch, its base offset and the broker's time where that counts, ``on_failed`` a batch and
    why; both exactly once a batch."""

    def __init__(
        self,
        cluster: Cluster,
        accumulator: Accumulator[Waiter],
        *,
        acks: int,
        request_timeout_s: float,
        max_in_flight: int,
        topic_name: Callable[[TopicIdPartition], str],
        on_stored: Callable[[ProducerBatch, int | None, int | None], None],
        on_failed: Callable[[ProducerBatch, OttlaError], None],
    ) -> None:
        self._cluster = cluster
        self._accumulator = accumulator
        self._acks = acks
        self._request_timeout_s = request_timeout_s
        self._max_in_flight = max_in_flight
        self._topic_name = topic_name
        self._on_stored = on_stored
        self._on_failed = on_failed
        self._problems: dict[TopicIdPartition, str] = {}  # why a partition's oldest batch is tried again
        self._slots: dict[BrokerId, asyncio.Semaphore] = {}
        self._carried: set[int] = set()  # numbers of the batches that some pump or answer takes care of
        self._jobs = Jobs(self.wake)
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._refreshed_s = cluster.clock.monotonic()
        self._closed = False

    # --- the heartbeat -----------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something may have become ready. Cheap; the work is done once per turn of the loop."""
        if not self._scheduled and not self._closed:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        self._scheduled = False
        if self._closed:
            return
        now_s = self._cluster.clock.monotonic()
        for batch in self._accumulator.expire(now_s):
            self._on_failed(batch, self._expired(batch))
        if self._accumulator.needs_identity:
            self._jobs.start_once("identity", self._get_identity)
        leaderless = False
        for target in list(self._accumulator.ready(now_s)):
            leader = self._cluster.leader(*target)
            if leader is None or leader.broker not in self._cluster.brokers:
                leaderless = True
            else:
                self._start_pump(leader.broker)
        if leaderless or self._metadata_is_old(now_s):
            self._jobs.start_once("refresh", self._refresh)
        self._set_timer(now_s)

    def _start_pump(self, broker: BrokerId) -> None:
        self._jobs.start_once(f"pump-{broker}", lambda: self._pump(broker))

    def _metadata_is_old(self, now_s: float) -> bool:
        age_s = METADATA_AGE_UNANSWERED_S if self._acks == ACKS_NONE else METADATA_AGE_S
        return now_s - self._refreshed_s > age_s

    def _set_timer(self, now_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at_s = self._accumulator.next_event_s(now_s)
        if at_s is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.001, at_s - now_s), self._step)

    def _expired(self, batch: ProducerBatch) -> OttlaError:
        after_s = self._accumulator.limits.delivery_timeout_s
        fate = "may or may not be stored" if batch.attempts else "was never sent"
        why = self._problems.get(batch.target)
        last = f" The last answer was {why}." if why is not None else ""
        return DeliveryTimeout(
            f"{self._shown(batch.target)}: no acknowledgement within {after_s:g} s; the record {fate}.{last}",
            hint="" if why is not None else "Is the partition's leader up, with enough in-sync replicas?",
        )

    def _shown(self, target: TopicIdPartition) -> str:
        return f"{self._topic_name(target)}-{target.partition}"

    # --- metadata and producer ids -----------------------------------------------------------------------------------

    async def _refresh(self) -> None:
        await self._try_refresh()
        await asyncio.sleep(backoff_s(2, self._cluster.chance))

    async def _try_refresh(self) -> bool:
        try:
            await self._cluster.refresh()
        except OttlaError:
            return False
        finally:
            self._refreshed_s = self._cluster.clock.monotonic()
        return True

    async def _get_identity(self) -> None:
        try:
            answer = await self._cluster.ask_any(InitProducerIdRequest(), timeout_s=self._request_timeout_s)
        except OttlaError:
            await asyncio.sleep(backoff_s(3, self._cluster.chance))
            return
        if isinstance(answer.response, InitProducerIdResponse):
            self._accumulator.identity = ProducerIdAndEpoch(answer.response.producer_id, answer.response.producer_epoch)
        else:
            await asyncio.sleep(backoff_s(3, self._cluster.chance))

    # --- sending -----------------------------------------------------------------------------------------------------

    async def _pump(self, broker: BrokerId) -> None:
        slots = self._slots.setdefault(broker, asyncio.Semaphore(self._max_in_flight))
        while True:
            await slots.acquire()
            sent = False
            batches: list[ProducerBatch] = []
            try:
                connection = await self._cluster.connection(broker, "main")
                batches = self._drain(broker)
                self._carried.update(batch.number for batch in batches)
                if not batches:
                    return
                if self._acks == ACKS_NONE:
                    await self._send_unanswered(connection, batches)
                else:
                    await self._send(broker, connection, batches, slots)
                    sent = True
            except ConnectionLost:
                await self._refresh()
                return
            except Exception as bug:
                self._fail_for_bug(batches, bug)
                raise
            finally:
                if not sent:
                    self._put_down(batches)
                    slots.release()

    def _drain(self, broker: BrokerId) -> list[ProducerBatch]:
        def leads(target: TopicIdPartition) -> bool:
            leader = self._cluster.leader(*target)
            return leader is not None and leader.broker == broker

        try:
            return self._accumulator.drain(self._cluster.clock.monotonic(), REQUEST_BYTES_MAX, leads)
        except Exception as bug:
            # What was taken before it went wrong is in flight by the books, and nobody has it in hand.
            stranded = [batch for batch in self._accumulator.in_flight if batch.number not in self._carried]
            self._fail_for_bug(stranded, bug)
            raise

    def _put_down(self, batches: list[ProducerBatch]) -> None:
        self._carried.difference_update(batch.number for batch in batches)

    def _fail_for_bug(self, batches: list[ProducerBatch], bug: Exception) -> None:
        """Whatever went wrong, nobody may wait for these for ever; and only these fail."""
        for batch in batches:
            self._accumulator.give_up(batch)
            self._on_failed(batch, unsent(self._shown(batch.target), bug))

    def _request(self, batches: list[ProducerBatch]) -> ProduceRequest:
        return ProduceRequest(
            self._acks,
            int(self._request_timeout_s * 1000),
            tuple(ProducePartition(b.target.topic_id, b.target.partition, len(b.encoded())) for b in batches),
        )

    async def _send_unanswered(self, connection: Connection, batches: list[ProducerBatch]) -> None:
        try:
            async with asyncio.timeout(self._request_timeout_s):
                await connection.send_unanswered(self._request(batches), [batch.encoded() for batch in batches])
        except (ConnectionLost, TimeoutError) as error:
            self._cluster.drop(connection)
            lost = ConnectionLost(f"{connection.address}: {error or 'too slow'}")
            for batch in batches:
                if self._accumulator.give_up(batch):
                    self._on_failed(batch, lost)
            raise lost from error
        for batch in batches:
            if self._accumulator.succeeded(batch):
                self._on_stored(batch, None, None)

    async def _send(
        self, broker: BrokerId, connection: Connection, batches: list[ProducerBatch], slots: asyncio.Semaphore
    ) -> None:
        """Write the request, in this pump's order; its answer is waited for elsewhere."""
        writing = begin(connection.send(self._request(batches), [batch.encoded() for batch in batches]))
        task = self._jobs.start(f"answer-{broker}", self._see_through(broker, connection, batches, writing))
        task.add_done_callback(lambda _: self._put_down(batches))
        task.add_done_callback(lambda _: slots.release())
        await asyncio.wait([writing], timeout=self._request_timeout_s)

    async def _see_through(
        self, broker: BrokerId, connection: Connection, batches: list[ProducerBatch], writing: Writing
    ) -> None:
        try:
            await self._answer(broker, connection, batches, writing)
        except Exception as bug:
            self._fail_for_bug(batches, bug)
            raise

    async def _answer(
        self,
        broker: BrokerId,
        connection: Connection,
        batches: list[ProducerBatch],
        writing: Writing,
    ) -> None:
        try:
            answer = await answer_from_leader(
                self._cluster,
                broker,
                connection,
                writing,
                [batch.target for batch in batches],
                due_s=0.0,
                timeout_s=self._request_timeout_s + GRACE_S,
            )
            response = answer.message
        except ConnectionLost as lost:
            self._failed(batches, ErrorCode.REQUEST_TIMED_OUT, str(lost))
            await self._try_refresh()
            return
        if isinstance(response, ErrorResponse):
            self._failed(batches, response.error, response.message)
        elif not isinstance(response, ProduceResponse) or len(response.partitions) != len(batches):
            self._failed(batches, ErrorCode.UNKNOWN_SERVER_ERROR, "the broker's answer is not one to this request.")
        else:
            await self._settle(broker, batches, response.partitions)

    # --- outcomes ----------------------------------------------------------------------------------------------------

    async def _settle(self, broker: BrokerId, batches: list[ProducerBatch], results: tuple[ProduceResult, ...]) -> None:
        stale = False
        for batch, result in zip(batches, results, strict=True):
            if result.error is ErrorCode.NONE:
                self._problems.pop(batch.target, None)
                if self._accumulator.succeeded(batch):
                    self._on_stored(batch, result.base_offset, result.log_append_time_ms)
                continue
            self._cluster.hint(result.topic_id, result.partition, result.leader, result.leader_epoch)
            leader = self._cluster.leader(*batch.target)
            hinted = leader is not None and leader.broker != broker
            stale = stale or (not hinted and result.error not in _GAP)
            self._failed_one(batch, result.error, result.message, hinted=hinted)
        self.wake()
        if stale and await self._try_refresh():
            for batch in batches:
                self._check_topic(batch.target)

    def _failed(self, batches: list[ProducerBatch], error: ErrorCode, message: str) -> None:
        for batch in batches:
            self._failed_one(batch, error, message, hinted=False)
        self.wake()

    def _failed_one(self, batch: ProducerBatch, error: ErrorCode, message: str, *, hinted: bool) -> None:
        accumulator = self._accumulator
        pause_s = 0.0 if hinted else backoff_s(accumulator.failures(batch.target), self._cluster.chance)
        until_s = self._cluster.clock.monotonic() + pause_s
        self._problems[batch.target] = f"{error.stable_code}: {message.rstrip('.') or error.name}"
        if error in _GAP:
            if accumulator.refused_for_gap(batch, until_s=until_s):
                return
        elif error.retriable:
            accumulator.retry(batch, maybe_stored=error not in _NEVER_STORED, until_s=until_s)
            return
        if accumulator.give_up(batch):
            self._on_failed(batch, error_for(error, f"{self._shown(batch.target)}: {message or error.name}"))

    def _check_topic(self, target: TopicIdPartition) -> None:
        """Fresh metadata decides whether a topic is no more: it never looks back."""
        name = self._topic_name(target)
        known = self._cluster.known_topic(name)
        if known is not None and known.topic_id == target.topic_id:
            return
        gone = TopicNotFound(f"the topic {name} was deleted.", code=ErrorCode.UNKNOWN_TOPIC_ID.stable_code)
        for batch in self._accumulator.give_up_partition(target):
            self._on_failed(batch, gone)

    async def close(self, error: OttlaError) -> None:
        """Stop; what is not resolved yet fails with ``error``."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        await self._jobs.close()
        for batch in self._accumulator.give_up_all():
            self._on_failed(batch, error)


def unsent(target: str, bug: Exception) -> OttlaError:
    """For whoever waits for a record that met an error nobody foresaw."""
    error = OttlaError(
        f"{target}: sending failed unexpectedly; the record may or may not be stored: {bug!r}.",
        code="OTTLA-SEND-FAILED",
    )
    error.__cause__ = bug
    return error
