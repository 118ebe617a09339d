"""The XOR that client frames travel under (RFC 6455, section 5.3).

It hides nothing: it keeps what a program sends from looking like HTTP to a proxy that does not know WebSockets.
"""

from collections.abc import Callable

from ottla.log.chance import Chance

KEY_BYTES = 4
DRAWN_BYTES = 4096
"""Keys are drawn many at a time: each draw asks the operating system."""


class Keys:
    """A fresh key for each frame, which nobody can guess (RFC 6455, section 5.3)."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._drawn = b""
        self._at = 0

    def next(self) -> bytes:
        """Four bytes, given once."""
        at = self._at
        if at == len(self._drawn):
            self._drawn, at = self._chance.token_bytes(DRAWN_BYTES), 0
        self._at = at + KEY_BYTES
        return self._drawn[at : self._at]


def mask_in_python(key: bytes, data: bytearray) -> None:
    """XOR ``data`` in place with ``key``, repeated; both of them as one long number."""
    size = len(data)
    pad = key * (size // KEY_BYTES + 1)
    data[:] = (int.from_bytes(data, "little") ^ int.from_bytes(pad[:size], "little")).to_bytes(size, "little")


def _fastest() -> Callable[[bytes, bytearray], None]:
    # Forty times as fast, compiled, and here already; but aiohttp does not promise where it keeps it.
    try:
        from aiohttp._websocket.helpers import websocket_mask
    except ImportError:
        return mask_in_python
    return websocket_mask


apply_mask = _fastest()
"""XOR a bytearray in place with a key of four bytes."""
