"""The messages between voters: a closed set of typed structs, msgpack on the wire. Pure.

PySyncObj would send pickled dicts; a pickle from the network runs code (D10). Nothing here is ever evaluated: bytes
are one of these messages, whole and within its limits, or a MalformedMessage and the end of the connection.

Its messages for snapshots (``serialized``: ours only names one, D16), for entries in pieces (``transmission``), for
forwarding commands and for changing members have no counterpart, so they cannot be received.
"""

from typing import Annotated, TypeAlias

import msgspec

from .wal_format import MAX_COMMAND_BYTES

_MAX = (1 << 62) - 1
Term: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=_MAX)]
Index: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=_MAX)]
CommandBytes: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_COMMAND_BYTES + 1)]

MAX_MESSAGE_BYTES = 4 << 20
"""The largest encoded message that is looked at."""


class MalformedMessage(ValueError):
    """These bytes are not a message of ours."""


class RequestVote(msgspec.Struct, frozen=True, array_like=True, tag="request_vote", forbid_unknown_fields=True):
    """A candidate asks for a vote in ``term`` (section 5.2). ``transfer``: its leader told it to (TimeoutNow), so a
    voter that still hears that leader answers all the same."""

    term: Term
    last_log_index: Index
    last_log_term: Term
    transfer: bool


class ResponseVote(msgspec.Struct, frozen=True, array_like=True, tag="response_vote", forbid_unknown_fields=True):
    """The sender's vote in ``term`` is the receiver's. A refusal is silence."""

    term: Term


class PreVote(msgspec.Struct, frozen=True, array_like=True, tag="pre_vote", forbid_unknown_fields=True):
    """Would you vote for me in ``term``, were I to ask? Changes nothing at the receiver (Raft thesis, 9.6)."""

    term: Term
    last_log_index: Index
    last_log_term: Term


class ResponsePreVote(
    msgspec.Struct, frozen=True, array_like=True, tag="response_pre_vote", forbid_unknown_fields=True
):
    """Granted: ``term`` is the one asked about. Refused: it is the sender's own."""

    term: Term
    granted: bool


class AppendEntries(msgspec.Struct, frozen=True, array_like=True, tag="append_entries", forbid_unknown_fields=True):
    """What follows entry (prev_index, prev_term) in the leader's log; empty as a heartbeat (section 5.3).
    An entry is (command with its type byte, index, term)."""

    term: Term
    commit_index: Index
    prev_index: Index
    prev_term: Term
    entries: tuple[tuple[CommandBytes, Index, Term], ...] = ()


class NextIndex(msgspec.Struct, frozen=True, array_like=True, tag="next_node_idx", forbid_unknown_fields=True):
    """A follower's answer. ``success``: everything before ``next_index`` is durable, and as the leader's. ``reset``:
    send from ``next_index``. Neither: a mere sign of life, or of a higher term. Of use only in its ``term`` (D4)."""

    term: Term
    next_index: Index
    success: bool
    reset: bool


class InstallSnapshot(msgspec.Struct, frozen=True, array_like=True, tag="install_snapshot", forbid_unknown_fields=True):
    """The entries you need next are gone: fetch my snapshot, a file of ``size`` bytes, over HTTP (section 7). It ends
    with entry (index, snapshot_term). A heartbeat too; says nothing of what else is committed (D3b)."""

    term: Term
    index: Index
    snapshot_term: Term
    size: Annotated[int, msgspec.Meta(ge=1, le=_MAX)]
    crc: Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]


class TimeoutNow(msgspec.Struct, frozen=True, array_like=True, tag="timeout_now", forbid_unknown_fields=True):
    """The leader asks a caught-up follower to stand for election at once (Raft thesis, 3.10)."""

    term: Term


Message: TypeAlias = (
    RequestVote | ResponseVote | PreVote | ResponsePreVote | AppendEntries | NextIndex | InstallSnapshot | TimeoutNow
)

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """Bytes of ``message``."""
    return _ENCODER.encode(message)


def decode(data: bytes | memoryview) -> Message:
    """The message these bytes are. Raises MalformedMessage on anything else."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise MalformedMessage(f"a message of {len(data)} bytes; at most {MAX_MESSAGE_BYTES} are allowed")
    try:
        message = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(str(error)) from error
    if isinstance(message, AppendEntries):
        _check_entries(message)
    return message


def _check_entries(message: AppendEntries) -> None:
    index, term = message.prev_index, message.prev_term
    for _, entry_index, entry_term in message.entries:
        if entry_index != index + 1 or not term <= entry_term <= message.term:
            raise MalformedMessage(f"entry ({entry_index}, term {entry_term}) cannot follow ({index}, term {term})")
        index, term = entry_index, entry_term
    if term > message.term:
        raise MalformedMessage(f"an entry of term {term} in a message of term {message.term}")
