"""What every object of the blocking SDK is: the original, and the thread in which it lives."""

from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from .background import Background
from .reader import Decode
from .records import ConsumerRecord

T = TypeVar("T")

AHEAD_MAX = 100
"""Records that cross from the loop's thread at a time."""


def made_of(
    decode: Decode, records: Sequence[ConsumerRecord[Any, Any]]
) -> tuple[list[ConsumerRecord[Any, Any] | None], Exception | None]:
    """What the user sees of each, in this thread, up to the first that fails, and why that does."""
    made: list[ConsumerRecord[Any, Any] | None] = []
    for record in records:
        try:
            made.append(decode(record))
        except Exception as error:
            return made, error
    return made, None


class Mirrored:
    """``_inner``: the original."""

    def __init__(self, inner: Any, background: Background) -> None:
        self._inner = inner
        self._background = background

    def __enter__(self) -> Self:
        self._background.run(self._inner.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._background.run(lambda: self._inner.__aexit__(kind, error, trace))

    def _slices(self, iterator: AsyncIterator[T], count: int, found: "deque[T] | None" = None) -> Iterator[T]:
        """What an asynchronous generator brings, some at a time; all of it must be on its way. ``found``: where that is
        until it is handed out."""
        here: deque[T] = deque() if found is None else found

        async def some() -> BaseException | None:
            try:
                while len(here) < count:
                    here.append(await anext(iterator))
            except (StopAsyncIteration, Exception) as error:
                return error
            return None

        try:
            while True:
                end = self._background.run(some)
                while here:
                    yield here.popleft()
                if isinstance(end, StopAsyncIteration):
                    return
                if end is not None:
                    raise end
        finally:
            if not self._background.stopped:  # with the client that is over, too
                self._background.run(iterator.aclose)  # type: ignore[attr-defined]
