"""How long an answer to Metadata is remembered."""

from typing import Any

from ottla.broker.kafka.caller import Caller
from ottla.broker.kafka.metadata import MetadataAnswers
from ottla.broker.kafka.versions import ApiKey
from ottla.broker.kafka.view import Address
from ottla.client.protocol import MetadataResponse
from ottla.log.model import BrokerId

from .kio_bytes import body_of, read_response, request_class


async def aside(call: Any) -> Any:
    return call()


class FakeView:
    """Of a cluster of one; ``index`` and ``quorum_leader`` change as a test says."""

    def __init__(self) -> None:
        self.index = 1
        self.quorum_leader: int | None = None
        self.asked = 0

    @property
    def image(self) -> "FakeView":
        return self

    async def ask(self, request: Any, answer: Any) -> MetadataResponse:
        self.asked += 1
        leader: Any = self.quorum_leader
        return MetadataResponse("c", self.index, BrokerId(1), leader, 1, (), ())

    def addresses(self, caller: Caller) -> dict[BrokerId, Address]:
        return {BrokerId(1): Address("h", 9092)}


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
