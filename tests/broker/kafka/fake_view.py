"""A broker that remembers what handlers ask of it, and answers as a test says."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from ottla.broker.kafka.caller import Caller
from ottla.broker.kafka.header import Header
from ottla.broker.kafka.router import _handlers
from ottla.broker.kafka.versions import ApiKey
from ottla.broker.kafka.view import Address
from ottla.broker.replica import Refused
from ottla.client.error_codes import ErrorCode
from ottla.log.model import BrokerId, TopicId

TOPIC_ID = TopicId("T" * 21 + "A")


class FakeView:
    """Of a cluster with topic ``t``. ``answer``: to the next request, an error to refuse with, or a function of it."""

    local = BrokerId(1)
    quorum_leader = 1

    def __init__(self, answer: Any = None, *, addresses: dict[int, Address] | None = None) -> None:
        self.answer = answer
        self.asked: list[Any] = []
        self._addresses = {BrokerId(n): a for n, a in (addresses or {1: Address("h", 9092)}).items()}
        topic = SimpleNamespace(topic_id=TOPIC_ID, name="t", partitions=())
        self.image = SimpleNamespace(
            topics={"t": topic},
            topic_names={TOPIC_ID: "t"},
            brokers={number: SimpleNamespace(rack=None) for number in self._addresses},
            topic_by_id=lambda topic_id: topic if topic_id == TOPIC_ID else None,
        )

    async def ask(self, request: Any, answer: Any, *, checked: bool = False) -> Any:
        self.asked.append(request)
        if isinstance(self.answer, ErrorCode):
            raise Refused(self.answer, "no")
        return self.answer(request) if callable(self.answer) else self.answer

    def address(self, caller: Caller, broker_id: BrokerId) -> Address | None:
        return self._addresses.get(broker_id)

    def addresses(self, caller: Caller) -> dict[BrokerId, Address]:
        return self._addresses


async def handled(view: FakeView, entity: Any) -> Any:
    """What a request of kio's is answered with, before it is encoded."""
    key = ApiKey(entity.__api_key__)
    header = Header(key, entity.__version__, 1, "client", 0)
    return await _handlers()[key](view, Caller("10.0.0.9", "10.0.0.1"), header, entity)  # type: ignore[arg-type]


def code_of(answer: Any) -> int:
    """Of the one partition."""
    [topic] = answer["topics"]
    [partition] = topic["partitions"]
    return int(partition["error_code"])


def milliseconds(number: int) -> timedelta:
    return timedelta(milliseconds=number)
