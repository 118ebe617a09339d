"""Deadlines: each limit is told once, when it has passed and not before, however many share the timer."""

import asyncio

from hypothesis import given, settings, strategies as st

from ottla.wire.deadlines import SLACK, Deadlines
from tests.simulation.loop import SimulatedLoop

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 40)),
        st.tuples(st.just("discard"), st.integers(0, 20)),
        st.tuples(st.just("wait"), st.integers(0, 30)),
    ),
    max_size=60,
)


def on_virtual_time(coroutine) -> None:
    loop = SimulatedLoop(0)
    try:
        loop.run_until_complete(coroutine)
    finally:
        loop.close()


@settings(deadline=None)
@given(STEPS)
def test_what_is_not_discarded_in_time_is_told_at_its_time(steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        deadlines, told, due, numbers = Deadlines(), {}, {}, []
        for what, value in steps:
            if what == "add":
                place = len(numbers)
                due[place] = loop.time() + value + 0.5
                numbers.append(deadlines.add(value + 0.5, lambda place=place: told.setdefault(place, loop.time())))
            elif what == "discard" and value < len(numbers):
                deadlines.discard(numbers[value])
                if value not in told:
                    due.pop(value, None)
            elif what == "wait":
                await asyncio.sleep(value)
        await asyncio.sleep(100)
        assert told.keys() == due.keys()
        assert all(abs(told[place] - due[place]) < 0.001 for place in due), (told, due)
        assert not len(deadlines)

    on_virtual_time(run())


def test_one_may_be_added_or_discarded_while_others_are_told() -> None:
    async def run() -> None:
        deadlines, told = Deadlines(), []
        deadlines.add(1, lambda: (told.append("first"), deadlines.discard(second), deadlines.add(1, end)))
        second = deadlines.add(1, lambda: told.append("second"))

        def end() -> None:
            told.append("third")

        await asyncio.sleep(1.5)
        assert told == ["first"]
        await asyncio.sleep(1)
        assert told == ["first", "third"]

    on_virtual_time(run())


def test_what_was_there_is_told_in_time_though_a_later_one_is_added_meanwhile() -> None:
    async def run() -> None:
        deadlines, told = Deadlines(), []
        deadlines.add(1, lambda: deadlines.add(9, lambda: told.append("late")))
        deadlines.add(2, lambda: told.append("soon"))
        await asyncio.sleep(3)
        assert told == ["soon"]

    on_virtual_time(run())


def test_what_was_discarded_does_not_pile_up() -> None:
    async def run() -> None:
        deadlines = Deadlines()
        kept = [deadlines.add(30 + number / 10, lambda: None) for number in range(100)]
        for _ in range(10_000):
            deadlines.discard(deadlines.add(20, lambda: None))
        assert len(deadlines) == len(kept)
        assert len(deadlines._heap) <= 2 * len(kept) + SLACK

    on_virtual_time(run())


def test_what_is_in_time_sets_no_timer() -> None:
    async def run() -> None:
        deadlines, timers = Deadlines(), []
        loop = asyncio.get_running_loop()
        call_at = loop.call_at
        loop.call_at = lambda *a, **k: timers.append(1) or call_at(*a, **k)  # type: ignore[method-assign]
        for _ in range(1000):
            deadlines.discard(deadlines.add(30, lambda: None))
        assert len(timers) == 1

    on_virtual_time(run())
