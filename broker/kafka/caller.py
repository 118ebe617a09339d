"""Who asks, who answers, and what."""

from collections.abc import Awaitable, Coroutine, Sequence
from typing import TYPE_CHECKING, Protocol

from .header import Header

if TYPE_CHECKING:
    from .connection import Connection

Parts = Sequence[bytes | memoryview]
"""A response, header and all, in pieces that are written one after the other and never joined if they are large."""


class Caller:
    """Who asks, as far as handlers and logs want to know. ``local_host``: by which it reached us."""

    __slots__ = ("client_id", "host", "local_host", "software")

    def __init__(self, host: str, local_host: str) -> None:
        self.host = host
        self.local_host = local_host
        self.client_id = ""
        self.software = ""


class Hangup(Exception):
    """The client is to be left without an answer: a broken promise that only a closed connection can tell of."""


class Requests(Protocol):
    """What a connection asks of the door behind it."""

    def begin_produce(self, caller: Caller, header: Header, frame: memoryview) -> Awaitable[Parts] | None:
        """Append at once; None where no answer is wanted. Raises Malformed, Hangup."""

    def answer(self, caller: Caller, header: Header, frame: memoryview) -> Coroutine[None, None, Parts]:
        """Raises Malformed, Hangup."""

    def opened(self, connection: "Connection") -> bool:
        """Whether it may stay."""

    def closed(self, connection: "Connection") -> None: ...

    def taken(self, size: int) -> bool:
        """A request came in; whether there is room for another."""

    def room(self) -> Coroutine[None, None, None]:
        """Until there is."""

    def given(self, size: int) -> None:
        """It has been answered."""

    def holds(self, change: int) -> bool:
        """So many bytes more are kept for requests that are not whole; False where that is too much."""

    def unsent(self, change: int) -> None:
        """So many bytes more of answers wait for clients to take them."""
