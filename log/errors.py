"""What can go wrong with a log. ``code`` is Kafka's name of the error, for whoever answers a client; the message
says what was found and what to do about it."""

from pathlib import Path

from .model import Offset


class LogError(Exception):
    """Base of all of the log's errors. ``code`` is a Kafka error name."""

    code: str = "UNKNOWN_SERVER_ERROR"


class CorruptBatch(LogError):
    """These bytes are not a batch anyone wrote: cut short, damaged, or never a batch."""

    code = "CORRUPT_MESSAGE"


class InvalidBatch(LogError):
    """A well-formed batch that breaks a rule; ``code`` names the rule."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class RecordTooLarge(LogError):
    """A batch above the topic's max.message.bytes."""

    code = "MESSAGE_TOO_LARGE"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the batch is {size} bytes and the limit is {limit}; send smaller batches or raise max.message.bytes"
        )
        self.size = size
        self.limit = limit


class OutOfOrderSequence(LogError):
    """A batch of an idempotent producer is missing before this one (KIP-98)."""

    code = "OUT_OF_ORDER_SEQUENCE_NUMBER"


class InvalidProducerEpoch(LogError):
    """An older session of a producer id: a zombie."""

    code = "INVALID_PRODUCER_EPOCH"


class UnknownProducerId(LogError):
    """This partition has no state for the producer, and the batch does not start at sequence 0."""

    code = "UNKNOWN_PRODUCER_ID"


class OffsetOutOfRange(LogError):
    """An offset below the log's start or above its end."""

    code = "OFFSET_OUT_OF_RANGE"

    def __init__(self, offset: Offset, log_start_offset: Offset, log_end_offset: Offset) -> None:
        super().__init__(f"offset {offset} is outside of the log, which is [{log_start_offset}, {log_end_offset})")
        self.offset = offset
        self.log_start_offset = log_start_offset
        self.log_end_offset = log_end_offset


class UnexpectedOffset(LogError):
    """Batches from a leader do not continue this log, by their offset or their epoch: the follower must find where
    the logs diverge, and truncate."""

    code = "OFFSET_OUT_OF_RANGE"


class StorageFull(LogError):
    """No space, or less than the reserve. Nothing was written; free some space and it goes on by itself."""

    code = "KAFKA_STORAGE_ERROR"


class StorageFailed(LogError):
    """The disk refused a write or a sync. What it holds can no longer be trusted until the node restarts."""

    code = "KAFKA_STORAGE_ERROR"


class CorruptLog(LogError):
    """A log on disk is damaged where it had been good. The replica is out of service; nothing was deleted."""

    code = "KAFKA_STORAGE_ERROR"


class CorruptCheckpoint(CorruptLog):
    """A small file is not what we wrote."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}; restore the file, or remove it to let the replica be rebuilt")
        self.path = path


class InconsistentTopicId(LogError):
    """A partition's directory belongs to another topic of the same name."""

    code = "INCONSISTENT_TOPIC_ID"
