"""What takes long to read, to find and to write holds nobody else up."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from ottla.broker.kafka.caller import Caller
from ottla.broker.kafka.configs import describe_configs
from ottla.broker.kafka.header import read_header
from ottla.broker.kafka.router import answer_cold, read_body
from ottla.broker.kafka.versions import ApiKey
from ottla.client.protocol import DescribeConfigsResponse

from .kio_bytes import frame_of, inner, request_class

T = TypeVar("T")


class Aside:
    """In place of a thread."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, call: Callable[[], T]) -> T:
        self.calls += 1
        return call()


class FakeView:
    """Of a cluster with so many topics."""

    quorum_leader = 1

    def __init__(self, topics: int) -> None:
        self.topics = dict.fromkeys(map(str, range(topics)))
        self.brokers: dict[int, Any] = {}
        self.asked = 0

    @property
    def image(self) -> "FakeView":
        return self

    async def ask(self, request: Any, answer: Any) -> DescribeConfigsResponse:
        self.asked += 1
        return DescribeConfigsResponse(())


async def calls_for(entity: Any, view: FakeView) -> tuple[int, int]:
    """How often the request was read aside, and its answer written so; schemas are in memory."""
    frame = memoryview(frame_of(entity))
    header, caller, aside = read_header(frame), Caller("", ""), Aside()
    await read_body(header, frame, aside)
    aside.calls = 0
    request = await read_body(header, frame, aside)
    read = aside.calls
    await answer_cold(view, caller, header, request, aside)  # type: ignore[arg-type]
    return read, aside.calls - read


@pytest.mark.parametrize(("topics", "aside"), [(0, 0), (20, 0), (5_000, 1)])
async def test_a_large_answer_is_written_aside(topics: int, aside: int) -> None:
    schema = request_class(ApiKey.LIST_CONFIG_RESOURCES, 1)
    assert await calls_for(schema(resource_types=()), FakeView(topics)) == (0, aside)


@pytest.mark.parametrize(("resources", "aside"), [(3, 0), (5_000, 1)])
async def test_a_large_request_is_read_aside(resources: int, aside: int) -> None:
    assert await calls_for(describe(map(str, range(resources))), FakeView(0)) == (aside, aside)


async def test_others_get_their_turn_while_much_is_described() -> None:
    view, seen = FakeView(0), []

    async def another() -> None:
        seen.append(view.asked)

    others = asyncio.create_task(another())
    await describe_configs(view, Caller("", ""), None, describe(map(str, range(1_000))))  # type: ignore[arg-type]
    await others
    assert seen[0] < 100


async def test_what_is_asked_for_twice_is_told_once() -> None:
    view = FakeView(0)
    answer = await describe_configs(view, Caller("", ""), None, describe("t" for _ in range(20_000)))  # type: ignore[arg-type]
    assert (len(answer["results"]), view.asked) == (1, 1)


def describe(names: Any) -> Any:
    schema = request_class(ApiKey.DESCRIBE_CONFIGS, 4)
    resource = inner(schema, "resources")
    resources = tuple(resource(resource_type=2, resource_name=name, configuration_keys=None) for name in names)
    return schema(resources=resources, include_synonyms=False, include_documentation=False)
