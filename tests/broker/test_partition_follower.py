"""The follower's rules: truncate to the common epoch, never to the high watermark."""

import pytest

from ottla.broker.partition_follower import PartitionFollower
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import DivergingEpoch, FetchResult
from ottla.log.leader_epochs import LeaderEpochCache
from ottla.log.model import BrokerId, LeaderEpoch, Offset, TopicId

TOPIC = TopicId("t" * 22)


def follower() -> PartitionFollower:
    return PartitionFollower(topic_id=TOPIC, partition=0, leader=BrokerId(2), leader_epoch=LeaderEpoch(5))


def result(**fields) -> FetchResult:
    return FetchResult(topic_id=TOPIC, partition=0, error=fields.pop("error", ErrorCode.NONE), **fields)


def epochs(*starts: tuple[int, int]) -> LeaderEpochCache:
    cache = LeaderEpochCache()
    for epoch, start in starts:
        cache.assign(LeaderEpoch(epoch), Offset(start))
    return cache


def answer(cache: LeaderEpochCache, log_end: int, diverging: tuple[int, int]) -> Offset | None:
    def end_offset(epoch):
        return cache.end_offset_for(epoch, Offset(log_end))

    step = follower().answered(
        result(diverging=DivergingEpoch(LeaderEpoch(diverging[0]), Offset(diverging[1]))), Offset(log_end), end_offset
    )
    assert not step.append
    return step.truncate_to


def test_data_is_appended_and_the_high_watermark_follows():
    step = follower().answered(result(size=100, high_watermark=Offset(7)), Offset(9), lambda epoch: None)
    assert (step.truncate_to, step.append, step.high_watermark, step.wait) == (None, True, 7, False)


@pytest.mark.parametrize("error", [ErrorCode.FENCED_LEADER_EPOCH, ErrorCode.UNKNOWN_TOPIC_ID])
def test_an_error_changes_nothing(error: ErrorCode):
    step = follower().answered(result(error=error, high_watermark=Offset(3)), Offset(9), lambda epoch: None)
    assert step.wait
    assert step.truncate_to is None
    assert step.high_watermark is None


def test_a_longer_tail_of_the_common_epoch_is_cut_where_the_leader_ended_it():
    assert answer(epochs((1, 0), (2, 10)), 20, (2, 15)) == 15


def test_an_epoch_we_do_not_have_cuts_to_our_largest_below_it():
    """KIP-279: the next fetch asks about that epoch, until one is common."""
    assert answer(epochs((1, 0), (4, 10)), 20, (3, 12)) == 10


def test_nothing_in_common_cuts_everything():
    assert answer(epochs((4, 0)), 20, (3, 12)) == 0


def test_the_question_carries_both_epochs():
    asked = follower().ask(Offset(9), LeaderEpoch(3), 1000)
    assert (asked.fetch_offset, asked.current_leader_epoch, asked.last_fetched_epoch) == (9, 5, 3)
