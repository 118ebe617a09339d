"""The simulated world itself: what is cut does not arrive, what is stopped waits, what is killed never wakes."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from .loop import SimulatedLoop, SimulationStuck
from .network import FakeSocket
from .patches import assert_undone, simulated_world
from .world import SimulatedCluster, Violation, simulate

ADDRESS = ("10.0.0.9", 80)


def play(story: Callable[[SimulatedLoop], Awaitable[Any]]) -> Any:
    loop = SimulatedLoop(5)
    loop.network.hosts = {"10.0.0.9": "server", "10.0.0.8": "client"}
    loop.network.loss = 0.0
    try:
        with simulated_world(loop, 5, lambda process: 0.0):
            return loop.run_until_complete(loop.spawn("", story(loop)))  # type: ignore[arg-type]
    finally:
        loop.bury()


class Recorder(asyncio.Protocol):
    """Remembers what happened to it, and when."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self.loop = loop
        self.events: list[tuple[Any, float]] = []
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.events.append((data, self.loop.now))

    def connection_lost(self, error: Exception | None) -> None:
        self.events.append((type(error).__name__, self.loop.now))

    @property
    def what(self) -> list[Any]:
        return [what for what, _ in self.events]


async def pair(loop: SimulatedLoop) -> tuple[Recorder, Recorder]:
    """A connection from ``client#1`` to ``server#1``."""
    accepted = Recorder(loop)

    async def serve() -> None:
        await loop.create_server(lambda: accepted, *ADDRESS)

    async def call() -> Recorder:
        _, protocol = await loop.create_connection(lambda: Recorder(loop), *ADDRESS)
        return protocol

    await loop.spawn("server#1", serve())
    caller = await loop.spawn("client#1", call())
    await asyncio.sleep(0.01)
    return caller, accepted


def test_bytes_arrive_in_order_and_later() -> None:
    async def story(loop: SimulatedLoop) -> None:
        caller, accepted = await pair(loop)
        sent_at = loop.now
        for number in range(50):
            caller.transport.write(b"%d," % number)
        await asyncio.sleep(1)
        assert b"".join(accepted.what) == b"".join(b"%d," % number for number in range(50))
        assert accepted.events[0][1] > sent_at

    play(story)


def test_a_cut_direction_holds_what_is_sent_and_the_other_does_not() -> None:
    async def story(loop: SimulatedLoop) -> None:
        caller, accepted = await pair(loop)
        loop.network.cut({("client", "server")})
        caller.transport.write(b"there")
        accepted.transport.write(b"back")
        await asyncio.sleep(1)
        assert (caller.what, accepted.what) == ([b"back"], [])
        loop.network.heal()
        await asyncio.sleep(1)
        assert accepted.what == [b"there"]

    play(story)


def test_a_stopped_process_takes_everything_in_order_when_it_goes_on() -> None:
    async def story(loop: SimulatedLoop) -> None:
        caller, accepted = await pair(loop)
        loop.stop_process("server#1")
        caller.transport.write(b"one")
        await asyncio.sleep(1)
        caller.transport.write(b"two")
        await asyncio.sleep(1)
        assert accepted.what == []
        loop.continue_process("server#1")
        await asyncio.sleep(1)
        assert b"".join(accepted.what) == b"onetwo"

    play(story)


def test_a_killed_process_never_wakes_and_its_peer_is_reset() -> None:
    woken: list[str] = []

    async def sleeper() -> None:
        try:
            await asyncio.sleep(1)
        finally:
            woken.append("finally")

    async def story(loop: SimulatedLoop) -> None:
        caller, accepted = await pair(loop)
        loop.spawn("server#1", sleeper())
        await asyncio.sleep(0)
        loop.kill("server#1")
        loop.network.process_died("server#1")
        await asyncio.sleep(5)
        assert caller.what == ["ConnectionResetError"]
        assert accepted.what == []
        assert not woken
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(asyncio.Protocol, *ADDRESS)

    play(story)


def test_without_power_nobody_is_told_until_it_is_back() -> None:
    async def story(loop: SimulatedLoop) -> None:
        caller, _ = await pair(loop)
        loop.kill("server#1")
        loop.network.power_off("server")
        loop.network.process_died("server#1")
        caller.transport.write(b"anybody?")
        await asyncio.sleep(5)
        assert caller.what == []
        loop.network.power_on("server")
        await asyncio.sleep(1)
        assert caller.what == ["ConnectionResetError"]

    play(story)


def test_a_sender_is_held_back_while_nobody_reads() -> None:
    async def story(loop: SimulatedLoop) -> None:
        caller, accepted = await pair(loop)
        paused: list[bool] = []
        caller.pause_writing = lambda: paused.append(True)  # type: ignore[method-assign]
        caller.resume_writing = lambda: paused.append(False)  # type: ignore[method-assign]
        accepted.transport.pause_reading()
        caller.transport.write(bytes(300 << 10))
        await asyncio.sleep(1)
        assert paused == [True]
        accepted.transport.resume_reading()
        await asyncio.sleep(1)
        assert paused == [True, False]

    play(story)


def test_time_costs_nothing_and_libraries_see_it() -> None:
    async def story(loop: SimulatedLoop) -> float:
        before = time.monotonic()
        await asyncio.sleep(3600)
        return time.monotonic() - before

    assert play(story) == pytest.approx(3600)
    assert_undone()


def test_a_run_in_which_nothing_can_happen_any_more_ends() -> None:
    async def story(loop: SimulatedLoop) -> None:
        await loop.create_future()

    with pytest.raises(SimulationStuck):
        play(story)


def test_what_a_story_raises_is_its_outcome_and_everything_is_undone() -> None:
    async def story(cluster: SimulatedCluster) -> None:
        cluster.start("b1")
        await cluster.until_ready(2)

    outcome = simulate(1, story)
    assert isinstance(outcome.error, Violation)
    assert "not ready within 2 s" in str(outcome.error)
    assert_undone()


def test_an_executor_does_one_thing_at_a_time() -> None:
    async def story(loop: SimulatedLoop) -> None:
        done: list[int] = []
        worker = FakeSocket(ADDRESS)  # anything that is one thing
        await asyncio.gather(*(loop.run_in_executor(worker, done.append, number) for number in range(20)))
        assert done == list(range(20))

    play(story)
