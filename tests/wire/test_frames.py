"""Frames: whatever is sent comes out, however it is cut up; what is no frame is refused, and bounded."""

import contextlib
import struct

import pytest
from hypothesis import given, strategies as st

from ottla.log.chance import SystemChance
from ottla.wire import masks
from ottla.wire.frames import (
    GROW_BYTES,
    LARGE_BYTES,
    CloseCode,
    FrameError,
    FrameReader,
    Opcode,
    frame_header,
)

MAX = 1 << 20
SCRATCH_BYTES = 20_000
SIZES = st.one_of(
    st.integers(0, 300), st.sampled_from([125, 126, 127, 65_535, 65_536, LARGE_BYTES - 1, LARGE_BYTES, SCRATCH_BYTES])
)


class Inbox:
    def __init__(self, *, masked: bool = False, limit: int = MAX, pause_after: int | None = None) -> None:
        self.taken: list[tuple[int, bytes]] = []
        self.pause_after = pause_after
        self.reader = FrameReader(self.take, bytearray(SCRATCH_BYTES), masked=masked, message_bytes_max=limit)

    def take(self, opcode: int, payload: bytes | bytearray) -> None:
        self.taken.append((opcode, bytes(payload)))
        if self.pause_after is not None and len(self.taken) % self.pause_after == 0:
            self.reader.pause()


def encode(opcode: int, payload: bytes, key: bytes | None = None, *, final: bool = True) -> bytes:
    """Written apart from the product's own, byte by byte, as RFC 6455 has it."""
    first = (0x80 if final else 0) | opcode
    mask = 0x80 if key is not None else 0
    if len(payload) < 126:
        head = bytes([first, mask | len(payload)])
    elif len(payload) < 65_536:
        head = bytes([first, mask | 126]) + struct.pack(">H", len(payload))
    else:
        head = bytes([first, mask | 127]) + struct.pack(">Q", len(payload))
    if key is None:
        return head + payload
    pad = (key * (len(payload) // 4 + 1))[: len(payload)]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(payload), "big")
    return head + key + masked


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({place % (len(data) + 1) for place in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@given(st.lists(SIZES, min_size=1, max_size=6), st.booleans(), st.lists(st.integers(0, 1 << 22), max_size=8), st.data())
def test_whatever_is_sent_comes_out_however_it_is_cut(sizes: list[int], masked: bool, cuts: list[int], data) -> None:
    messages = [bytes([number]) * size for number, size in enumerate(sizes)]
    stream = b""
    for message in messages:
        pieces = cut(message, data.draw(st.lists(st.integers(0, max(1, len(message))), max_size=3)))
        for index, piece in enumerate(pieces):
            key = data.draw(st.binary(min_size=4, max_size=4)) if masked else None
            opcode = Opcode.BINARY if index == 0 else Opcode.CONTINUATION
            stream += encode(opcode, piece, key, final=index == len(pieces) - 1)
            if data.draw(st.booleans()):
                stream += encode(Opcode.PING, b"between", b"abcd" if masked else None)
    inbox = Inbox(masked=masked)
    for piece in cut(stream, cuts):
        inbox.reader.feed(piece)
    assert [payload for opcode, payload in inbox.taken if opcode == Opcode.BINARY] == messages
    assert all(payload == b"between" for opcode, payload in inbox.taken if opcode == Opcode.PING)
    assert inbox.reader.waiting_bytes == 0


@given(st.lists(SIZES, min_size=1, max_size=8), st.integers(1, 3), st.lists(st.integers(0, 1 << 22), max_size=8))
def test_a_pause_holds_back_all_that_comes_after_it_and_loses_nothing(sizes: list[int], every: int, cuts) -> None:
    messages = [bytes([number]) * size for number, size in enumerate(sizes)]
    inbox = Inbox(pause_after=every)
    stream = b"".join(encode(Opcode.BINARY, message) for message in messages)
    for piece in cut(stream, cuts):
        before = len(inbox.taken)
        was_paused = inbox.reader.paused
        inbox.reader.feed(piece)
        assert not was_paused or len(inbox.taken) == before
    while inbox.reader.paused:
        inbox.reader.resume()
    assert [payload for _, payload in inbox.taken] == messages


@given(st.binary(max_size=300), st.booleans(), st.lists(st.integers(0, 300), max_size=4))
def test_any_bytes_at_all_end_in_messages_or_a_refusal(data: bytes, masked: bool, cuts: list[int]) -> None:
    inbox = Inbox(masked=masked, limit=100)
    with contextlib.suppress(FrameError):
        for piece in cut(data, cuts):
            inbox.reader.feed(piece)
    assert all(len(payload) <= 125 for _, payload in inbox.taken)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (bytes([0x82 | 0x40, 0]), CloseCode.PROTOCOL_ERROR),  # compressed, which nobody agreed to
        (bytes([0x83, 0]), CloseCode.PROTOCOL_ERROR),  # no such frame
        (bytes([0x8B, 0]), CloseCode.PROTOCOL_ERROR),
        (bytes([0x80, 0]), CloseCode.PROTOCOL_ERROR),  # goes on where nothing began
        (bytes([0x02, 0, 0x82, 0]), CloseCode.PROTOCOL_ERROR),  # begins where something goes on
        (bytes([0x09, 0]), CloseCode.PROTOCOL_ERROR),  # a ping in fragments
        (bytes([0x89, 126, 0, 126]), CloseCode.PROTOCOL_ERROR),  # a ping of 126 bytes
        (bytes([0x82, 0x80, 1, 2, 3, 4]), CloseCode.PROTOCOL_ERROR),  # masked by a server
        (bytes([0x82, 126]) + struct.pack(">H", 1001), CloseCode.MESSAGE_TOO_BIG),
        (bytes([0x82, 127]) + struct.pack(">Q", 1 << 63), CloseCode.MESSAGE_TOO_BIG),
        (bytes([0x02, 126]) + struct.pack(">H", 600) + bytes(600) + bytes([0x80, 126]) + struct.pack(">H", 600),
         CloseCode.MESSAGE_TOO_BIG),
    ],
)  # fmt: skip
def test_what_is_no_frame_is_refused_with_its_code(frame: bytes, code: CloseCode) -> None:
    inbox = Inbox(limit=1000)
    with pytest.raises(FrameError) as refused:
        inbox.reader.feed(frame)
    assert refused.value.code is code
    assert inbox.taken == []


def test_a_client_that_does_not_mask_is_refused() -> None:
    with pytest.raises(FrameError) as refused:
        Inbox(masked=True).reader.feed(encode(Opcode.BINARY, b"plain"))
    assert refused.value.code is CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [200, LARGE_BYTES + 1000])
def test_what_looks_like_a_whole_message_in_the_middle_of_one_is_a_part_of_it(masked: bool, size: int) -> None:
    key = bytes(4) if masked else None  # it changes nothing
    inner = encode(Opcode.BINARY, b"i" * 60, key)
    message = b"x" * (size - len(inner)) + inner
    inbox = Inbox(masked=masked)
    whole = encode(Opcode.BINARY, message, key)
    # A short one first: the shared buffer still begins with it when the large one is read to its own place.
    inbox.reader.feed(inner + whole[: -len(inner)])
    inbox.reader.feed(whole[-len(inner) :])
    assert [payload for _, payload in inbox.taken] == [b"i" * 60, message]


def test_a_whole_message_between_fragments_is_refused() -> None:
    inbox = Inbox()
    inbox.reader.feed(encode(Opcode.BINARY, b"one", final=False))
    with pytest.raises(FrameError):
        inbox.reader.feed(encode(Opcode.BINARY, b"two"))


def test_what_only_looks_like_one_whole_message_is_looked_at_closely() -> None:
    with pytest.raises(FrameError, match="not masked"):  # its payload read as a length would fit
        Inbox(masked=True).reader.feed(bytes([0x82, 5, 0, 200]) + bytes(204))
    for masked in (False, True):
        with pytest.raises(FrameError) as refused:
            Inbox(masked=masked, limit=1000).reader.feed(
                encode(Opcode.BINARY, bytes(1001), b"abcd" if masked else None)
            )
        assert refused.value.code is CloseCode.MESSAGE_TOO_BIG


@pytest.mark.parametrize("masked", [False, True])
def test_lengths_in_more_bytes_than_they_need_are_understood(masked: bool) -> None:
    mask, key = (0x80, bytes(4)) if masked else (0, b"")
    inbox = Inbox(masked=masked)
    inbox.reader.feed(bytes([0x82, mask | 126, 0, 3]) + key + b"abc")
    inbox.reader.feed(bytes([0x82, mask | 127]) + struct.pack(">Q", 2) + key + b"de")
    assert [payload for _, payload in inbox.taken] == [b"abc", b"de"]


def test_a_peers_word_is_worth_a_megabyte() -> None:
    inbox = Inbox(limit=32 << 20)
    inbox.reader.feed(bytes([0x82, 127]) + struct.pack(">Q", 32 << 20) + bytes(100))
    assert len(inbox.reader.buffer()) <= GROW_BYTES
    inbox.reader.feed(bytes(GROW_BYTES * 2))
    assert len(inbox.reader.buffer()) <= 2 * GROW_BYTES + 100, "no more again than has come"


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_heads_are_the_rfcs(size: int) -> None:
    assert encode(Opcode.BINARY, bytes(size)) == frame_header(Opcode.BINARY, size) + bytes(size)
    key = b"\1\2\3\4"
    assert encode(Opcode.BINARY, bytes(size), key).startswith(frame_header(Opcode.BINARY, size, masked=True) + key)


@given(st.binary(min_size=4, max_size=4), st.binary(max_size=100))
def test_both_masks_are_the_same_and_undo_themselves(key: bytes, data: bytes) -> None:
    one, other = bytearray(data), bytearray(data)
    masks.apply_mask(key, one)
    masks.mask_in_python(key, other)
    assert one == other
    masks.apply_mask(key, one)
    assert one == data


def test_the_compiled_mask_is_where_it_was() -> None:
    """When this fails, aiohttp has moved it: streams work, and large produces are slower than they need to be."""
    assert masks.apply_mask is not masks.mask_in_python


def test_no_key_is_given_twice() -> None:
    class Counting(SystemChance):
        draws = 0

        def token_bytes(self, size: int) -> bytes:
            self.draws += 1
            return super().token_bytes(size)

    chance = Counting()
    keys = masks.Keys(chance)
    given_out = [keys.next() for _ in range(3000)]
    assert {len(key) for key in given_out} == {4}
    assert len(set(given_out)) > 2990
    assert chance.draws == 3
