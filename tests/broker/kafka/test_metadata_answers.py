"""How long an answer to Metadata is remembered."""

from typing import Any

import pytest

from ottla.broker.kafka import metadata
from ottla.broker.kafka.caller import Caller
from ottla.broker.kafka.metadata import MetadataAnswers
from ottla.broker.kafka.versions import ApiKey
from ottla.broker.kafka.view import Address
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import MetadataResponse, TopicMetadata
from ottla.log.model import BrokerId

from .kio_bytes import body_of, inner, read_response, request_class


async def aside(call: Any) -> Any:
    return call()


class FakeView:
    """Of a cluster of one; ``index`` and ``quorum_leader`` change as a test says."""

    def __init__(self) -> None:
        self.index = 1
        self.quorum_leader: int | None = None
        self.asked = 0
        self.topics: tuple[TopicMetadata, ...] = ()

    @property
    def image(self) -> "FakeView":
        return self

    async def ask(self, request: Any, answer: Any) -> MetadataResponse:
        self.asked += 1
        leader: Any = self.quorum_leader
        return MetadataResponse("c", self.index, BrokerId(1), leader, 1, (), self.topics)

    def addresses(self, caller: Caller) -> dict[BrokerId, Address]:
        return {BrokerId(1): Address(caller.local_host, 9092)}


async def test_an_answer_holds_until_the_image_or_the_controller_is_another() -> None:
    view = FakeView()
    answers = MetadataAnswers(view)  # type: ignore[arg-type]
    request = request_class(ApiKey.METADATA, 8)(
        topics=(), include_cluster_authorized_operations=False, include_topic_authorized_operations=False
    )

    async def controller() -> int:
        body = await answers.answer(Caller("", ""), 8, memoryview(body_of(request)), 0, aside)
        return int(read_response(ApiKey.METADATA, 8, body).controller_id)

    assert [await controller(), await controller(), view.asked] == [-1, -1, 1]
    view.quorum_leader = 1  # known again, and nothing new is in the log
    assert [await controller(), await controller(), view.asked] == [1, 1, 2]
    view.index = 2
    assert [await controller(), view.asked] == [1, 3]


def request(*names: str) -> memoryview:
    schema = request_class(ApiKey.METADATA, 4)
    topics = tuple(inner(schema, "topics")(name=name) for name in names)
    return memoryview(body_of(schema(topics=topics, allow_auto_topic_creation=True)))


async def test_what_is_missing_is_looked_for_again() -> None:
    """It may be made without a change of what this node shows: the next request asks for that."""
    view = FakeView()
    answers = MetadataAnswers(view)  # type: ignore[arg-type]
    for error, asked in ((ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, [1, 2]), (ErrorCode.NONE, [3, 3])):
        view.topics = (TopicMetadata(error, "t", None, ()),)
        for times in asked:
            await answers.answer(Caller("", ""), 4, request("t"), 0, aside)
            assert view.asked == times


async def test_each_is_told_the_address_by_which_it_came() -> None:
    answers = MetadataAnswers(FakeView())  # type: ignore[arg-type]
    for host in ("10.0.0.1", "10.0.0.2", "10.0.0.1"):
        body = await answers.answer(Caller("", host), 4, request(), 0, aside)
        assert [broker.host for broker in read_response(ApiKey.METADATA, 4, body).brokers] == [host]


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "REMEMBERED_BYTES_MAX", 4_000)
    answers = MetadataAnswers(FakeView())  # type: ignore[arg-type]
    for number in range(200):
        await answers.answer(Caller("", ""), 4, request(f"topic-{number}"), 0, aside)
        held = sum(len(key.asked) + len(body) for key, (_, body) in answers._remembered.items())
        assert 0 < held <= 4_000
