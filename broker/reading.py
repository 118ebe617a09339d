"""What a leader answers to one partition of a fetch: the same rules for consumers and for followers."""

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import DivergingEpoch, FetchPartition, FetchResult
from ottla.log.errors import CorruptLog, LogError
from ottla.log.log_view import LogView
from ottla.log.model import LeaderEpoch, Offset

from .partition_leader import PartitionLeader
from .replica import Refused, Replica

Answer = tuple[FetchResult, bytes]


def check_epoch(replica: Replica, epoch: LeaderEpoch | None) -> PartitionLeader:
    """The leader's state, if this broker leads in the epoch the reader believes in (KIP-320). Raises Refused."""
    leader = replica.leader
    if epoch is None or epoch == replica.leader_epoch:
        return replica.require_leader()
    if epoch < replica.leader_epoch:
        raise Refused(ErrorCode.FENCED_LEADER_EPOCH, f"epoch {epoch} is over; it is {replica.leader_epoch} now")
    if leader is None and replica.known_leader is None:
        raise Refused(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"{replica.name} is not led here")
    raise Refused(ErrorCode.UNKNOWN_LEADER_EPOCH, f"epoch {epoch} has not reached this broker yet")


def is_in_newest_epoch(log: LogView, asked: FetchPartition) -> bool:
    """The usual position: in our newest epoch, and within our log. It needs no look into the epochs."""
    return (
        asked.last_fetched_epoch == log.latest_epoch
        and log.log_start_offset <= asked.fetch_offset <= log.log_end_offset
    )


def check_position(replica: Replica, asked: FetchPartition) -> DivergingEpoch | None:
    """Where the reader's log leaves ours, if it does: it has bytes of an epoch that we ended earlier or never had.

    Raises Refused where its offset is outside of our log.
    """
    log = replica.log
    if is_in_newest_epoch(log, asked):
        return None
    epoch, offset, end_offset = asked.last_fetched_epoch, asked.fetch_offset, log.log_end_offset
    if epoch is not None and (epoch != log.latest_epoch or offset > end_offset):
        end = log.end_offset_for_epoch(epoch)
        if end is None:
            return DivergingEpoch(epoch, log.log_start_offset)
        if end.leader_epoch < epoch or end.offset < offset:
            return DivergingEpoch(end.leader_epoch, end.offset)
    if not log.log_start_offset <= offset <= end_offset:
        raise Refused(
            ErrorCode.OFFSET_OUT_OF_RANGE,
            f"{replica.name} holds {log.log_start_offset} to {end_offset}, not {offset}",
        )
    return None


def note_damage(replica: Replica, asked: FetchPartition) -> None:
    """Whoever asks found damaged what it was given there before."""
    if asked.damaged:
        replica.on_suspicion(replica, Offset(asked.fetch_offset))


def read(replica: Replica, asked: FetchPartition, max_bytes: int) -> Answer:
    """Answer a consumer with at most ``max_bytes`` of what is committed, or one larger batch. Never raises for the
    reader's mistakes."""
    try:
        leader = check_epoch(replica, asked.current_leader_epoch)
        diverging = check_position(replica, asked)
        note_damage(replica, asked)
    except Refused as refused:
        return refusal(replica, asked, refused.error, str(refused)), b""
    if diverging is not None:
        return answer_of(replica, asked, leader, 0, diverging), b""
    return read_checked(replica, asked, leader, max_bytes, leader.high_watermark)


def read_checked(
    replica: Replica, asked: FetchPartition, leader: PartitionLeader, max_bytes: int, limit: Offset
) -> Answer:
    """Answer a reader whose epoch and position were checked with what is below ``limit``."""
    try:
        offset, size = Offset(asked.fetch_offset), min(max_bytes, asked.max_bytes)
        # Between high watermark and log end a consumer finds nothing yet: it is not out of range (KIP-392's lesson).
        data = replica.log.read(offset, size, limit) if offset < limit and size > 0 else b""
    except LogError as error:
        if isinstance(error, CorruptLog):
            replica.on_suspicion(replica, offset)
        return refusal(replica, asked, ErrorCode.named(error.code), str(error)), b""
    except OSError as error:
        return refusal(replica, asked, ErrorCode.KAFKA_STORAGE_ERROR, f"{replica.name} cannot be read: {error}"), b""
    replica.bytes_out += len(data)
    return answer_of(replica, asked, leader, len(data), None), data


def answer_of(
    replica: Replica, asked: FetchPartition, leader: PartitionLeader, size: int, diverging: DivergingEpoch | None
) -> FetchResult:
    """The answer that is no refusal."""
    return FetchResult(
        topic_id=asked.topic_id,
        partition=asked.partition,
        error=ErrorCode.NONE,
        high_watermark=leader.high_watermark,
        log_start_offset=replica.log.log_start_offset,
        size=size,
        diverging=diverging,
        leader=leader.local,
        leader_epoch=leader.leader_epoch,
    )


def refusal(replica: Replica, asked: FetchPartition, error: ErrorCode, message: str) -> FetchResult:
    """An error that tells the reader where the partition is led, as far as this broker knows (KIP-951)."""
    return FetchResult(
        topic_id=asked.topic_id,
        partition=asked.partition,
        error=error,
        log_start_offset=replica.log.log_start_offset,
        message=message,
        leader=replica.known_leader,
        leader_epoch=replica.leader_epoch if replica.known_leader is not None else None,
    )
