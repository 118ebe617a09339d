"""What a member asks its coordinator about offsets."""

from types import SimpleNamespace
from typing import Any

from ottla.client.commits import Commits, Identity
from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import FetchedOffset, OffsetFetchRequest, OffsetFetchResponse
from ottla.log.model import TopicPartition

KEYS = frozenset(TopicPartition(topic, number) for topic in ("orders", "bills", "letters") for number in range(20))


class Coordinator:
    """Knows of no commits."""

    group = "readers"
    cluster = SimpleNamespace()

    def __init__(self) -> None:
        self.asked: list[OffsetFetchRequest] = []

    async def ask(self, request: OffsetFetchRequest, answer_type: Any, *, timeout_s: float) -> OffsetFetchResponse:
        self.asked.append(request)
        return OffsetFetchResponse(
            ErrorCode.NONE, tuple(FetchedOffset(each.topic, each.partition) for each in request.partitions or ())
        )


async def test_what_is_asked_has_an_order_that_no_hash_decides() -> None:
    coordinator = Coordinator()
    commits = Commits(coordinator, lambda: Identity("m", 1), lambda: KEYS, lambda: None)  # type: ignore[arg-type]
    assert set(await commits.fetch(KEYS)) == KEYS
    (request,) = coordinator.asked
    assert [(each.topic, each.partition) for each in request.partitions or ()] == sorted(KEYS)
