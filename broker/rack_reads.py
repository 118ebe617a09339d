"""Reading near by (KIP-392): a leader names a follower in the reader's rack, which serves what it knows committed."""

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import FetchPartition, FetchResult
from ottla.log.errors import LogError
from ottla.log.model import BrokerId, Offset
from ottla.raft.image import MetadataImage

from .partition_leader import PartitionLeader
from .reading import Answer, check_position, refusal
from .replica import Refused, Replica


def read_replica(leader: PartitionLeader, image: MetadataImage, offset: Offset, rack: str) -> BrokerId | None:
    """Who in that rack is in sync and has what is asked for, the furthest first; None where the leader is as near, or
    nobody is nearer."""
    own = image.brokers.get(leader.local)
    if not rack or (own is not None and own.rack == rack):
        return None
    near: list[tuple[Offset, BrokerId]] = []
    for broker_id, follower in leader.followers.items():
        broker = image.brokers.get(broker_id)
        if broker is None or broker.rack != rack or broker.fenced or broker_id not in leader.isr.committed:
            continue
        if follower.live and follower.log_end is not None and follower.log_end >= offset:
            near.append((follower.log_end, broker_id))
    return max(near, key=lambda found: (found[0], -found[1]))[1] if near else None


def read_as_follower(replica: Replica, asked: FetchPartition, max_bytes: int) -> Answer:
    """What is below this follower's own high watermark, to a reader that its leader sent in the same epoch. Whatever
    is wrong sends the reader back to the leader, which alone tells of truncations."""
    log, limit = replica.log, replica.high_watermark
    try:
        _check(replica, asked)
        offset, size = Offset(asked.fetch_offset), min(max_bytes, asked.max_bytes)
        data = log.read(offset, size, limit) if offset < limit and size > 0 else b""
    except Refused as refused:
        return refusal(replica, asked, refused.error, str(refused)), b""
    except LogError as error:
        return refusal(replica, asked, ErrorCode.named(error.code), str(error)), b""
    except OSError as error:
        return refusal(replica, asked, ErrorCode.KAFKA_STORAGE_ERROR, f"{replica.name} cannot be read: {error}"), b""
    replica.bytes_out += len(data)
    return FetchResult(
        topic_id=asked.topic_id,
        partition=asked.partition,
        error=ErrorCode.NONE,
        high_watermark=limit,
        log_start_offset=log.log_start_offset,
        size=len(data),
        leader=replica.known_leader,
        leader_epoch=replica.leader_epoch,
    ), data


def _check(replica: Replica, asked: FetchPartition) -> None:
    epoch = asked.current_leader_epoch
    if epoch is None or replica.known_leader is None:
        raise Refused(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"{replica.name} is not led here")
    if epoch < replica.leader_epoch:
        raise Refused(ErrorCode.FENCED_LEADER_EPOCH, f"epoch {epoch} is over; it is {replica.leader_epoch} now")
    if epoch > replica.leader_epoch:
        raise Refused(ErrorCode.UNKNOWN_LEADER_EPOCH, f"epoch {epoch} has not reached this broker yet")
    if asked.fetch_offset > replica.log.log_end_offset:
        raise Refused(ErrorCode.OFFSET_NOT_AVAILABLE, f"{replica.name} has not come so far here")
    # Above the high watermark known here the log may still be cut: it says nothing about the reader's.
    if asked.fetch_offset <= replica.high_watermark and check_position(replica, asked) is not None:
        raise Refused(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"{replica.name} is not what was read; its leader knows")
