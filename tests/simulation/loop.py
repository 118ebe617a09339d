"""An asyncio event loop on virtual time, whose every callback belongs to a process that can be killed or stopped.

Nothing is waited for: when no callback is ready, the clock jumps to the next timer. A callback belongs to the process
named by PROCESS in its context, which tasks and timers inherit from whoever makes them. The callbacks of a killed
process never run again; those of a stopped one are kept, in order, until it goes on. A process name is used for one
incarnation only (``b2#3``), so nothing of the old ``b2`` wakes in the new one.
"""

import asyncio
import contextvars
import heapq
import itertools
import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .network import Network, host_of
from .trace import Trace

T = TypeVar("T")

PROCESS: contextvars.ContextVar[str] = contextvars.ContextVar("process", default="")
"""Which simulated process is running; "" is the world outside."""

EXECUTOR_DELAY_S = (0.000_05, 0.003)
SLOW_DISK_CHANCE = 0.01
SLOW_DISK_S = 0.2


class SimulationStuck(RuntimeError):
    """Nothing can ever happen again, and the run has not ended."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """One seed, one run. ``every`` calls a check between callbacks, each so many virtual seconds."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.now = 0.0
        self.steps = 0
        self.trace = Trace(lambda: self.now)
        self.network = Network(self, random.Random(f"network {seed}"))
        self.slow_disks: dict[str, float] = {}  # host -> seconds more at most, for whatever an executor does there
        self.slowed: Counter[str] = Counter()  # host -> executor calls that its slow disk held up
        self.problems: list[str] = []  # exceptions that nobody retrieved, of live processes
        self._chance = random.Random(f"loop {seed}")
        self._contexts: dict[str, contextvars.Context] = {}
        self._dead: set[str] = set()
        self._stopped: dict[str, list[asyncio.Handle]] = {}
        self._graveyard: list[object] = []  # what killed processes left: freed after the run, see ``bury``
        self._executor_free_at: dict[tuple[str, int], float] = defaultdict(float)
        self._executors: dict[int, int] = {}
        self._numbers = itertools.count()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []  # a heap
        self._timer_numbers = itertools.count()
        self._check: Callable[[], None] = lambda: None
        self._check_every_s = float("inf")
        self._next_check = float("inf")
        self.over = False

    # --- processes ---------------------------------------------------------------------------------------------------

    def context_of(self, process: str) -> contextvars.Context:
        """A fresh context in which everything belongs to ``process``."""
        if process not in self._contexts:
            context = contextvars.Context()
            context.run(PROCESS.set, process)
            self._contexts[process] = context
        return self._contexts[process].copy()

    def spawn(self, process: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run ``work`` as a task of ``process``."""
        return self.create_task(work, context=self.context_of(process))

    def kill(self, process: str) -> None:
        """Nothing of it runs again. Its tasks are kept, for freeing them would run their ``finally`` blocks."""
        self._dead.add(process)
        self._graveyard.extend(self._stopped.pop(process, ()))
        self._graveyard.extend(asyncio.all_tasks(self))

    def is_dead(self, process: str) -> bool:
        return process in self._dead

    def stop_process(self, process: str) -> None:
        """SIGSTOP."""
        self._stopped.setdefault(process, [])

    def continue_process(self, process: str) -> None:
        """SIGCONT: what would have run meanwhile runs now, in order."""
        self._ready.extend(self._stopped.pop(process, ()))

    def is_stopped(self, process: str) -> bool:
        return process in self._stopped

    def every(self, seconds: float, check: Callable[[], None]) -> None:
        """Call ``check`` between callbacks, about each ``seconds``. What it raises ends the run."""
        self._check, self._check_every_s, self._next_check = check, seconds, self.now + seconds

    # --- the loop itself ---------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        """BaseEventLoop's, with a jump of the clock in place of waiting for sockets."""
        timers, ready = self._timers, self._ready
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not ready:
            if timers:
                self.now = max(self.now, timers[0][0])
            elif not self._stopping:
                raise SimulationStuck(f"nothing is left to happen at {self.now:.3f} s")
        while timers and timers[0][0] <= self.now:
            ready.append(heapq.heappop(timers)[2])
        if self.now >= self._next_check:
            self._next_check = self.now + self._check_every_s
            self._check()
        for _ in range(len(ready)):
            self._dispatch(ready.popleft())

    def _dispatch(self, handle: asyncio.Handle) -> None:
        if handle._cancelled:
            return
        process = handle._context.get(PROCESS, "")
        if process in self._dead:
            self._graveyard.append(handle)
        elif process in self._stopped:
            self._stopped[process].append(handle)
        else:
            self.steps += 1
            handle._run()

    def call_at(
        self, when: float, callback: Callable[..., Any], *arguments: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """BaseEventLoop's, but timers of one moment run in the order they were set, and compare faster."""
        timer = asyncio.TimerHandle(when, callback, arguments, self, context)
        if not self.over:
            heapq.heappush(self._timers, (when, next(self._timer_numbers), timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are dropped when they come up."""

    def _write_to_self(self) -> None:
        """There is no other thread to be woken from."""

    def _process_events(self, event_list: object) -> None:
        """There are no events but timers and callbacks."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        handle = context.get("handle")
        if self.over or self.is_dead(PROCESS.get() if handle is None else handle._context.get(PROCESS, "")):
            return
        error = context.get("exception")
        if _is_aiohttps_own(error):
            return
        if error is not None and not isinstance(error, Exception):
            raise error
        self.problems.append(f"{self.now:.3f} {PROCESS.get()}: {context.get('message')}: {error!r}")
        self.trace.note(PROCESS.get(), "UNHANDLED", context.get("message"), repr(error))

    # --- what product code asks of a loop ----------------------------------------------------------------------------

    def run_in_executor(self, executor: Any, call: Callable[..., T], *arguments: Any) -> "asyncio.Future[T]":
        """``call`` runs in place of a thread, after its predecessors in the same executor and a while; its result
        takes another while. So a kill or a power cut may come before, between and after."""
        future: asyncio.Future[T] = self.create_future()
        begin_s, end_s = self._chance.uniform(*EXECUTOR_DELAY_S), self._chance.uniform(*EXECUTOR_DELAY_S)
        if self._chance.random() < SLOW_DISK_CHANCE:
            begin_s += self._chance.uniform(0, SLOW_DISK_S)
        slow_s = self.slow_disks.get(host_of(PROCESS.get()))
        if slow_s is not None:
            begin_s += self._chance.uniform(0, slow_s)
            self.slowed[host_of(PROCESS.get())] += 1
        number = self._executors.setdefault(id(executor), next(self._numbers))
        self._graveyard.append(executor)  # its id must not be given to another
        key = (PROCESS.get(), number)
        begins_at = max(self.now, self._executor_free_at[key]) + begin_s
        self._executor_free_at[key] = begins_at + end_s
        self.call_at(begins_at, self._run_blocking, future, end_s, call, arguments)
        return future

    def _run_blocking(
        self, future: "asyncio.Future[T]", end_s: float, call: Callable[..., T], arguments: tuple[Any, ...]
    ) -> None:
        try:
            result, error = call(*arguments), None
        except BaseException as raised:
            if self.is_dead(PROCESS.get()):
                return  # the power went within the call
            if not isinstance(raised, Exception):
                raise
            result, error = None, raised
        self.call_later(end_s, _resolve, future, result, error)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is none."""

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> list[Any]:
        return [(2, 1, 6, "", (host, port))]

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        return self.network.listen(PROCESS.get(), protocol_factory, host, port)

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, *, sock: Any = None, **_: Any
    ) -> Any:
        address = sock.address if sock is not None else (host, port)
        return await self.network.connect(PROCESS.get(), protocol_factory, address)

    # --- the end -----------------------------------------------------------------------------------------------------

    def bury(self) -> None:
        """After the run: whatever still refers to this loop may be freed, and its last words go unheard."""
        self.over = True
        self._dead.update(self._contexts)
        self._ready: deque[asyncio.Handle] = deque(maxlen=0)  # what finalizers ask for is not kept
        self._timers.clear()
        self._graveyard.clear()
        self._stopped.clear()
        self.network.bury()


def _is_aiohttps_own(error: Any) -> bool:
    """A server's task whose connection ended before it began finds no manager, and asserts that it has one."""
    trace = error.__traceback__ if isinstance(error, AssertionError) else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename.endswith("aiohttp/web_protocol.py")


def _resolve(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
