"""What libraries read of the world without asking the loop, replaced for the duration of a run.

Product code goes through its doors; this is for aiohttp and the standard library: ``time.*`` (also where a module has
copied the function's name), ``random``, ``os.urandom``, ``uuid.uuid4``, aiohttp's WebSocket masks and the happy
eyeballs, which open real sockets.
"""

import logging
import os
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import aiohttp.connector
import structlog
from aiohttp._websocket.writer import WebSocketWriter

from .loop import PROCESS, SimulatedLoop
from .network import FakeSocket

EPOCH_S = 1_700_000_000.0
_REAL = {name: getattr(time, name) for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter")}
_REAL_URANDOM = os.urandom


@contextmanager
def simulated_world(loop: SimulatedLoop, seed: int, skew_s: Callable[[str], float]) -> Iterator[None]:
    """Inside, libraries see virtual time and seeded randomness. ``skew_s``: how far a process's wall clock is off."""
    generator = random.Random(f"libraries {seed}")
    state = random.getstate()

    def uuid4() -> uuid.UUID:
        return uuid.UUID(bytes=generator.randbytes(16), version=4)

    fakes = _fakes(loop, generator, skew_s)
    with ExitStack() as stack:
        for module, name, real in _copies():
            stack.enter_context(mock.patch.object(module, name, fakes[real]))
        stack.enter_context(mock.patch.object(uuid, "uuid4", uuid4))
        stack.enter_context(mock.patch.object(aiohttp.connector, "aiohappyeyeballs", _one_address_at_a_time()))
        stack.enter_context(_seeded_masks(generator))
        stack.enter_context(_logs_into(loop))
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(state)
    assert_undone()


def assert_undone() -> None:
    """Nobody's clock or randomness is ours any more."""
    for name, real in _REAL.items():
        assert getattr(time, name) is real, f"time.{name} is still simulated"
    assert os.urandom is _REAL_URANDOM
    assert random._urandom is _REAL_URANDOM  # type: ignore[attr-defined]
    assert aiohttp.connector.monotonic is _REAL["monotonic"]
    assert not isinstance(aiohttp.connector.aiohappyeyeballs, SimpleNamespace)


def _fakes(loop: SimulatedLoop, generator: random.Random, skew_s: Callable[[str], float]) -> dict[Any, Any]:
    def wall() -> float:
        return EPOCH_S + loop.now + skew_s(PROCESS.get())

    return {
        _REAL["time"]: wall,
        _REAL["time_ns"]: lambda: int(wall() * 1e9),
        _REAL["monotonic"]: loop.time,
        _REAL["monotonic_ns"]: lambda: int(loop.now * 1e9),
        _REAL["perf_counter"]: loop.time,
        _REAL_URANDOM: generator.randbytes,
    }


def _copies() -> list[tuple[Any, str, Any]]:
    """Every module that holds one of the real functions, under whatever name."""
    wanted = {id(real): real for real in [*_REAL.values(), _REAL_URANDOM]}
    found = []
    for module in list(sys.modules.values()):
        if module is None or getattr(module, "__name__", "").startswith(("tests.simulation", "_pytest", "pytest")):
            continue
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if id(value) in wanted and isinstance(name, str):
                found.append((module, name, wanted[id(value)]))
    return found


def _one_address_at_a_time() -> SimpleNamespace:
    async def start_connection(*, addr_infos: Any, **_: Any) -> FakeSocket:
        return FakeSocket(addr_infos[0][4])

    return SimpleNamespace(
        addr_to_addr_infos=lambda address: None,
        start_connection=start_connection,
        pop_addr_infos_interleave=lambda addr_infos, interleave=None: addr_infos.pop(0),
        remove_addr_infos=lambda addr_infos, address: addr_infos.clear(),
    )


@contextmanager
def _seeded_masks(generator: random.Random) -> Iterator[None]:
    defaults = WebSocketWriter.__init__.__kwdefaults__
    assert isinstance(defaults["random"], random.Random), "aiohttp's masks come from elsewhere now"
    with mock.patch.dict(defaults, random=generator):
        yield


class _ToTrace(logging.Handler):
    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self._loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        if not self._loop.over:
            text = f"{record.name}: {record.getMessage()}"
            if record.exc_info and record.exc_info[1] is not None:
                text += f" ({record.exc_info[1]!r})"
            self._loop.trace.note(PROCESS.get(), record.levelname, text)


@contextmanager
def _logs_into(loop: SimulatedLoop) -> Iterator[None]:
    """Every log line of every process becomes a note of the trace."""

    def note(_: Any, level: str, event: dict[str, Any]) -> Any:
        name = event.pop("event", "")
        error = sys.exc_info()[1] if event.pop("exc_info", None) or level == "exception" else None
        fields = " ".join(f"{key}={value}" for key, value in event.items())
        if not loop.over:
            loop.trace.note(PROCESS.get(), level.upper(), name, fields, "" if error is None else repr(error))
        raise structlog.DropEvent

    was_configured, configured = structlog.is_configured(), structlog.get_config()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    structlog.configure(processors=[note], wrapper_class=structlog.BoundLogger, cache_logger_on_first_use=False)
    root.handlers[:] = [_ToTrace(loop)]
    root.setLevel(logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        if was_configured:
            structlog.configure(**configured)
        else:  # nobody had decided, and a cluster for tests asks for that
            structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.getLogger("asyncio").setLevel(logging.NOTSET)
