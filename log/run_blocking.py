"""How code of the event loop has a blocking call run beside it."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class RunBlocking(Protocol):
    """Runs a blocking call in an executor."""

    def __call__(self, call: Callable[[], T], /) -> Awaitable[T]: ...
