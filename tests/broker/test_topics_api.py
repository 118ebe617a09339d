"""Topics through any broker: an old image neither denies a topic that was made nor names one made again since."""

import pytest

from ottla.broker.api.quorum_door import QuorumDoor
from ottla.broker.api.topics import TopicsApi
from ottla.broker.replica import Refused
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import CreatePartitionsRequest, DeleteTopicRequest
from ottla.raft.commands import CreatePartitions, DeleteTopic
from ottla.raft.image import empty_image
from ottla.raft.results import Done, PartitionCreation

from ..simulation.crashing_storage import SeededChance
from .small_quorum import OTHER, TOPIC, A, OneBroker, SmallQuorum


class Channel:
    """A controller that knows how far the quorum is, and takes every command."""

    def __init__(self, quorum: SmallQuorum) -> None:
        self.quorum = quorum
        self.asked: list[object] = []

    async def commit_index(self) -> int:
        return self.quorum.image.index

    async def submit(self, body, timeout_s=None, *, change_id=None):
        self.asked.append(body)
        return (Done() if isinstance(body, DeleteTopic) else PartitionCreation(body.topic_id, body.new_count)), 1


@pytest.fixture
def lagging():
    """A broker whose image is older than what it will have applied once it waits."""
    quorum = SmallQuorum(A)
    broker = OneBroker(quorum)
    channel = Channel(quorum)

    async def wait_applied(index: int, timeout_s: float) -> None:
        if index == quorum.image.index:
            broker.manager.apply_image(quorum.image)

    door = QuorumDoor(manager=broker.manager, channel=channel, wait_applied=wait_applied, timeout_s=5.0)
    api = TopicsApi(
        door=door,
        chance=SeededChance(1),
        default_partitions=1,
        default_replication_factor=None,
    )
    broker.manager.image = empty_image()
    return quorum, broker, api, channel


async def test_a_topic_this_node_has_not_heard_of_is_found(lagging):
    quorum, _, api, channel = lagging
    quorum.create("t", TOPIC, A)
    await api.delete(DeleteTopicRequest("t"))
    await api.grow(CreatePartitionsRequest("t", 4))
    assert [type(body) for body in channel.asked] == [DeleteTopic, CreatePartitions]


async def test_a_topic_made_again_is_the_new_one(lagging):
    quorum, broker, api, channel = lagging
    quorum.create("t", TOPIC, A)
    broker.manager.image = quorum.image
    quorum.decide(DeleteTopic(TOPIC))
    quorum.create("t", OTHER, A)
    await api.delete(DeleteTopicRequest("t"))
    assert channel.asked == [DeleteTopic(OTHER)]


async def test_a_topic_that_nobody_knows_is_refused(lagging):
    _, _, api, channel = lagging
    with pytest.raises(Refused) as refused:
        await api.delete(DeleteTopicRequest("t"))
    assert refused.value.error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert channel.asked == []
