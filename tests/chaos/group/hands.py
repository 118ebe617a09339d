"""How a member runs: as a process of the simulated world, or as a real one. Each is hired once, and ends once."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from tests.simulation.loop import SimulatedLoop

from .member import live
from .told import Order, Told

ROOT = Path(__file__).parents[3]
END_S_MAX = 20.0

Hear = Callable[[Told], None]


class Hand(Protocol):
    """A member that runs. ``ended``: it left, was killed, or fell over; ``failure`` says so of the last."""

    ended: asyncio.Event
    failure: str | None

    def stop(self) -> None:
        """Let it commit and leave."""

    def kill(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class SimulatedHand:
    """On a host of its own, ``m7``."""

    def __init__(self, loop: SimulatedLoop, order: Order, hear: Hear) -> None:
        self.ended = asyncio.Event()
        self.failure: str | None = None
        self._loop = loop
        self._process = self.host = f"m{order.number}"
        self._stopping = asyncio.Event()
        loop.trace.record("member", self._process, order.protocol, shown=True)
        self._task = loop.spawn(self._process, live(order, hear, self._stopping))
        self._task.add_done_callback(self._over)

    def _over(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failure = f"{self._process}: {error!r}"
        self._end()

    def _end(self) -> None:
        self._loop.trace.record("member gone", self._process, shown=True)
        self._loop.kill(self._process)
        self._loop.network.process_died(self._process)
        self.ended.set()

    def stop(self) -> None:
        self._stopping.set()

    def kill(self) -> None:
        self._loop.trace.record("member killed", self._process, shown=True)
        self._end()

    def pause(self) -> None:
        self._loop.trace.record("member paused", self._process, shown=True)
        self._loop.stop_process(self._process)

    def resume(self) -> None:
        self._loop.continue_process(self._process)


class RealHand:
    """A process of its own. Only this one is signalled, by its id."""

    def __init__(self, process: asyncio.subprocess.Process, hear: Hear, began_ns: int) -> None:
        self.ended = asyncio.Event()
        self.failure: str | None = None
        self._process = process
        self._watching = asyncio.create_task(self._watch(hear, began_ns))
        self._expected = False

    @classmethod
    async def hire(cls, order: Order, hear: Hear, began_ns: int, log: Path) -> "RealHand":
        """``began_ns``: the run's zero on the monotonic clock."""
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.chaos.group.member", msgspec.json.encode(order).decode()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
            )
        return cls(process, hear, began_ns)

    async def _watch(self, hear: Hear, began_ns: int) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if line.endswith(b"\n"):  # not one that its death cut short
                told = msgspec.json.decode(line, type=Told)
                hear(msgspec.structs.replace(told, time_ns=told.time_ns - began_ns))
        code = await self._process.wait()
        if code and not self._expected and code != -signal.SIGTERM:  # which may come before it listens
            self.failure = f"a member ended by itself with {code}"
        self.ended.set()

    def stop(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._expected = True
        self._signal(signal.SIGKILL)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
