"""Bytes of the write-ahead log. Pure.

    file    | magic: 8s | version: u32 | crc32c of the 12 bytes before: u32 |   then records, back to back

    record  | length: u32 | crc: u32 | type: u8 | synced: u64 | payload ... |
              length   of type, synced and payload together
              crc      crc32c of the record's own position in the file (u64), then of type, synced and payload:
                       a record copied to another place, or quoted inside a command, does not pass for one
              synced   the file was known to be durable below this position when the record was written

    APPEND     1  | index: u64 | term: u64 | command ... |
    TRUNCATE   2  | from_index: u64 |                         this entry and all after it are gone
    HARDSTATE  3  | term: u64 | voted_for: u32 |              0 is nobody; node ids start at 1
    START      4  | index: u64 | term: u64 |                  the entry before this file's first: the log goes on here
    RESET      5  | index: u64 | term: u64 |                  as START, and all entries of earlier files are gone

Every file but the very first begins with START or RESET, and then HARDSTATE: earlier files can go.
All integers are big-endian. ``synced`` is what tells a torn tail from damage: bytes that fail may be cut off
only if no later record claims that they had been durable.
"""

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ottla.log.checksum import crc32c

MAX_COMMAND_BYTES = 1 << 20
"""The largest command, its one type byte not counted."""

FILE_HEADER = struct.Struct(">8sII")
_MAGIC = b"OTTLAWAL"
_VERSION = 1

_PREFIX = struct.Struct(">II")
_HEAD = struct.Struct(">BQ")
_POSITION = struct.Struct(">Q")
_APPEND = struct.Struct(">QQ")
_TRUNCATE = struct.Struct(">Q")
_HARD_STATE = struct.Struct(">QI")
_START = struct.Struct(">QQ")
_MAX_LENGTH = _HEAD.size + _APPEND.size + MAX_COMMAND_BYTES + 1


WAL_DAMAGED = "OTTLA-WAL-DAMAGED"
WAL_ADVICE = "Restore the file; if it is lost, so is this voter, and the cluster goes on with the others."


class WalDamaged(Exception):
    """Bytes that had been durable are not what was written. The node must not vote with this log: ``code`` and
    ``message`` are for the operator."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{WAL_DAMAGED}: {message}")
        self.code = WAL_DAMAGED
        self.message = message


class _Type(enum.IntEnum):
    APPEND = 1
    TRUNCATE = 2
    HARD_STATE = 3
    START = 4
    RESET = 5


@dataclass(frozen=True, slots=True)
class Append:
    """One log entry."""

    index: int
    term: int
    command: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """The entry ``from_index`` and all after it were replaced."""

    from_index: int


@dataclass(frozen=True, slots=True)
class HardState:
    """What a voter must not forget: its term and whom it voted for in it (Raft paper, figure 2)."""

    term: int
    voted_for: int | None


@dataclass(frozen=True, slots=True)
class Start:
    """The file goes on where the one before it ended: after entry ``index`` of ``term``."""

    index: int
    term: int


@dataclass(frozen=True, slots=True)
class Reset:
    """A snapshot took the place of all entries before: the next one is ``index`` + 1."""

    index: int
    term: int


Record: TypeAlias = Append | Truncate | HardState | Start | Reset


class Placed(NamedTuple):
    """A record as found: where its successor starts, and below which position the file was durable before it."""

    record: Record
    end: int
    synced: int


def encode_file_header() -> bytes:
    start = FILE_HEADER.pack(_MAGIC, _VERSION, 0)[:-4]
    return start + crc32c(start).to_bytes(4, "big")


def check_file_header(data: bytes) -> None:
    """Raise WalDamaged unless ``data`` starts with our header."""
    if data[: FILE_HEADER.size] != encode_file_header():
        raise WalDamaged("no write-ahead log header at byte 0, or one of another version")


def encode_record(record: Record, position: int, synced: int) -> bytes:
    """The bytes of ``record`` for exactly this ``position`` of the file."""
    match record:
        case Append():
            body = _HEAD.pack(_Type.APPEND, synced) + _APPEND.pack(record.index, record.term) + record.command
        case Truncate():
            body = _HEAD.pack(_Type.TRUNCATE, synced) + _TRUNCATE.pack(record.from_index)
        case HardState():
            body = _HEAD.pack(_Type.HARD_STATE, synced) + _HARD_STATE.pack(record.term, record.voted_for or 0)
        case Start():
            body = _HEAD.pack(_Type.START, synced) + _START.pack(record.index, record.term)
        case Reset():
            body = _HEAD.pack(_Type.RESET, synced) + _START.pack(record.index, record.term)
    return _PREFIX.pack(len(body), _crc(position, body)) + body


def decode_record(data: bytes, position: int) -> Placed | None:
    """The record at ``position`` of ``data`` (the whole file), or ``None`` if there is no whole, sound one."""
    if position + _PREFIX.size + _HEAD.size > len(data):
        return None
    length, crc = _PREFIX.unpack_from(data, position)
    start, end = position + _PREFIX.size, position + _PREFIX.size + length
    if not _HEAD.size <= length <= _MAX_LENGTH or end > len(data) or _crc(position, data[start:end]) != crc:
        return None
    kind, synced = _HEAD.unpack_from(data, start)
    record = _decode_payload(kind, data[start + _HEAD.size : end])
    return None if record is None else Placed(record, end, synced)


def decode_file(data: bytes) -> Iterator[Placed]:
    """Every record up to the torn tail, if there is one. Raises WalDamaged where the damage is not a torn tail."""
    check_file_header(data)
    position = FILE_HEADER.size
    while position < len(data):
        placed = decode_record(data, position)
        if placed is None:
            _refuse_damage(data, position)
            return
        yield placed
        position = placed.end


def _refuse_damage(data: bytes, position: int) -> None:
    # A power cut may keep a later page of the unsynced tail and lose an earlier one, so a sound record further on
    # is no proof of damage by itself; its claim that these bytes were durable before it is.
    for candidate in range(position + 1, len(data) - _PREFIX.size - _HEAD.size + 1):
        placed = decode_record(data, candidate)
        if placed is not None and placed.synced > position:
            raise WalDamaged(
                f"the record at byte {position} fails its check, and the one at byte {candidate} says it had been "
                f"durable. {WAL_ADVICE}"
            )


def _decode_payload(kind: int, payload: bytes) -> Record | None:
    if kind == _Type.APPEND and len(payload) > _APPEND.size:
        index, term = _APPEND.unpack_from(payload)
        return Append(index, term, payload[_APPEND.size :])
    if kind == _Type.TRUNCATE and len(payload) == _TRUNCATE.size:
        return Truncate(*_TRUNCATE.unpack(payload))
    if kind == _Type.HARD_STATE and len(payload) == _HARD_STATE.size:
        term, voted_for = _HARD_STATE.unpack(payload)
        return HardState(term, voted_for or None)
    if kind in (_Type.START, _Type.RESET) and len(payload) == _START.size:
        return (Start if kind == _Type.START else Reset)(*_START.unpack(payload))
    return None


def _crc(position: int, body: bytes) -> int:
    return crc32c(body, crc32c(_POSITION.pack(position)))
