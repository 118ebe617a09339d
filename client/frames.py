"""The frame of every stream: a typed header and raw batches behind it, never re-encoded.

| length: u32 | header length: u32 | header: msgpack [correlation id, message] | batches ... |
  length counts everything after itself; the batches' sizes stand in the header, in order.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from .protocol import Request, Response

PREFIX = struct.Struct(">II")
MAX_FRAME_BYTES = 32 << 20
"""Neither side accepts a larger frame: one batch of the largest legal topic limit, with room."""

Buffer = bytes | bytearray | memoryview
FrameT = TypeVar("FrameT")


class BadFrame(ValueError):
    """The other side sent bytes that are not a frame of ours. ``correlation_id``: of the message that they were meant
    to be, where so much can be read; without, the stream cannot go on."""

    def __init__(self, text: str, correlation_id: int | None = None) -> None:
        super().__init__(text)
        self.correlation_id = correlation_id


class RequestFrame(NamedTuple):
    correlation_id: int
    message: Request
    body: memoryview


class ResponseFrame(NamedTuple):
    correlation_id: int
    message: Response
    body: memoryview


_encoder = msgspec.msgpack.Encoder()


def frame_parts(correlation_id: int, message: Request | Response, batches: Sequence[Buffer] = ()) -> list[Buffer]:
    """One frame, as what stands side by side in it: the batches are not copied."""
    header = _encoder.encode((correlation_id, message))
    length = PREFIX.size - 4 + len(header) + sum(map(len, batches))
    return [PREFIX.pack(length, len(header)) + header, *batches]


def encode_frame(correlation_id: int, message: Request | Response, batches: Sequence[Buffer] = ()) -> bytes:
    """One frame, in one copy."""
    return b"".join(frame_parts(correlation_id, message, batches))


def _correlation_id(header: Buffer) -> int | None:
    """The one of a header whose message is none."""
    try:
        number, *_ = msgspec.msgpack.decode(header, type=list[Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return None
    return number if type(number) is int and number > 0 else None


class _FrameDecoder(Generic[FrameT]):
    """``decode`` makes a ``frame`` of bytes that are exactly one, and raises BadFrame for all else."""

    def __init__(self, message_type: object, frame: Callable[[int, Any, memoryview], FrameT]) -> None:
        self._decoder = msgspec.msgpack.Decoder(tuple[int, message_type])  # type: ignore[valid-type]
        self._frame = frame

    def decode(self, frame: Buffer) -> FrameT:
        size = len(frame)
        if size < PREFIX.size:
            raise BadFrame(f"a frame of {size} bytes is shorter than its prefix of {PREFIX.size}")
        length, header_length = PREFIX.unpack_from(frame)
        if length != size - 4:
            raise BadFrame(f"the frame says {length} bytes follow its length, {size - 4} do")
        end = PREFIX.size + header_length
        if end > size:
            raise BadFrame(f"a header of {header_length} bytes does not fit a frame of {size}")
        view = memoryview(frame)
        try:
            correlation_id, message = self._decoder.decode(view[PREFIX.size : end])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            number = _correlation_id(view[PREFIX.size : end])
            raise BadFrame(f"the frame's header is not a message: {error}", number) from error
        return self._frame(correlation_id, message, view[end:])


decode_request = _FrameDecoder(Request, RequestFrame).decode
"""Raises BadFrame for anything that is not exactly one request."""
decode_response = _FrameDecoder(Response, ResponseFrame).decode
"""Raises BadFrame for anything that is not exactly one response."""


def split_batches(body: memoryview, sizes: Sequence[int]) -> list[memoryview]:
    """Cut the bytes behind the header at the sizes it names. Raises BadFrame unless they fit exactly."""
    parts: list[memoryview] = []
    start = 0
    for size in sizes:
        if size < 0 or start + size > len(body):
            raise BadFrame(f"a part of {size} bytes does not fit the {len(body) - start} that are left")
        parts.append(body[start : start + size])
        start += size
    if start != len(body):
        raise BadFrame(f"{len(body) - start} bytes belong to no part")
    return parts
