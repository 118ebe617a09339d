"""The frame of every stream: a typed header and raw batches behind it, never re-encoded.

| length: u32 | header length: u32 | header: msgpack [correlation id, message] | batches ... |
  length counts everything after itself; the batches' sizes stand in the header, in order.
"""

import struct
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec

from .protocol import Request, Response

PREFIX = struct.Struct(">II")
MAX_FRAME_BYTES = 32 << 20
"""Neither side accepts a larger frame: one batch of the largest legal topic limit, with room."""

Buffer = bytes | bytearray | memoryview
MessageT = TypeVar("MessageT")


class BadFrame(ValueError):
    """The other side sent bytes that are not a frame of ours; the stream cannot go on."""


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


class _FrameDecoder(Generic[MessageT]):
    def __init__(self, message_type: object) -> None:
        self._decoder = msgspec.msgpack.Decoder(tuple[int, message_type])  # type: ignore[valid-type]

    def decode(self, frame: Buffer) -> tuple[int, MessageT, memoryview]:
        if len(frame) < PREFIX.size:
            raise BadFrame(f"a frame of {len(frame)} bytes is shorter than its prefix of {PREFIX.size}")
        length, header_length = PREFIX.unpack_from(frame)
        if length != len(frame) - 4:
            raise BadFrame(f"the frame says {length} bytes follow its length, {len(frame) - 4} do")
        end = PREFIX.size + header_length
        if end > len(frame):
            raise BadFrame(f"a header of {header_length} bytes does not fit a frame of {len(frame)}")
        view = memoryview(frame)
        try:
            correlation_id, message = self._decoder.decode(view[PREFIX.size : end])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BadFrame(f"the frame's header is not a message: {error}") from error
        return correlation_id, message, view[end:]


_requests: _FrameDecoder[Request] = _FrameDecoder(Request)
_responses: _FrameDecoder[Response] = _FrameDecoder(Response)


def decode_request(frame: Buffer) -> RequestFrame:
    """Raises BadFrame for anything that is not exactly one request."""
    return RequestFrame(*_requests.decode(frame))


def decode_response(frame: Buffer) -> ResponseFrame:
    """Raises BadFrame for anything that is not exactly one response."""
    return ResponseFrame(*_responses.decode(frame))


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
