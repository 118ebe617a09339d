"""A client in another event loop than its own says so at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from ottla.client.client import Client, connect
from ottla.client.errors import OttlaError
from tests.client.fake_broker import FakeCluster
from tests.client.test_consumer import fill

SECONDS_MAX = 20


class Used:
    """A client, a producer and consumers that were used in a loop which has ended, or has not."""

    def __init__(self, servers: str) -> None:
        self.client: Client = connect(servers)

    async def use(self) -> None:
        await self.client.__aenter__()
        self.producer = self.client.producer()
        self.keyed = self.client.producer(linger_ms=10_000)
        await self.producer.send("t", b"v")
        self.consumer = self.client.consumer("t")
        self.member = self.client.consumer("t", group="g")
        for consumer in (self.consumer, self.member):
            for _ in range(6):
                await anext(consumer)


WAYS: dict[str, Callable[[Used], Awaitable[Any]]] = {
    "list_topics": lambda used: used.client.admin.list_topics(),
    "enter": lambda used: used.client.__aenter__(),
    "close": lambda used: used.client.close(),
    "a new producer": lambda used: used.client.producer().send("t", b"v"),
    "send": lambda used: used.producer.send("t", b"v"),
    "send with a key": lambda used: used.producer.send("t", b"v", key=b"k"),
    "flush": lambda used: used.producer.flush(),
    "close the producer": lambda used: used.producer.close(),
    "a new consumer": lambda used: anext(used.client.consumer("t")),
    "a new member": lambda used: anext(used.client.consumer("t", group="h")),
    "the next record": lambda used: anext(used.consumer),
    "the next record of the group": lambda used: anext(used.member),
    "end_offsets": lambda used: used.consumer.end_offsets(),
    "commit": lambda used: used.member.commit(),
    "close the consumer": lambda used: used.consumer.close(),
    "close the member": lambda used: used.member.close(),
}


@pytest.fixture
def used(fake: FakeCluster) -> Iterator[Used]:
    fill(fake.create("t"), 0, 5)
    made = Used(fake.servers)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(made.use())
    yield made
    loop.run_until_complete(made.member.close())
    loop.run_until_complete(made.consumer.close())
    loop.run_until_complete(made.producer.close())
    loop.run_until_complete(made.client.close())
    loop.close()


@pytest.mark.parametrize("way", WAYS)
def test_it_is_told(used: Used, way: str) -> None:
    async def elsewhere() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await WAYS[way](used)

    with pytest.raises(OttlaError) as raised:
        asyncio.run(elsewhere())
    assert raised.value.code == "OTTLA-OTHER-LOOP"
