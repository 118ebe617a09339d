"""Bytes in any pieces become the same requests; nothing grows beyond what has come."""

import struct

import pytest
from hypothesis import given, settings, strategies as st

from ottla.broker.config import load_settings
from ottla.broker.kafka.frames import GROWN_FROM_BYTES, FrameReader
from ottla.broker.kafka.wire import Malformed

LIMIT = 64 << 20


def feed(reader: FrameReader, data: bytes, pieces: list[int]) -> list[bytes]:
    frames: list[bytes] = []
    position = 0
    sizes = iter(pieces)
    while position < len(data):
        buffer = reader.buffer()
        size = min(next(sizes, len(data)), len(buffer), len(data) - position)
        buffer[:size] = data[position : position + size]
        frames += (bytes(frame) for frame in reader.received(size))
        position += size
    return frames


@settings(deadline=None)
@given(
    st.lists(st.binary(min_size=10, max_size=400), max_size=12),
    st.lists(st.integers(min_value=1, max_value=300), max_size=40),
)
def test_any_pieces_give_the_same_requests(frames: list[bytes], pieces: list[int]) -> None:
    shared = bytearray(64)  # smaller than most requests
    data = b"".join(struct.pack(">i", len(frame)) + frame for frame in frames)
    reader = FrameReader(shared, LIMIT)
    assert feed(reader, data, pieces) == frames
    assert reader.between_requests
    assert not reader.held_bytes


def test_two_connections_share_a_buffer_and_nothing_else() -> None:
    shared = bytearray(256)
    first, second = FrameReader(shared, LIMIT), FrameReader(shared, LIMIT)
    one, two = b"a" * 300, b"b" * 300
    assert feed(first, struct.pack(">i", 300) + one[:100], []) == []
    assert feed(second, struct.pack(">i", 300) + two, []) == [two]
    assert feed(first, one[100:], []) == [one]


def test_a_request_keeps_its_bytes_while_the_next_is_read() -> None:
    reader = FrameReader(bytearray(64), LIMIT)
    first = [reader.received(_put(reader, struct.pack(">i", 20) + b"1" * 20))][0]
    feed(reader, struct.pack(">i", 20) + b"2" * 20, [])
    assert bytes(first[0]) == b"1" * 20


def _put(reader: FrameReader, data: bytes) -> int:
    reader.buffer()[: len(data)] = data
    return len(data)


def test_who_announces_much_costs_little_until_it_comes() -> None:
    reader = FrameReader(bytearray(1 << 16), LIMIT)
    feed(reader, struct.pack(">i", LIMIT) + b"x", [])
    assert reader.held_bytes == GROWN_FROM_BYTES
    body = b"y" * (3 * GROWN_FROM_BYTES)
    feed(reader, body, [])
    assert reader.held_bytes <= 2 * (len(body) + 1)


def test_all_connections_may_announce_something_and_leave_room_for_who_brings_it() -> None:
    settings = load_settings({})
    reader = FrameReader(bytearray(1 << 16), settings.frame_bytes_max)
    feed(reader, struct.pack(">i", settings.frame_bytes_max) + b"x", [])
    assert settings.connections_max * reader.held_bytes <= settings.inflight_bytes_max - 2 * settings.frame_bytes_max


def test_a_large_request_that_comes_slowly_is_whole_in_the_end() -> None:
    body = bytes(range(256)) * (5 * GROWN_FROM_BYTES // 256)
    reader = FrameReader(bytearray(1 << 16), LIMIT)
    assert feed(reader, struct.pack(">i", len(body)) + body, [70_000] * 1_000) == [body]


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00", "TLS"),
        (struct.pack(">i", -1), "-1 bytes"),
        (struct.pack(">i", 0), "0 bytes"),
        (struct.pack(">i", LIMIT + 1), "are taken"),
    ],
)
def test_what_is_no_length_is_refused(start: bytes, says: str) -> None:
    with pytest.raises(Malformed, match=says):
        feed(FrameReader(bytearray(64), LIMIT), start, [])
