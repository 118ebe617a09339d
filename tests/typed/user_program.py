"""What a user of the package writes, for mypy --strict (`tox -e checks`) and `tox -e pyright`: nothing here is run."""

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import assert_type

import ottla.client as ottla
import ottla.client.sync as blocking
from ottla.client.testing import LocalCluster, cluster
from ottla.client.tracing import trace_context, trace_headers


@dataclass
class Order:
    number: int
    item: str


class Reversed:
    """A codec of one's own."""

    def encode(self, value: str, /) -> bytes:
        return value[::-1].encode()

    def decode(self, data: bytes, /) -> str:
        return data.decode()[::-1]


async def administers(client: ottla.Client) -> None:
    made = await client.admin.create_topic("orders", partitions=6, config={"retention.ms": 604_800_000})
    assert_type(made.name, str)
    described = await client.admin.describe_topic("orders")
    for partition in described.partitions:
        start: int | None = partition.start_offset
        print(start)
    for node in (await client.admin.describe_cluster()).nodes:
        assert_type(node.endpoint.host, str)
    assert_type(await client.admin.delete_records("orders", {0: 5, 1: None}), dict[int, int])
    assert_type(await client.admin.offsets_for_time("orders", 1_700_000_000_000), dict[int, int])
    changed = await client.admin.move_partitions({("orders", 3): [1, 2, 3], ("orders", 4): None})
    print(changed.changed, changed.failed)
    await client.admin.drain_node(2)
    await client.admin.delete_topic("orders", validate_only=True)


async def administers_groups(client: ottla.Client) -> None:
    listed = await client.admin.list_groups()
    assert_type(listed, ottla.GroupList)
    print([group.group_id for group in listed.groups], dict(listed.unanswered))
    described = await client.admin.describe_group("billing")
    assert_type(described, ottla.GroupDescription)
    assert_type(described.members, tuple[ottla.GroupMember, ...])
    committed = {(p.topic, p.partition): p.committed for p in described.partitions if p.committed is not None}
    for to in ("earliest", "@-1h", datetime.now(UTC), timedelta(hours=1)):
        assert_type(await client.admin.set_offsets("billing", to, topics=["orders"]), tuple[ottla.OffsetChange, ...])
    await client.admin.set_offsets("billing", committed, validate_only=True)
    await client.admin.set_offsets("billing", {("orders", 3): 5, ("orders", 4): "latest"})
    forgotten = await client.admin.delete_offsets("billing", ["refunds", ("orders", 3)])
    assert_type(forgotten, dict[tuple[str, int], int])
    await client.admin.delete_group("billing")


async def produces(client: ottla.Client) -> None:
    async with client.producer(acks="all", compression="zstd", linger_ms=1) as producer:
        assert_type(producer, ottla.Producer[bytes, bytes])
        stored = await producer.send("orders", b"v", key=b"k", headers={"h": b"x"})
        assert_type(stored, ottla.RecordMetadata)
        assert_type(stored.offset, int | None)
        future = producer.send_nowait("orders", None, key=b"k", headers=[("h", None)])
        assert_type(future, asyncio.Future[ottla.RecordMetadata])
        await producer.flush()
        assert_type(producer.metrics().latency_ms_p99, float | None)
    async with client.producer(key=str, value=Order, interceptors=[trace_headers(inject)]) as typed:
        assert_type(typed, ottla.Producer[str, Order])
        await typed.send("orders", Order(1, "tea"), key="customer-7")
    async with client.producer(value=Reversed()) as own:
        await own.send("orders", "text")


def inject(carrier: dict[str, str]) -> None:
    carrier["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def consumes(client: ottla.Client) -> None:
    async with client.consumer("orders", start="earliest", partitions=[0, 1]) as consumer:
        assert_type(consumer, ottla.Consumer[bytes, bytes])
        assert_type(await anext(consumer), ottla.ConsumerRecord[bytes, bytes])
        async for record in consumer:
            assert_type(record.value, bytes | None)
            assert_type(record.headers, tuple[tuple[str, bytes | None], ...])
            break
        async for batch in consumer.batches(max_records=500, max_wait=0.2):
            assert_type(batch, list[ottla.ConsumerRecord[bytes, bytes]])
            break
        assert_type(consumer.position(0), int | None)
        assert_type(await consumer.end_offsets(), dict[int, int])
        assert_type(await consumer.offsets_for_times({0: 1}), dict[int, int | None])
        await consumer.seek("orders", 0, "latest")


async def consumes_in_a_group(client: ottla.Client) -> None:
    async with client.consumer(["orders", "refunds"], group="billing", key=str, value=Order) as member:
        assert_type(member, ottla.GroupConsumer[str, Order])
        async for record in member:
            assert_type(record.key, str | None)
            assert_type(record.value, Order | None)
            print(trace_context(record, dict))
            await member.commit({(record.topic, record.partition): record.offset + 1})
            break
        assert_type(member.position("orders", 0), int | None)
        for key, behind in member.lag().items():
            print(key.topic, key.partition, behind)
        member.pause(("orders", 0))


async def streams(client: ottla.Client) -> AsyncIterator[int]:
    async with client.consumer("orders") as consumer:
        async for record in consumer.read_to_end():
            yield record.offset


async def fails(client: ottla.Client) -> None:
    try:
        await client.admin.describe_topic("absent")
    except ottla.TopicNotFound as error:
        assert_type(error.code, str)
        assert_type(error.retriable, bool)
        assert_type(error.hint, str)
    except ottla.ConnectFailed as error:
        for address, problem in error.attempts:
            print(address, problem)


def blocks() -> Iterator[int]:
    with blocking.connect("127.0.0.1:7080") as client:
        client.admin.create_topic("letters", partitions=1)
        assert_type(client.admin.list_groups(), ottla.GroupList)
        with client.producer() as producer:
            assert_type(producer.send("letters", b"a"), ottla.RecordMetadata)
            assert_type(producer.send_nowait("letters", b"b"), concurrent.futures.Future[ottla.RecordMetadata])
            producer.flush()
        with client.consumer("letters", group="readers") as member:
            for record in member:
                assert_type(record.value, bytes | None)
                member.commit()
                break
        with client.consumer("letters", value=str) as consumer:
            for text in consumer.read_to_end():
                assert_type(text.value, str | None)
                yield text.offset


async def tests_with_a_cluster() -> None:
    async with cluster(nodes=3, num_partitions=1) as servers:
        assert_type(servers, LocalCluster)
        async with ottla.connect(servers) as client:
            await produces(client)
        servers.kill(2)
        servers.partition({1}, {2, 3})
        servers.heal()
        servers.start(2)


async def main() -> None:
    async with ottla.connect("127.0.0.1:7080,127.0.0.1:7081") as client:
        assert_type(client, ottla.Client)
        await administers(client)
        await administers_groups(client)


if __name__ == "__main__":
    asyncio.run(main())
