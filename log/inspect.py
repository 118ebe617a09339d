"""Looks into a log's files, ours or Kafka's, one at a time and without changing anything: what `ottla log dump` shows.

Rows are plain dicts, one for each batch, record or entry, with Kafka's names where its dump tool has one.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from . import index, time_index, txn_index
from .batch_format import CONTROL_BIT, TRANSACTIONAL_BIT
from .checkpoint import METADATA_FILE
from .compression import Compression
from .errors import CorruptBatch
from .leader_epochs import decode_epochs
from .model import Offset
from .producer_snapshot import decode_snapshot
from .records import CODEC_MASK, HEADER_SIZE, LOG_APPEND_TIME_BIT, RecordBatch
from .storage import File, Storage

Row = dict[str, Any]

BATCH_BYTES_MAX = 1 << 30
"""A length beyond this is damage, not a batch: nothing is read for it."""
EPOCHS_FILE = "leader-epoch-checkpoint"
TEXT_SUFFIXES = ("-checkpoint", ".properties", "cleanshutdown")


class NotALog(ValueError):
    """This file is none of those that a log is made of."""


def dump(storage: Storage, path: Path, *, records: bool = False) -> Iterator[Row]:
    """What the file holds, in its order. ``records``: of a ``.log``, a row for each record after its batch's.

    A damaged place is a row with ``problem``, and the last one. Raises NotALog for a file of an unknown kind, and
    OSError.
    """
    if path.suffix == ".log":
        return _batches(storage, path, records)
    for suffix, reader in _READERS.items():
        if path.name.endswith(suffix):
            return reader(storage, path)
    raise NotALog(f"{path}: a log has .log, .index, .timeindex, .txnindex, .snapshot and checkpoint files")


def batches(file: File) -> Iterator[tuple[int, RecordBatch]]:
    """Each batch of an open ``.log`` with its position, its bytes held one at a time. Raises CorruptBatch at the first
    place that holds none; what the CRC says is for the caller."""
    position, size = 0, file.size()
    while position < size:
        head = RecordBatch.parse_header(file.read(position, HEADER_SIZE))
        if head.size_bytes > min(size - position, BATCH_BYTES_MAX):
            raise CorruptBatch(f"a batch of {head.size_bytes} bytes at byte {position}, and the file ends before")
        yield position, RecordBatch.parse(file.read(position, head.size_bytes))
        position += head.size_bytes


def _batches(storage: Storage, path: Path, records: bool) -> Iterator[Row]:
    position = 0
    with closing(storage.open(path)) as file:
        try:
            for position, batch in batches(file):
                yield _batch_row(position, batch)
                if records:
                    yield from _record_rows(batch)
        except CorruptBatch as error:
            yield {"position": position, "problem": str(error)}


def _batch_row(position: int, batch: RecordBatch) -> Row:
    row: Row = {
        "baseOffset": batch.base_offset,
        "lastOffset": batch.last_offset,
        "count": batch.record_count,
        "baseSequence": -1 if batch.base_sequence is None else batch.base_sequence,
        "lastSequence": -1 if batch.last_sequence is None else batch.last_sequence,
        "producerId": -1 if batch.producer_id is None else batch.producer_id,
        "producerEpoch": -1 if batch.producer_epoch is None else batch.producer_epoch,
        "partitionLeaderEpoch": -1 if batch.leader_epoch is None else batch.leader_epoch,
        "isTransactional": bool(batch.attributes & TRANSACTIONAL_BIT),
        "isControl": bool(batch.attributes & CONTROL_BIT),
        "position": position,
        "timestampType": "LogAppendTime" if batch.attributes & LOG_APPEND_TIME_BIT else "CreateTime",
        "maxTimestamp": batch.max_timestamp,
        "size": batch.size_bytes,
        "magic": batch.magic,
        "compresscodec": _codec(batch),
        "crc": batch.crc,
        "isvalid": True,
    }
    try:
        batch.verify_crc()
    except CorruptBatch:
        row["isvalid"] = False
    return row


def _codec(batch: RecordBatch) -> str:
    try:
        return Compression(batch.attributes & CODEC_MASK).name.lower()
    except ValueError:
        return str(batch.attributes & CODEC_MASK)


def _record_rows(batch: RecordBatch) -> Iterator[Row]:
    try:
        for record in batch.records():
            yield {
                "offset": record.offset,
                "timestamp": record.timestamp_ms,
                "keySize": -1 if record.key is None else len(record.key),
                "valueSize": -1 if record.value is None else len(record.value),
                "key": _text(record.key),
                "value": _text(record.value),
                "headers": [[name, _text(value)] for name, value in record.headers],
            }
    except CorruptBatch as error:
        yield {"baseOffset": batch.base_offset, "problem": str(error)}


def _text(data: bytes | None) -> str | None:
    return None if data is None else bytes(data).decode(errors="backslashreplace")


def _base_of(path: Path) -> int:
    digits = path.name.partition(".")[0]
    return int(digits) if digits.isdecimal() else 0


def entries_in(data: bytes, layout: struct.Struct) -> Iterator[tuple[int, ...]]:
    """The entries of an index. An active segment's index of Kafka's is filled up with zeros, which are none; what is
    left over at the end is none either."""
    whole = len(data) // layout.size * layout.size
    while whole and not any(data[whole - layout.size : whole]):
        whole -= layout.size
    return layout.iter_unpack(data[:whole])


def _index_rows(storage: Storage, path: Path) -> Iterator[Row]:
    base = _base_of(path)
    for offset, position in entries_in(storage.read_bytes(path), index.ENTRY):
        yield {"offset": base + offset, "position": position}


def _time_rows(storage: Storage, path: Path) -> Iterator[Row]:
    base = _base_of(path)
    for timestamp, offset in entries_in(storage.read_bytes(path), time_index.ENTRY):
        yield {"timestamp": timestamp, "offset": base + offset}


def _txn_rows(storage: Storage, path: Path) -> Iterator[Row]:
    try:
        for aborted in txn_index.decode_aborted(storage.read_bytes(path), Offset(_base_of(path))):
            yield dict(aborted._asdict())
    except ValueError as error:
        yield {"problem": str(error)}


def _snapshot_rows(storage: Storage, path: Path) -> Iterator[Row]:
    try:
        for entry in decode_snapshot(storage.read_bytes(path)):
            yield dict(entry._asdict())
    except ValueError as error:
        yield {"problem": str(error)}


def _epoch_rows(storage: Storage, path: Path) -> Iterator[Row]:
    try:
        for epoch, start in decode_epochs(storage.read_bytes(path)):
            yield {"epoch": epoch, "startOffset": start}
    except ValueError as error:
        yield {"problem": str(error)}


def _lines(storage: Storage, path: Path) -> Iterator[Row]:
    for line in storage.read_bytes(path).decode(errors="backslashreplace").splitlines():
        yield {"line": line}


_READERS: dict[str, Callable[[Storage, Path], Iterator[Row]]] = {
    ".index": _index_rows,
    ".timeindex": _time_rows,
    ".txnindex": _txn_rows,
    ".snapshot": _snapshot_rows,
    EPOCHS_FILE: _epoch_rows,
    METADATA_FILE: _lines,
    **dict.fromkeys(TEXT_SUFFIXES, _lines),
}
