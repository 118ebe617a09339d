"""Looks into a file of the Raft log without changing anything: what `ottla log dump` shows of one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ottla.log.storage import Storage

from .commands import decode_command
from .wal_format import Append, HardState, Record, Reset, Start, Truncate, WalDamaged, decode_file

Row = dict[str, Any]


def dump_wal(storage: Storage, path: Path) -> Iterator[Row]:
    """A row for each record, in order. A damaged place is a row with ``problem``, and the last one. Raises OSError."""
    try:
        for placed in decode_file(storage.read_bytes(path)):
            yield {**_row(placed.record), "end": placed.end, "synced": placed.synced}
    except WalDamaged as error:
        yield {"problem": str(error)}


def _row(record: Record) -> Row:
    match record:
        case Append(index=index, term=term, command=command):
            return {"record": "append", "index": index, "term": term, "command": _command(command)}
        case Truncate(from_index=index):
            return {"record": "truncate", "index": index}
        case HardState(term=term, voted_for=voted_for):
            return {"record": "vote", "term": term, "votedFor": voted_for}
        case Start(index=index, term=term):
            return {"record": "start", "index": index, "term": term}
        case Reset(index=index, term=term):
            return {"record": "reset", "index": index, "term": term}


def _command(data: bytes) -> Any:
    """As JSON has it; bytes that are no command, a new leader's empty one for instance, as they are."""
    try:
        return msgspec.to_builtins(decode_command(data))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return data.hex()
