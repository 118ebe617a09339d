"""Bugs in the log on disk, and in what it remembers of producers."""

from typing import Any

from ottla.log import checkpoint, producer_state
from ottla.log.manager import LogManager
from ottla.log.model import Offset
from ottla.log.partition_log import PartitionLog
from ottla.log.producer_state import ProducerStateManager
from ottla.log.recovery import _Recovery
from ottla.log.segments import SegmentList

from .base import Bug, put, put_at, together


def _forgets_producers(log: Any, *arguments: Any, init: Any = PartitionLog.__init__) -> None:
    init(log, *arguments)
    log._producers.clear()


def _follower_learns_nothing(log: Any, data: Any, *, append: Any = PartitionLog.append_as_follower) -> Any:
    producers, log._producers = log._producers, ProducerStateManager()
    try:
        return append(log, data)
    finally:
        log._producers = producers


def _newest_is_new(batch: Any, producer: Any, *, find: Any = producer_state._find_or_check_next) -> Any:
    newest = producer.batches[-1]
    if (newest.base_sequence, newest.last_sequence) == (batch.base_sequence, batch.last_sequence):
        return None
    return find(batch, producer)


def _end_at_recovery_point(log: Any, *arguments: Any, init: Any = PartitionLog.__init__) -> None:
    init(log, *arguments)
    log.truncate_to(Offset(max(log.recovery_point, log.log_start_offset)))


def _torn_tail_stays(recovery: Any, number: int, position: int, error: Any) -> int:
    return 0


def _believe_any_directory(storage: Any, directory: Any, topic_id: Any) -> None:
    if storage.exists(directory):
        checkpoint.write_partition_metadata(storage, directory, topic_id)
    else:
        checkpoint.bind_to_topic(storage, directory, topic_id)


def _closed_and_left(manager: LogManager, topic_partition: Any, topic_id: Any) -> Any:
    log = manager._logs.pop(topic_partition, None)
    if log is not None:
        log.close()
    return manager.path / str(topic_partition)


LOG = {
    "no_idempotence": Bug(
        put(ProducerStateManager, "check", lambda *_: None), "A batch that is sent again is stored once", "KIP-98"
    ),
    "dedup_lost_at_restart": Bug(
        put(PartitionLog, "__init__", _forgets_producers), "Producers are rebuilt from the log at a restart", "KIP-98"
    ),
    "dedup_lost_at_failover": Bug(
        put(PartitionLog, "append_as_follower", _follower_learns_nothing),
        "Followers learn of producers as they append",
        "KIP-98",
    ),
    "dedup_survives_truncation": Bug(
        put(ProducerStateManager, "holds_from", lambda producers, offset: False),
        "A truncation takes back what was known of producers",
        "KIP-98",
    ),
    "dedup_off_by_one": Bug(
        put_at("ottla.log.producer_state._find_or_check_next", _newest_is_new),
        "The newest batch is one of the five that are remembered",
        "KIP-98, Redpanda #3039",
    ),
    "log_ends_at_recovery_point": Bug(
        put(PartitionLog, "__init__", _end_at_recovery_point),
        "A log ends where its last whole batch does, synced or not",
        "Kafka log recovery",
    ),
    "torn_tail_kept": Bug(put(_Recovery, "_judge", _torn_tail_stays), "A torn tail is cut off", "Kafka log recovery"),
    "recovery_point_unsynced": Bug(
        put(SegmentList, "sync_above", lambda segments, recovery_point: None),
        "The recovery point is what a sync has made durable",
        "Kafka log recovery",
    ),
    "deleted_log_reused": Bug(
        together(
            put(LogManager, "_set_aside", _closed_and_left),
            put_at("ottla.log.partition_log.bind_to_topic", _believe_any_directory),
        ),
        "A topic made again under a name has nothing of the one before",
        "KIP-516",
    ),
}
