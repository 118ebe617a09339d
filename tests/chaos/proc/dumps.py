"""What the files of stopped nodes hold, for the comparison of replicas below the high watermark."""

from collections.abc import Iterator
from pathlib import Path

from ottla.log.batch_format import HEADER, HEADER_SIZE, PREFIX_SIZE
from ottla.log.checkpoint import HIGH_WATERMARK_FILE, METADATA_FILE, OffsetCheckpoint, read_epochs
from ottla.log.model import TopicPartition
from ottla.log.storage import SystemStorage

from ..checkers.replicas import Batch, ReplicaDump

STRAY = "-stray"


def dump_node(node: str, data: Path) -> list[ReplicaDump]:
    """Every replica in a node's data directory."""
    storage = SystemStorage()
    dumps = []
    for marker in sorted(data.rglob(METADATA_FILE)):
        directory = marker.parent
        topic, _, number = directory.name.rpartition("-")
        if not topic or not number.isdigit() or STRAY in directory.name:
            continue
        watermarks = OffsetCheckpoint(storage, directory.parent / HIGH_WATERMARK_FILE).read()
        batches, start, end = _read(directory)
        epochs = [(int(epoch), int(offset)) for epoch, offset in read_epochs(storage, directory) or ()]
        high_watermark = watermarks.get(TopicPartition(topic, int(number)), 0)
        dumps.append(ReplicaDump(directory.name, node, batches, epochs, high_watermark, end, start))
    return dumps


def _read(directory: Path) -> tuple[list[Batch], int, int]:
    """Batches, start offset, end offset."""
    segments = sorted(directory.glob("*.log"))
    batches: list[Batch] = []
    start = end = int(segments[0].stem) if segments else 0
    for segment in segments:
        for batch, after in _batches(segment.read_bytes()):
            batches.append(batch)
            end = after
    return batches, start, end


def _batches(data: bytes) -> Iterator[tuple[Batch, int]]:
    """Each whole batch, and the offset after it."""
    position = 0
    while position + HEADER_SIZE <= len(data):
        base, length, epoch, _, crc, _, last_delta, *_ = HEADER.unpack_from(data, position)
        yield (base, epoch, crc), base + last_delta + 1
        position += PREFIX_SIZE + length
