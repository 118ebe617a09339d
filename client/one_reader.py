"""One task at a time reads a consumer: asking for the next record says that the one before it is done with, and only
who has that one can say so."""

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Any, TypeVar

from .errors import OttlaError

T = TypeVar("T")


class ConsumerBusy(OttlaError):
    """Another task reads this consumer: it waits for a record, or it is in a loop over it. ``commit``, ``seek`` and the
    like are for every task."""

    code = "OTTLA-CONSUMER-BUSY"


class Loop:
    """An ``async for`` over a consumer, or its batches. It is known by its generator, which nobody has any more once
    the loop was left."""

    __slots__ = ("generator", "task")

    def __init__(self) -> None:
        self.generator: Callable[[], AsyncGenerator[Any, None] | None] = lambda: None
        self.task: asyncio.Task[Any] | None = None

    @property
    def is_on(self) -> bool:
        generator = self.generator()
        if generator is None or generator.ag_frame is None:  # type: ignore[attr-defined]
            return False
        return self.task is not None and not self.task.done()


class OneReader:
    """A context manager around each wait for records. ``may_be_taken``: whoever asks for a record looks closer, by
    ``check``, before it does."""

    __slots__ = ("_loop", "_waits", "may_be_taken")

    def __init__(self) -> None:
        self.may_be_taken = True
        self._waits = False
        self._loop: Loop | None = None

    def check(self) -> None:
        """Raises ConsumerBusy where another task waits, or is in a loop."""
        if self._waits:
            raise _busy("waits for its next record")
        loop = self._loop
        if loop is None or not loop.is_on:
            self._loop = None
            self.may_be_taken = False
        elif loop.task is not asyncio.current_task():
            raise _busy("is in a loop over it")

    def looped(self, begin: Callable[[Loop], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        """The generator that ``begin`` makes, which calls ``enter`` with its loop."""
        loop = Loop()
        generator = begin(loop)
        loop.generator = weakref.ref(generator)
        return generator

    def enter(self, loop: Loop) -> None:
        """It begins, in this task."""
        loop.task = asyncio.current_task()
        self._loop = loop
        self.may_be_taken = True

    def __enter__(self) -> None:
        if self._waits:
            raise _busy("waits for its next record")
        self._waits = self.may_be_taken = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waits = False


def _busy(how: str) -> ConsumerBusy:
    return ConsumerBusy(f"another task reads this consumer: it {how}.", hint="Give each task a consumer of its own.")
