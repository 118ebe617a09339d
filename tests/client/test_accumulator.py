"""Order and exactly-once, whatever the brokers answer."""

import random

import pytest
from hypothesis import given, settings, strategies as st

from ottla.client.accumulator import Accumulator
from ottla.client.batch import Batch, Limits
from ottla.client.errors import BufferFull
from ottla.log.errors import LogError, OutOfOrderSequence, UnknownProducerId
from ottla.log.model import Offset, ProducerEpoch, ProducerId, ProducerIdAndEpoch, TopicId, TopicIdPartition
from ottla.log.producer_state import ProducerStateManager
from ottla.log.records import RecordBatch

P0 = TopicIdPartition(TopicId("t"), 0)
P1 = TopicIdPartition(TopicId("t"), 1)


def limits(**changes: object) -> Limits:
    values = {
        "batch_bytes": 110,
        "buffer_bytes": 1 << 20,
        "linger_s": 0.0,
        "delivery_timeout_s": 100.0,
        "in_flight_max": 5,
        "idempotent": True,
    }
    return Limits(**(values | changes))  # type: ignore[arg-type]


def add(accumulator: Accumulator[int], target: TopicIdPartition, number: int, now_s: float = 0.0) -> bool:
    value = b"%d" % number
    return accumulator.append(target, None, value, (), 1, number, size=len(value), now_s=now_s, batch_bytes_max=1 << 20)


def drain(accumulator: Accumulator[int], now_s: float = 0.0) -> list[Batch[int]]:
    return accumulator.drain(now_s, 4 << 20, lambda _: True)


def identified(**changes: object) -> Accumulator[int]:
    accumulator: Accumulator[int] = Accumulator(limits(**changes))
    accumulator.identity = ProducerIdAndEpoch(ProducerId(1), ProducerEpoch(0))
    return accumulator


class Log:
    """A partition as the brokers keep it."""

    def __init__(self) -> None:
        self.values: list[int] = []
        self.producers = ProducerStateManager()

    def append(self, data: bytes) -> LogError | None:
        batch = RecordBatch.parse(data)
        try:
            if self.producers.check(batch) is not None:
                return None
        except LogError as error:
            return error
        batch.base_offset = Offset(len(self.values))
        self.values += [int(record.value or b"") for record in batch.records()]
        self.producers.update(batch, 0)
        return None


def test_batches_linger_for_company_and_leave_when_full() -> None:
    accumulator = identified(linger_s=5.0)
    assert add(accumulator, P0, 1)
    assert not add(accumulator, P0, 2)
    assert drain(accumulator, 4.9) == []
    assert accumulator.next_event_s(1.0) == 5.0
    (batch,) = drain(accumulator, 5.0)
    assert batch.waiters == [1, 2]
    for number in range(5):
        add(accumulator, P0, number, 6.0)
    assert len(drain(accumulator, 6.0)) == 1  # full before its time


def test_a_flush_does_not_wait_for_company() -> None:
    accumulator = identified(linger_s=5.0)
    add(accumulator, P0, 1)
    number = accumulator.flush()
    assert not accumulator.is_flushed(number)
    (batch,) = drain(accumulator)
    accumulator.succeeded(batch)
    assert accumulator.is_flushed(number)


def test_nothing_is_sent_without_a_producer_id() -> None:
    accumulator: Accumulator[int] = Accumulator(limits())
    assert not accumulator.needs_identity
    add(accumulator, P0, 1)
    assert accumulator.needs_identity
    assert drain(accumulator) == []


def test_at_most_five_batches_are_in_flight_and_their_sequences_run_on() -> None:
    accumulator = identified()
    for number in range(40):
        add(accumulator, P0, number)
    sent = [batch for _ in range(10) for batch in drain(accumulator)]
    assert len(sent) == 5
    due = 0
    for batch in sent:
        assert batch.sequence == due
        due += batch.record_count


def test_nothing_is_sent_that_would_push_an_unanswered_batch_out_of_what_a_broker_remembers() -> None:
    """The first answer hangs at a leader that was deposed; the next leader has the batch and takes all that follow."""
    accumulator, broker = identified(batch_bytes=1), Log()
    for number in range(9):
        add(accumulator, P0, number)
    (first,) = drain(accumulator)
    assert broker.append(first.encoded()) is None
    for _ in range(4):
        (later,) = drain(accumulator)
        assert broker.append(later.encoded()) is None
        assert accumulator.succeeded(later)
    assert not drain(accumulator)
    accumulator.retry(first, maybe_stored=True, until_s=0.0)
    assert drain(accumulator) == [first]
    assert broker.append(first.encoded()) is None
    assert broker.values == [0, 1, 2, 3, 4]
    assert accumulator.succeeded(first)
    assert len(drain(accumulator)) == 1


def test_a_retry_keeps_its_sequence_and_goes_before_anything_new_one_at_a_time() -> None:
    accumulator = identified()
    for number in range(12):
        add(accumulator, P0, number)
    first, second, third = (drain(accumulator)[0] for _ in range(3))
    before = first.encoded()
    accumulator.retry(first, maybe_stored=True, until_s=1.0)
    assert drain(accumulator, 2.0) == []  # the two behind it are still on their way
    assert accumulator.refused_for_gap(second, until_s=0.0)
    assert accumulator.refused_for_gap(third, until_s=0.0)
    assert drain(accumulator, 0.5) == []  # backing off
    assert drain(accumulator, 1.0) == [first]
    assert first.encoded() == before
    assert drain(accumulator, 1.0) == []
    accumulator.succeeded(first)
    assert drain(accumulator, 1.0) == [second]


def test_a_batch_given_up_makes_the_next_start_anew_under_another_id() -> None:
    accumulator = identified()
    for number in range(8):
        add(accumulator, P0, number)
    add(accumulator, P1, 100)
    first = next(batch for batch in drain(accumulator) if batch.target == P0)
    (second,) = drain(accumulator)
    assert accumulator.give_up(first)
    add(accumulator, P0, 9)
    assert not accumulator.needs_identity  # the second may still be resolved under the old id
    assert accumulator.refused_for_gap(second, until_s=0.0)
    assert accumulator.needs_identity
    assert drain(accumulator) == []
    accumulator.identity = ProducerIdAndEpoch(ProducerId(2), ProducerEpoch(0))
    (again,) = drain(accumulator)
    assert again is second
    assert (again.identity, again.sequence) == (accumulator.identity, 0)
    parsed = RecordBatch.parse(again.encoded())
    assert (parsed.producer_id, parsed.base_sequence) == (2, 0)


def test_a_batch_that_may_be_stored_never_moves_to_another_id() -> None:
    accumulator = identified()
    for number in range(8):
        add(accumulator, P0, number)
    (first,), (second,) = drain(accumulator), drain(accumulator)
    accumulator.retry(second, maybe_stored=True, until_s=0.0)
    accumulator.give_up(first)
    assert drain(accumulator) == [second]
    assert not accumulator.refused_for_gap(second, until_s=0.0)
    assert accumulator.give_up(second)


def test_old_batches_expire_also_in_flight_and_late_answers_are_nothing() -> None:
    accumulator = identified(delivery_timeout_s=10.0)
    add(accumulator, P0, 1)
    (batch,) = drain(accumulator)
    assert accumulator.next_event_s(0.0) == 10.0
    assert accumulator.expire(9.9) == []
    assert accumulator.expire(10.0) == [batch]
    assert not accumulator.succeeded(batch)
    assert accumulator.buffered_bytes == 0


def test_the_buffer_is_bounded_and_a_refused_record_changes_nothing() -> None:
    accumulator = identified(buffer_bytes=1_000)
    count = 0
    while accumulator.buffered_bytes + 97 <= 1_000:
        add(accumulator, P0, 0)
        count += 1
    with pytest.raises(BufferFull):
        add(accumulator, P0, 0)
    held = accumulator.buffered_bytes
    assert held <= 1_000
    assert 5 < count < 12
    (batch,) = drain(accumulator)
    accumulator.succeeded(batch)
    assert accumulator.buffered_bytes < held
    add(accumulator, P0, 7)


def test_without_idempotence_a_partition_has_one_batch_in_flight_so_that_retries_keep_order() -> None:
    accumulator: Accumulator[int] = Accumulator(limits(idempotent=False, in_flight_max=1))
    for number in range(8):
        add(accumulator, P0, number)
    (first,) = drain(accumulator)
    assert drain(accumulator) == []
    accumulator.retry(first, maybe_stored=True, until_s=0.0)
    assert drain(accumulator) == [first]


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 1 << 32), linger_s=st.sampled_from([0.0, 0.3]), delivery_timeout_s=st.sampled_from([3.0, 1e9])
)
def test_every_record_is_stored_once_and_in_order_whatever_happens(
    seed: int, linger_s: float, delivery_timeout_s: float
) -> None:
    """Answers come late, in any order, or not at all; batches are refused before or after they are stored. A record
    said to be stored is stored once; one given up at most once; and those stored are in the order sent."""
    chance = random.Random(seed)
    accumulator = identified(linger_s=linger_s, delivery_timeout_s=delivery_timeout_s)
    logs = {P0: Log(), P1: Log()}
    flying: dict[TopicIdPartition, list[tuple[Batch[int], bytes]]] = {P0: [], P1: []}
    stored: list[int] = []
    failed: list[int] = []
    now_s, appended, next_id = 0.0, 0, 2

    def failed_batch(batch: Batch[int]) -> None:
        failed.extend(batch.waiters)

    def deliver(target: TopicIdPartition, calm: bool) -> None:
        batch, data = flying[target].pop(0)  # a stream keeps order
        outcome = 0 if calm else chance.randrange(6)
        if outcome == 1:  # refused before the append
            accumulator.retry(batch, maybe_stored=False, until_s=now_s + chance.random())
            return
        if outcome == 2:  # lost on the way there
            accumulator.retry(batch, maybe_stored=True, until_s=now_s + chance.random())
            return
        refusal = logs[target].append(data)
        if outcome == 3:  # lost on the way back
            accumulator.retry(batch, maybe_stored=True, until_s=now_s + chance.random())
        elif isinstance(refusal, OutOfOrderSequence | UnknownProducerId):
            if not accumulator.refused_for_gap(batch, until_s=now_s) and accumulator.give_up(batch):
                failed_batch(batch)
        else:
            assert refusal is None
            if accumulator.succeeded(batch):
                stored.extend(batch.waiters)

    for step in range(400):
        calm = step >= 150
        now_s += 0.2 * chance.random()
        if not calm:
            for _ in range(chance.randrange(4)):
                add(accumulator, chance.choice((P0, P1)), appended, now_s)
                appended += 1
        for batch in accumulator.expire(now_s):
            failed_batch(batch)
        if accumulator.needs_identity and chance.random() < 0.7:
            accumulator.identity = ProducerIdAndEpoch(ProducerId(next_id), ProducerEpoch(0))
            next_id += 1
        for batch in drain(accumulator, now_s):
            flying[batch.target].append((batch, batch.encoded()))
        for target in (P0, P1):
            while flying[target] and (calm or chance.random() < 0.5):
                deliver(target, calm)

    assert sorted(stored + failed) == list(range(appended))
    assert accumulator.buffered_bytes == 0
    if delivery_timeout_s == 1e9:
        assert not failed
    kept = logs[P0].values + logs[P1].values
    assert len(kept) == len(set(kept))
    assert set(stored) <= set(kept)
    for log in logs.values():
        assert log.values == sorted(log.values)
