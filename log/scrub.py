"""Reads a log's segments again to find bytes that have rotted: every CRC, and the offsets and epochs that none covers.

For an executor, in pieces, as cleaning (cleaner.py): it reads through files of its own and touches nothing that the
event loop owns. What it is told of the log is as it was when the pass began; a log that is truncated, cleaned or
deleted meanwhile may look damaged, so whoever asked must see first whether the log is still that one.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, suppress

from .cleaner import Source, batches_of
from .errors import CorruptBatch, UnexpectedOffset
from .leader_epochs import LeaderEpochCache
from .model import Offset
from .records import RecordBatch
from .segment import follows
from .storage import Buffer, Storage
from .validation import check_stored, validated_from_leader

_EVERYWHERE = Offset((1 << 63) - 1)
_NOWHERE = Offset(0)


def scrub(storage: Storage, sources: Sequence[Source], epochs: LeaderEpochCache, *, gaps: bool) -> Iterator[None]:
    """Read ``sources`` to their ends; yields after each megabyte. Raises CorruptBatch where a batch is not the one that
    was written, and OSError. ``epochs``: of the log. ``gaps``: compaction may have left some between offsets."""
    cleaned_to = _EVERYWHERE if gaps else _NOWHERE
    for source in sources:
        expected = source.base_offset
        with suppress(FileNotFoundError), closing(storage.open(source.path)) as file:  # it left the log meanwhile
            for batch in batches_of(file, source):
                if batch is None:
                    yield
                    continue
                _check_place(batch, expected, cleaned_to, epochs)
                expected = batch.next_offset
            if expected != source.next_offset:
                raise CorruptBatch(f"{source.path}: it ends at offset {expected} and not at {source.next_offset}")


def _check_place(batch: RecordBatch, expected: Offset, cleaned_to: Offset, epochs: LeaderEpochCache) -> None:
    check_stored(batch)
    if not follows(expected, batch.base_offset, cleaned_to):
        raise CorruptBatch(f"offset {batch.base_offset} follows where {expected} was due")
    epoch = epochs.epoch_of(batch.base_offset)  # None: below where the log starts
    if epoch is not None and epoch != batch.leader_epoch:
        raise CorruptBatch(f"the batch at offset {batch.base_offset} is of epoch {batch.leader_epoch}, not {epoch}")


def check_read(data: Buffer, offset: Offset, epochs: LeaderEpochCache) -> None:
    """Check what the log gave to a reader at ``offset``, as a follower checks it. Raises CorruptBatch."""
    try:
        batches = validated_from_leader(data, _NOWHERE, None)
    except UnexpectedOffset as error:
        raise CorruptBatch(str(error)) from error
    if batches and not batches[0].base_offset <= offset <= batches[0].last_offset:
        raise CorruptBatch(f"offset {offset} is read from a batch of {batches[0].base_offset}")
    for batch in batches:
        _check_place(batch, batch.base_offset, _NOWHERE, epochs)
