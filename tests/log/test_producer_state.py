"""Idempotence: what is a duplicate, what is out of order, and what is forgotten when."""

from collections import deque

import pytest
from hypothesis import given, settings, strategies as st

from ottla.log.errors import InvalidProducerEpoch, LogError, OutOfOrderSequence, UnknownProducerId
from ottla.log.model import Offset
from ottla.log.producer_state import Duplicate, ProducerStateManager
from ottla.log.records import RecordBatch
from tests.log.builders import NOW_MS, batch

TOP = (1 << 31) - 1


def of(producer: int, epoch: int, sequence: int, count: int = 1, offset: int = 0) -> RecordBatch:
    return RecordBatch.parse(batch(count, producer=(producer, epoch, sequence), base_offset=offset))


def after(*batches: RecordBatch) -> ProducerStateManager:
    state = ProducerStateManager()
    for one in batches:
        state.update(one, NOW_MS)
    return state


def test_without_a_producer_there_is_nothing_to_check() -> None:
    assert ProducerStateManager().check(RecordBatch.parse(batch())) is None


def test_a_new_producer_starts_at_zero() -> None:
    assert ProducerStateManager().check(of(1, 5, 0)) is None
    with pytest.raises(UnknownProducerId):
        ProducerStateManager().check(of(1, 0, 1))


def test_the_last_five_are_duplicates_and_the_sixth_is_not() -> None:
    state = after(*(of(1, 0, 2 * n, 2, offset=100 + 10 * n) for n in range(6)))
    for n in range(1, 6):
        assert state.check(of(1, 0, 2 * n, 2)) == Duplicate(Offset(100 + 10 * n), Offset(101 + 10 * n), NOW_MS)
    with pytest.raises(OutOfOrderSequence):
        state.check(of(1, 0, 0, 2))
    assert state.check(of(1, 0, 12)) is None


@pytest.mark.parametrize(("sequence", "count"), [(2, 1), (5, 1), (0, 2), (1, 2), (1, 3)])
def test_gaps_and_overlaps(sequence: int, count: int) -> None:
    state = after(of(1, 0, 0), of(1, 0, 1))
    if (sequence, count) == (2, 1):
        assert state.check(of(1, 0, sequence, count)) is None
    else:
        with pytest.raises(OutOfOrderSequence):
            state.check(of(1, 0, sequence, count))


def test_epochs() -> None:
    state = after(of(1, 3, 0), of(1, 3, 1))
    with pytest.raises(InvalidProducerEpoch):
        state.check(of(1, 2, 2))
    with pytest.raises(OutOfOrderSequence):
        state.check(of(1, 4, 2))
    assert state.check(of(1, 4, 0)) is None
    state.update(of(1, 4, 0, offset=9), NOW_MS)
    assert state.check(of(1, 4, 0)) == Duplicate(Offset(9), Offset(9), NOW_MS)
    with pytest.raises(OutOfOrderSequence):
        state.check(of(1, 4, 2))
    with pytest.raises(InvalidProducerEpoch):
        state.check(of(1, 3, 1))


@pytest.mark.parametrize(("sequence", "count", "following"), [(TOP - 1, 2, 0), (TOP - 1, 3, 1), (TOP, 1, 0)])
def test_sequences_wrap(sequence: int, count: int, following: int) -> None:
    state = after(of(1, 0, sequence, count))
    assert state.check(of(1, 0, following)) is None
    assert state.check(of(1, 0, sequence, count)) is not None
    with pytest.raises(OutOfOrderSequence):
        state.check(of(1, 0, following + 1))


def test_a_follower_takes_what_the_leader_stored() -> None:
    state = after(of(1, 3, 7), of(1, 2, 90), of(1, 5, 4))
    assert state.check(of(1, 5, 5)) is None


def test_silent_producers_are_forgotten() -> None:
    state = ProducerStateManager(expiration_ms=1000)
    state.update(of(1, 0, 0), NOW_MS)
    state.update(of(2, 0, 0), NOW_MS + 900)
    state.update(of(3, 0, 0), NOW_MS + 1001)
    assert len(state) == 2
    with pytest.raises(UnknownProducerId):
        state.check(of(1, 0, 1))
    assert state.check(of(2, 0, 1)) is None


def test_who_may_be_forgotten_goes_on_where_it_is() -> None:
    state = ProducerStateManager()
    assert state.check(of(1, 5, 7), may_be_forgotten=True) is None
    state.update(of(1, 5, 7), NOW_MS)
    with pytest.raises(OutOfOrderSequence):
        state.check(of(1, 5, 9), may_be_forgotten=True)
    with pytest.raises(OutOfOrderSequence):
        state.check(of(1, 6, 1), may_be_forgotten=True)


def test_producers_are_bounded_and_the_longest_silent_goes() -> None:
    state = ProducerStateManager(producers_max=3)
    for producer in (1, 2, 3):
        state.update(of(producer, 0, 0), NOW_MS)
    state.update(of(1, 0, 1), NOW_MS)
    state.update(of(4, 0, 0), NOW_MS)
    assert len(state) == 3
    assert state.check(of(1, 0, 2)) is None
    with pytest.raises(UnknownProducerId):
        state.check(of(2, 0, 1))


class Model:
    """One producer as the rules say, in the plainest way."""

    def __init__(self) -> None:
        self.epoch = -1
        self.stored: deque[tuple[int, int]] = deque(maxlen=5)
        self.next = 0

    def verdict(self, epoch: int, sequence: int, count: int) -> str:
        if self.epoch < 0:
            return "append" if sequence == 0 else "UNKNOWN_PRODUCER_ID"
        if epoch < self.epoch:
            return "INVALID_PRODUCER_EPOCH"
        if epoch > self.epoch:
            return "append" if sequence == 0 else "OUT_OF_ORDER_SEQUENCE_NUMBER"
        if (sequence, count) in self.stored:
            return "duplicate"
        return "append" if sequence == self.next else "OUT_OF_ORDER_SEQUENCE_NUMBER"

    def append(self, epoch: int, sequence: int, count: int) -> None:
        if epoch != self.epoch:
            self.stored.clear()
        self.epoch = epoch
        self.stored.append((sequence, count))
        self.next = sequence + count


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([-6, -3, -2, -1, 0, 0, 0, 0, 1, None]), st.integers(1, 2)),
        max_size=40,
    )
)
@settings(deadline=None, max_examples=150)
def test_against_the_model(attempts: list[tuple[int, int | None, int]]) -> None:
    state, model = ProducerStateManager(), Model()
    for number, (epoch, step, count) in enumerate(attempts):
        sequence = 0 if step is None else max(0, model.next + step)
        attempt = of(1, epoch, sequence, count, offset=number * 10)
        try:
            verdict = "append" if state.check(attempt) is None else "duplicate"
        except LogError as error:
            verdict = error.code
        assert verdict == model.verdict(epoch, sequence, count)
        if verdict == "append":
            state.update(attempt, NOW_MS)
            model.append(epoch, sequence, count)
