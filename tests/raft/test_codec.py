"""Messages on the wire: what was sent arrives, anything else is a clear error."""

import contextlib

import msgspec
import pytest
from hypothesis import given, strategies as st

from ottla.raft.codec import (
    MAX_MESSAGE_BYTES,
    AppendEntries,
    InstallSnapshot,
    MalformedMessage,
    Message,
    NextIndex,
    PreVote,
    RequestVote,
    ResponsePreVote,
    ResponseVote,
    TimeoutNow,
    decode,
    encode,
)
from ottla.raft.transport import _decode_frame

terms = st.integers(0, 2**62 - 1)
indexes = st.integers(1, 2**40)


@st.composite
def appends(draw: st.DrawFn) -> AppendEntries:
    term, prev = draw(terms), draw(indexes)
    entry_terms = sorted(draw(st.lists(st.integers(0, term), max_size=5)))
    entries = tuple((draw(st.binary(min_size=1, max_size=20)), prev + 1 + i, t) for i, t in enumerate(entry_terms))
    return AppendEntries(term, draw(indexes), prev, draw(st.integers(0, min([term, *entry_terms]))), entries)


messages = st.one_of(
    appends(),
    st.builds(RequestVote, terms, indexes, terms, st.booleans()),
    st.builds(ResponseVote, terms),
    st.builds(PreVote, terms, indexes, terms),
    st.builds(ResponsePreVote, terms, st.booleans()),
    st.builds(NextIndex, terms, indexes, st.booleans(), st.booleans()),
    st.builds(InstallSnapshot, terms, indexes, terms, indexes, st.integers(0, 2**32 - 1)),
    st.builds(TimeoutNow, terms),
)


@given(messages)
def test_a_message_arrives_as_it_left(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_clear_error(data: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        decode(data)


@given(messages, st.data())
def test_a_changed_byte_is_a_message_or_a_clear_error(message: Message, data: st.DataObject) -> None:
    raw = bytearray(encode(message))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedMessage):
        decode(bytes(raw))


@pytest.mark.parametrize(
    "raw",
    [
        ["append_entries", 1, 1, 1, 0, [[b"x", 3, 1]]],  # a gap
        ["append_entries", 1, 1, 1, 0, [[b"x", 2, 2]]],  # an entry from the future
        ["append_entries", 2, 1, 1, 2, [[b"x", 2, 1]]],  # terms that fall
        ["append_entries", 1, 1, 1, 2, []],
        ["append_entries", 1, 1, 1, 0, [[b"", 2, 1]]],  # no type byte
        ["append_entries", 1, 1, 0, 0, []],
        ["append_entries", 1, 1, 1, 0, [], "serialized"],
        ["apply_command", b"x", 1],
        ["response_vote", -1],
        ["response_vote", "1"],
        ["response_vote"],
        {"type": "response_vote", "term": 1},
        [[]] * 100,
    ],
)
def test_what_the_engine_cannot_use_is_refused(raw: object) -> None:
    with pytest.raises(MalformedMessage):
        decode(msgspec.msgpack.encode(raw))


def test_a_message_too_long_and_one_too_deep_are_refused() -> None:
    with pytest.raises(MalformedMessage):
        decode(bytes(MAX_MESSAGE_BYTES + 1))
    with pytest.raises(MalformedMessage):
        decode(b"\x91" * 100_000)


def test_a_frame_out_of_sequence_is_refused() -> None:
    frame = (7).to_bytes(8, "big") + encode(ResponseVote(1))
    assert _decode_frame(frame, 7) == ResponseVote(1)
    for expected in (6, 8):
        with pytest.raises(MalformedMessage):
            _decode_frame(frame, expected)
    with pytest.raises(MalformedMessage):
        _decode_frame(b"short", 0)
