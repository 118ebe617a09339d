"""What takes long to read or write is done by a thread of the door's, while the event loop goes on."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

LARGE_REQUEST_BYTES = 8 << 10
LARGE_ANSWER_ELEMENTS = 500
"""More of either takes more than a few milliseconds."""


class RunAside(Protocol):
    """Has the thread do it."""

    def __call__(self, call: Callable[[], T], /) -> Awaitable[T]: ...


def is_large(answer: Mapping[str, Any]) -> bool:
    """Whether it has many elements in all its arrays; a glance where it has few."""
    found, rest = 0, [answer]
    while rest and found <= LARGE_ANSWER_ELEMENTS:
        for value in rest.pop().values():
            if isinstance(value, Mapping):
                rest.append(value)
            elif isinstance(value, list | tuple):
                found += len(value)
                rest += (each for each in value[:LARGE_ANSWER_ELEMENTS] if isinstance(each, Mapping))
    return found > LARGE_ANSWER_ELEMENTS
