"""Waiting acknowledgements come out in offset order, once."""

from hypothesis import given, strategies as st

from ottla.broker.purgatory import AckQueue
from ottla.log.model import Offset


@given(
    st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=60),
)
def test_release_is_exactly_what_a_scan_would_find(steps):
    queue: AckQueue[tuple[int, int]] = AckQueue()
    model: list[tuple[int, int]] = []
    for number, (offset, add) in enumerate(steps):
        if add:
            queue.add(Offset(offset), (offset, number))
            model.append((offset, number))
        else:
            released = queue.release(Offset(offset))
            assert sorted(released) == sorted(w for w in model if w[0] <= offset)
            assert [w[0] for w in released] == sorted(w[0] for w in released)
            model = [w for w in model if w[0] > offset]
    assert sorted(queue.drain()) == sorted(model)
    assert not len(queue)


def test_one_that_gave_up_is_forgotten():
    queue: AckQueue[str] = AckQueue()
    queue.add(Offset(1), "a")
    queue.add(Offset(2), "b")
    queue.discard("a")
    assert queue.release(Offset(5)) == ["b"]
