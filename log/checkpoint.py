"""Small files that are replaced as a whole: they hold the old content or the new, never a mixture.

Formats are Kafka's. An offset checkpoint, one a data directory:

    0
    <number of entries>
    . 0 <CRC-32C of the lines below>
    <topic> <partition> <offset>
    ...

The first entry is ours: no topic is called ".". Kafka reads it as of a partition that it does not have; a file without
it, as Kafka writes it, is believed.
"""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from .checksum import crc32c
from .errors import CorruptCheckpoint, InconsistentTopicId
from .leader_epochs import EpochStart, decode_epochs, encode_epochs
from .model import BrokerEpoch, Offset, TopicId, TopicPartition
from .storage import Storage

EPOCHS_FILE = "leader-epoch-checkpoint"
METADATA_FILE = "partition.metadata"
CLEAN_SHUTDOWN_FILE = ".kafka_cleanshutdown"
HIGH_WATERMARK_FILE = "replication-offset-checkpoint"
RECOVERY_POINT_FILE = "recovery-point-offset-checkpoint"
LOG_START_FILE = "log-start-offset-checkpoint"
CLEANED_FILE = "cleaner-offset-checkpoint"
CRC_ENTRY = ". 0 "
TOPIC_ID_LENGTH = 22


def write_atomically(storage: Storage, path: Path, data: bytes, *, durable: bool = True) -> None:
    """Give ``path`` the content ``data``. On OSError the old content is still there.

    ``durable`` waits for the platter, twice. Without it a power cut may leave the file torn: only for what its
    reader checks and can rebuild.
    """
    temporary = path.with_name(path.name + ".tmp")
    storage.remove(temporary)
    file = storage.open(temporary, create=True)
    try:
        file.append(data)
        if durable:
            file.sync()
    except OSError:
        file.close()
        with suppress(OSError):
            storage.remove(temporary)
        raise
    file.close()
    storage.replace(temporary, path)
    if durable:
        storage.sync_directory(path.parent)


def _read(storage: Storage, path: Path) -> bytes | None:
    try:
        return storage.read_bytes(path)
    except FileNotFoundError:
        return None


class OffsetCheckpoint:
    """Offsets by partition in one file of a data directory."""

    def __init__(self, storage: Storage, path: Path) -> None:
        self.path = path
        self._storage = storage
        self._lock = threading.Lock()

    def read(self) -> dict[TopicPartition, Offset]:
        """Empty without a file. Raises CorruptCheckpoint."""
        data = _read(self._storage, self.path)
        if data is None:
            return {}
        try:
            return _decode_offsets(data)
        except ValueError as error:
            raise CorruptCheckpoint(self.path, str(error)) from error

    def write(self, capture: Callable[[], Mapping[TopicPartition, Offset]]) -> None:
        """Replace the file, durably, by what ``capture`` returns. Blocks, for executors; of two writers at once, the
        one that captured later writes later."""
        with self._lock:
            write_atomically(self._storage, self.path, _encode_offsets(capture()))


def _encode_offsets(offsets: Mapping[TopicPartition, Offset]) -> bytes:
    lines = "".join(f"{tp.topic} {tp.partition} {offset}\n" for tp, offset in sorted(offsets.items()))
    return f"0\n{len(offsets) + 1}\n{CRC_ENTRY}{crc32c(lines.encode())}\n{lines}".encode()


def _decode_offsets(data: bytes) -> dict[TopicPartition, Offset]:
    text = data.decode()
    if not text.endswith("\n"):
        raise ValueError("the last line is cut short")
    version, count, *lines = text[:-1].split("\n")
    if version != "0":
        raise ValueError(f"version {version!r} is not known")
    if int(count) != len(lines):
        raise ValueError(f"it has {len(lines)} entries and says {count}")
    if lines and lines[0].startswith(CRC_ENTRY):
        crc, *lines = lines
        content = "".join(f"{line}\n" for line in lines).encode()
        if crc != f"{CRC_ENTRY}{crc32c(content)}":
            raise ValueError("its CRC is wrong")
    offsets = {}
    for line in lines:
        topic, partition, offset = line.split(" ")
        if int(offset) < 0 or int(partition) < 0:
            raise ValueError(f"entry {line!r} is negative")
        offsets[TopicPartition(topic, int(partition))] = Offset(int(offset))
    return offsets


def read_epochs(storage: Storage, directory: Path) -> tuple[EpochStart, ...] | None:
    """A partition's leader epochs; None if the file is missing or torn: they are then rebuilt from the log."""
    data = _read(storage, directory / EPOCHS_FILE)
    if data is None:
        return None
    try:
        return decode_epochs(data)
    except ValueError:
        return None


def write_epochs(storage: Storage, directory: Path, entries: tuple[EpochStart, ...], *, durable: bool = False) -> None:
    """Replace a partition's leader epochs. Not durably by default: an append must not wait for the platter, and
    recovery takes the epochs of unsynced batches from the batches."""
    write_atomically(storage, directory / EPOCHS_FILE, encode_epochs(entries), durable=durable)


def read_partition_metadata(storage: Storage, directory: Path) -> TopicId | None:
    """The id of the topic a directory belongs to; None without the file. Raises CorruptCheckpoint."""
    path = directory / METADATA_FILE
    data = _read(storage, path)
    if data is None:
        return None
    lines = data.decode("utf-8", "replace").splitlines()
    if len(lines) != 2 or lines[0] != "version: 0" or not lines[1].startswith("topic_id: "):
        raise CorruptCheckpoint(path, f"it is not a version 0 partition.metadata: {data[:80]!r}")
    topic_id = lines[1].removeprefix("topic_id: ")
    if len(topic_id) != TOPIC_ID_LENGTH:
        raise CorruptCheckpoint(path, f"{topic_id!r} is not a topic id")
    return TopicId(topic_id)


def write_partition_metadata(storage: Storage, directory: Path, topic_id: TopicId) -> None:
    """Bind a directory to a topic, durably."""
    write_atomically(storage, directory / METADATA_FILE, f"version: 0\ntopic_id: {topic_id}".encode())


def bind_to_topic(storage: Storage, directory: Path, topic_id: TopicId) -> None:
    """Make a partition's directory and write whose it is, or check that. Raises InconsistentTopicId."""
    if not storage.exists(directory):
        storage.mkdir(directory)
        storage.sync_directory(directory.parent)
    found = read_partition_metadata(storage, directory)
    if found == topic_id:
        return
    if found is not None:
        raise InconsistentTopicId(
            f"{directory} belongs to topic id {found}, not {topic_id}; it is an earlier topic's of the same name"
        )
    if any(name.endswith(".log") for name in storage.listdir(directory)):
        raise InconsistentTopicId(f"{directory} holds a log and does not say of which topic; set it aside")
    write_partition_metadata(storage, directory, topic_id)


class _CleanShutdown(msgspec.Struct, rename="camel"):
    version: int
    broker_epoch: int


def read_clean_shutdown(storage: Storage, data_directory: Path) -> BrokerEpoch | None:
    """The broker epoch of the run that stopped cleanly; None if the last one did not say so in a way we trust."""
    data = _read(storage, data_directory / CLEAN_SHUTDOWN_FILE)
    if data is None:
        return None
    try:
        marker = msgspec.json.decode(data, type=_CleanShutdown)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return BrokerEpoch(marker.broker_epoch) if marker.version == 0 else None


def write_clean_shutdown(storage: Storage, data_directory: Path, broker_epoch: BrokerEpoch) -> None:
    """Everything is flushed and this process is about to end (KIP-966: the marker names the broker epoch)."""
    data = msgspec.json.encode(_CleanShutdown(version=0, broker_epoch=broker_epoch))
    write_atomically(storage, data_directory / CLEAN_SHUTDOWN_FILE, data)
