"""`ottla bench` of reading: Ctrl-C ends it, and what goes wrong is said at once, by a code."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from ottla.cli import bench_read
from ottla.cli.bench_read import EndToEndOptions, measure_consume, measure_end_to_end, next_within
from ottla.cli.main import run
from ottla.client import sync
from ottla.client.client import Client, connect
from ottla.client.errors import OttlaError, RecordTooLarge
from ottla.client.testing import LocalCluster, cluster

RECORDS = 20


@pytest.fixture(scope="module")
def servers() -> Iterator[LocalCluster]:
    with cluster(num_partitions=2) as running:
        with sync.connect(running) as client, client.producer() as producer:
            for number in range(RECORDS):
                producer.send("orders", b"%d" % number)
        yield running


@pytest.fixture
async def client(servers: LocalCluster) -> AsyncIterator[Client]:
    async with connect(servers) as connected:
        yield connected


@pytest.fixture
def bench(servers: LocalCluster, capsys: pytest.CaptureFixture[str]) -> Callable[[str], tuple[int, str, str]]:
    def call(words: str) -> tuple[int, str, str]:
        code = run(["bench", *words.split(), "--servers", ",".join(servers)])
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("steps", range(12))
async def test_a_cancellation_that_meets_a_record_is_not_forgotten(steps: int) -> None:
    async def records() -> AsyncIterator[int]:
        while True:
            await asyncio.sleep(0)
            yield 0

    async def read() -> None:
        reading = records()
        while True:
            await next_within(reading, 60)

    task = asyncio.create_task(read())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert task.cancelled()


async def test_a_measurement_ends_when_it_is_cancelled(client: Client) -> None:
    await client.admin.create_topic("ours")
    options = EndToEndOptions("ours", 100, 1_000_000, 5_000, "all")
    task = asyncio.create_task(measure_end_to_end(client, options))
    async with client.consumer("ours") as beside:
        for _ in range(10):
            await anext(beside)
    task.cancel()
    await asyncio.wait([task], timeout=20)
    assert task.cancelled()
    assert not [other for other in asyncio.all_tasks() if "_Sender" in repr(other) or "receive" in repr(other)]


def test_a_group_reads_what_it_has_left(bench: Callable[[str], tuple[int, str, str]]) -> None:
    def records(words: str) -> int:
        code, out, err = bench(f"{words} -o json")
        assert code == 0, err
        return int(json.loads(out)["records"])

    assert records("consume -t orders") == RECORDS
    assert records("consume -t orders --count 1000000 -g readers") == RECORDS
    assert bench("consume -t orders -g readers") == (
        1,
        "",
        "OTTLA-NOTHING-LEFT: readers has read all of orders. "
        "Set it back: ottla group seek readers -t orders --to start\n",
    )


async def test_what_compaction_has_taken_is_not_waited_for(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_read, "_ended_early", lambda *said: pytest.fail(f"waited: {said}"))
    monkeypatch.setattr(bench_read, "IDLE_S", 1.0)
    await client.admin.create_topic("short", partitions=1)
    async with client.producer() as producer:
        for number in range(5):
            await producer.send("short", b"%d" % number)
    real = client.consumer

    def gapped(*arguments: Any, **options: Any) -> Any:  # as after compaction: fewer records than offsets
        made = real(*arguments, **options)
        batches = made.batches

        async def fewer(records: int, wait_s: float) -> AsyncIterator[list[Any]]:
            async for batch in batches(records, wait_s):
                yield batch[1:]

        made.batches = fewer
        return made

    client.consumer = gapped  # type: ignore[assignment]
    assert (await measure_consume(client, "short", None, None))["records"] < 5


async def test_nothing_that_comes_is_an_error(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_read, "IDLE_S", 0.2)
    await client.admin.create_topic("one", partitions=1)
    async with client.producer() as producer:
        await producer.send("one", b"v")
    async with client.consumer("one", group="taken") as owner:
        await anext(owner)
        with pytest.raises(OttlaError) as nothing:
            await measure_consume(client, "one", None, "taken")
    assert nothing.value.code == "OTTLA-NOTHING-CAME"


async def test_a_record_that_cannot_be_sent_ends_it(client: Client) -> None:
    with pytest.raises(RecordTooLarge):  # by the producer
        await measure_end_to_end(client, EndToEndOptions("ours", 2_000_000, 5, 1_000, "all"))
    await client.admin.create_topic("keyed", config={"cleanup.policy": "compact"})
    with pytest.raises(OttlaError) as refused:  # by the leader: it has no key
        await measure_end_to_end(client, EndToEndOptions("keyed", 100, 5, 1_000, "all"))
    assert refused.value.code == "OTTLA-INVALID-RECORD"


async def test_records_of_others_are_passed_over(client: Client) -> None:
    await client.admin.create_topic("shared", partitions=1)

    async def disturb() -> None:
        async with client.producer(linger_ms=0) as producer:
            while True:
                for value in (b"", b"short", None, b"long enough"):
                    await producer.send("shared", value)

    disturbing = asyncio.create_task(disturb())
    result = await measure_end_to_end(client, EndToEndOptions("shared", 8, 200, 500, "all"))
    disturbing.cancel()
    await asyncio.wait([disturbing])
    assert result["records"] == 200
    assert 0 <= result["latency_ms"]["p50"] <= result["latency_ms"]["max"]
