"""A broker speaks for itself: in its own name, and of what is a broker's to ask."""

import pytest
from msgspec.structs import replace

from ottla.broker.control_messages import may_submit
from ottla.log.model import BrokerEpoch, BrokerId, DirectoryId, TopicId
from ottla.raft.commands import (
    AllocateProducerIds,
    AssignNodeId,
    Body,
    Command,
    CreateTopic,
    DeleteTopic,
    DrainBroker,
    FenceBroker,
    RegisterBroker,
    Requester,
    UnfenceBroker,
)

A, B = BrokerId(1), BrokerId(2)
OF_A, OF_B = Requester(A, BrokerEpoch(5), 0), Requester(B, BrokerEpoch(5), 0)
TOPIC = TopicId("A" * 22)
REGISTRATION = RegisterBroker(A, "run", DirectoryId("d"), "host", 1, None, False)


@pytest.mark.parametrize(
    "body",
    [
        AllocateProducerIds(1),
        AssignNodeId(DirectoryId("d"), BrokerId(4)),
        CreateTopic("t", TOPIC),
        DeleteTopic(TOPIC),
        DrainBroker(A, BrokerEpoch(5)),
    ],
)
def test_in_its_own_name_only(body: Body) -> None:
    assert may_submit(A, Command(0, OF_A, body))
    assert not may_submit(A, Command(0, OF_B, body)), "in another's name"
    assert not may_submit(A, Command(0, None, body)), "in nobody's, where a retry would do it twice"


@pytest.mark.parametrize("body", [FenceBroker(B, BrokerEpoch(5)), UnfenceBroker(A, BrokerEpoch(5))])
def test_not_what_the_controller_decides(body: Body) -> None:
    assert not may_submit(A, Command(0, OF_A, body))
    assert not may_submit(A, Command(0, None, body))


def test_it_registers_and_drains_itself_only() -> None:
    assert may_submit(A, Command(0, None, REGISTRATION))
    assert not may_submit(A, Command(0, None, replace(REGISTRATION, broker_id=B)))
    assert not may_submit(A, Command(0, OF_A, DrainBroker(B, BrokerEpoch(5))))
