"""The write barrier: a message leaves once the log position it depends on is durable.

A vote or an acknowledgement that a power cut could take back would let a second majority decide otherwise
(Raft paper, section 5.1: persistent state is updated on stable storage before responding).
"""

from collections import deque
from typing import Any, NamedTuple

from pysyncobj.transport import Transport

from .codec import Message

HELD_MAX = 10_000
"""Messages that may wait for one sync; beyond it the oldest are dropped, which Raft survives as message loss."""


class _Held(NamedTuple):
    position: int
    node: Any
    message: Message


class BarrierTransport(Transport):  # type: ignore[misc]
    """Holds messages back until their position is synced. Subclasses deliver them, per peer in order."""

    def __init__(self) -> None:
        super().__init__(None, None, ())
        self._held: deque[_Held] = deque(maxlen=HELD_MAX)

    def deliver(self, node: Any, message: Message) -> bool:
        """Put ``message`` on its way now, or return False where there is no connection."""
        raise NotImplementedError

    def send(self, node: Any, message: Message) -> bool:
        """Send a message that depends on nothing unsynced."""
        return self.deliver(node, message)

    def send_after(self, position: int, synced: int, node: Any, message: Message) -> bool:
        """Send ``message`` once the log is synced to ``position``; at once if ``synced`` says that it is.
        Returns whether it was sent at once."""
        if position <= synced:
            self.deliver(node, message)
            return True
        self._held.append(_Held(position, node, message))
        return False

    def release(self, synced: int, term: int) -> None:
        """The log is durable up to ``synced``: send what waited for it.

        A promise of an older term is dropped: the entries it acknowledges may have been replaced since.
        """
        waiting = deque[_Held](maxlen=HELD_MAX)
        for held in self._held:
            if held.position > synced:
                waiting.append(held)
            elif held.message.term == term:
                self.deliver(held.node, held.message)
        self._held = waiting

    def forget(self, node: Any) -> None:
        """The connection to ``node`` is gone, and what waited to go over it."""
        self._held = deque((held for held in self._held if held.node != node), maxlen=HELD_MAX)
