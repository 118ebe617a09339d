"""A partition's follower for one leader epoch: what to ask its leader, and what to do with the answer. Pure."""

from collections.abc import Callable
from typing import NamedTuple

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import FetchPartition, FetchResult
from ottla.log.model import BrokerId, LeaderEpoch, Offset, OffsetAndEpoch, TopicId


class FollowerStep(NamedTuple):
    """What to do with a leader's answer, in this order."""

    start_anew_at: Offset | None = None  # everything here is below where the leader's log starts: drop it all
    truncate_to: Offset | None = None  # first
    append: bool = False  # then the answer's batches, to disk
    high_watermark: Offset | None = None  # visible only after the append returns; not above the log's end
    log_start: Offset | None = None  # then, not above the high watermark: nothing below is read any more
    wait: bool = False  # nothing can be done until the image or the leader moves on


class PartitionFollower:
    """Follows ``leader`` in ``leader_epoch``. The log itself is the only position it keeps."""

    def __init__(self, *, topic_id: TopicId, partition: int, leader: BrokerId, leader_epoch: LeaderEpoch) -> None:
        self.topic_id = topic_id
        self.partition = partition
        self.leader = leader
        self.leader_epoch = leader_epoch

    def ask(
        self,
        log_end: Offset,
        last_epoch: LeaderEpoch | None,
        max_bytes: int,
        log_start: Offset = Offset(0),  # noqa: B008
        *,
        damaged: bool = False,
    ) -> FetchPartition:
        """The next fetch, which acknowledges everything below ``log_end``, and that nothing below ``log_start`` is
        read here any more. ``damaged``: what came for this was."""
        return FetchPartition(
            topic_id=self.topic_id,
            partition=self.partition,
            fetch_offset=log_end,
            current_leader_epoch=self.leader_epoch,
            last_fetched_epoch=last_epoch,
            max_bytes=max_bytes,
            log_start_offset=log_start,
            damaged=damaged,
        )

    def answered(
        self,
        result: FetchResult,
        log_end: Offset,
        end_offset_for_epoch: Callable[[LeaderEpoch], OffsetAndEpoch | None],
    ) -> FollowerStep:
        """Decide on the leader's answer. ``end_offset_for_epoch`` is the local log's."""
        if result.error is not ErrorCode.NONE:
            start = result.log_start_offset
            is_below = result.error is ErrorCode.OFFSET_OUT_OF_RANGE and start is not None and log_end < start
            if is_below and result.leader_epoch == self.leader_epoch:
                return FollowerStep(start_anew_at=start)
            return FollowerStep(wait=True)
        if result.diverging is not None:
            return FollowerStep(truncate_to=self._common_end(result, log_end, end_offset_for_epoch))
        return FollowerStep(
            append=result.size > 0, high_watermark=result.high_watermark, log_start=result.log_start_offset
        )

    @staticmethod
    def _common_end(
        result: FetchResult,
        log_end: Offset,
        end_offset_for_epoch: Callable[[LeaderEpoch], OffsetAndEpoch | None],
    ) -> Offset:
        """Where the local log stops being surely the leader's.

        Never the high watermark (KIP-101). Where we lack the leader's epoch we cut to the end of our largest one below
        it; the next fetch asks about that epoch, and so on until one is common (KIP-279).
        """
        diverging = result.diverging
        assert diverging is not None
        ours = end_offset_for_epoch(diverging.leader_epoch)
        if ours is None:
            return Offset(0)
        if ours.leader_epoch == diverging.leader_epoch:
            return min(ours.offset, diverging.end_offset, log_end)
        return min(ours.offset, log_end)
