"""What a program gives a consumer that no consumer can take is refused at once, with a code, and breaks nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from ottla.client.client import connect
from ottla.client.errors import ConfigError, OttlaError
from ottla.client.reading import NotAssigned
from tests.client.fake_broker import FakeCluster
from tests.client.test_consumer import fill
from tests.client.test_group_consumer import QUICK, in_group, soon, until

GROUPED = pytest.mark.parametrize("grouped", [{}, {"group": "g", **QUICK}], ids=["alone", "in a group"])
NO_OFFSETS = [-1, 1 << 63, 1 << 70, 1.5, True, None, b"1", "1", "middle"]


@GROUPED
@pytest.mark.parametrize("offset", NO_OFFSETS, ids=repr)
async def test_a_seek_to_what_is_no_offset_is_refused_and_moves_nothing(offset: Any, grouped: dict[str, Any]) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        async with client.consumer("t", **grouped) as consumer:
            await soon(anext(consumer))
            with pytest.raises(ConfigError):
                await soon(consumer.seek("t", 0, offset))
            assert (await soon(anext(consumer))).offset == 1
        assert cluster.groups.offsets.get(("t", 0), 2) == 2


OF_A_TOPIC: dict[str, Callable[[Any], Any]] = {
    "pause text": lambda consumer: consumer.pause("0"),
    "pause a pair": lambda consumer: consumer.pause(("t", 0)),
    "pause a list": lambda consumer: consumer.pause([0]),
    "resume text": lambda consumer: consumer.resume("0"),
    "position of text": lambda consumer: consumer.position("0"),
    "seek in text": lambda consumer: consumer.seek("t", "0", 1),
    "no records": lambda consumer: consumer.batches(max_records=0),
    "half a record": lambda consumer: consumer.batches(max_records=1.5),
    "text of records": lambda consumer: consumer.batches(max_records="5"),
    "a wait before now": lambda consumer: consumer.batches(max_wait=-1),
    "a wait in text": lambda consumer: consumer.batches(max_wait="1"),
    "no wait": lambda consumer: consumer.batches(max_wait=None),
    "a time in text": lambda consumer: consumer.offsets_for_times({0: "x"}),
    "a list of times": lambda consumer: consumer.offsets_for_times([0]),
    "back to text": lambda consumer: consumer.seek_to_time("x"),
    "an end in text": lambda consumer: anext(consumer.read_to_end({0: "x"})),
    "a list of ends": lambda consumer: anext(consumer.read_to_end([1])),
}
OF_A_GROUP: dict[str, Callable[[Any], Any]] = {
    "pause two": lambda consumer: consumer.pause("t", 0),
    "pause text": lambda consumer: consumer.pause(("t", "0")),
    "resume two": lambda consumer: consumer.resume("t", 0),
    "position of text": lambda consumer: consumer.position("t", "0"),
    "seek in a number": lambda consumer: consumer.seek(0, 0, 1),
    "committed of text": lambda consumer: consumer.committed("t"),
    "committed of two": lambda consumer: consumer.committed("t", 0),
    "commit a list": lambda consumer: consumer.commit([("t", 0)]),
    "commit by name": lambda consumer: consumer.commit({"t": 1}),
    "commit text": lambda consumer: consumer.commit({("t", 0): "1"}),
    "commit half": lambda consumer: consumer.commit({("t", 0): 1.5}),
    "commit nothing": lambda consumer: consumer.commit({("t", 0): None}),
    "commit too much": lambda consumer: consumer.commit({("t", 0): 1 << 70}),
    "commit a list soon": lambda consumer: consumer.commit_nowait([("t", 0)]),
    "no records": lambda consumer: consumer.batches(max_records=0),
    "a time in text": lambda consumer: consumer.offsets_for_times({("t", 0): "x"}),
    "times by name": lambda consumer: consumer.offsets_for_times({"t": 1}),
}


@pytest.mark.parametrize("way", OF_A_TOPIC)
async def test_what_a_consumer_of_a_topic_cannot_take_is_refused(way: str) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        async with client.consumer("t") as consumer:
            await refused(OF_A_TOPIC[way], consumer)
            assert (await soon(anext(consumer))).offset == 0


@pytest.mark.parametrize("way", OF_A_GROUP)
async def test_what_a_consumer_in_a_group_cannot_take_is_refused(way: str) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        async with in_group(client, auto_commit=False) as consumer:
            await soon(anext(consumer))
            await refused(OF_A_GROUP[way], consumer)
            assert (await soon(anext(consumer))).offset == 1
        assert not cluster.groups.commits


async def refused(way: Callable[[Any], Any], consumer: Any) -> None:
    async def ask() -> None:
        await way(consumer)

    with pytest.raises(ConfigError):
        await soon(ask())


async def test_a_partition_of_somebody_else_is_not_assigned() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        async with in_group(client) as consumer:
            await soon(anext(consumer))
            with pytest.raises(NotAssigned) as missing:
                consumer.pause(("t", 0), ("u", 0))
            assert missing.value.code == "OTTLA-NOT-ASSIGNED"
            with pytest.raises(NotAssigned):
                await soon(consumer.commit({("t", 7): 1}))
            assert (await soon(anext(consumer))).offset == 1


WRONG: list[dict[str, Any]] = [
    {"topic": 5},
    {"topic": ["t"]},
    {"topic": 5, "group": "g"},
    {"topic": [], "group": "g"},
    {"topic": ["t", 5], "group": "g"},
    {"topic": ["t", "t"], "group": "g"},
    {"topic": "t", "group": 5},
    {"topic": "t", "group": ""},
    {"topic": "t", "group": "g", "start": ["earliest"]},
    {"pattern": 5, "group": "g"},
    {"pattern": 5},
    {"topic": "t", "partitions": []},
    {"topic": "t", "partitions": ["0"]},
    {"topic": "t", "partitions": "01"},
    {"topic": "t", "partitions": 0},
    {"topic": "t", "partitions": [True]},
    {"topic": "t", "on_error": "explode"},
    {"topic": "t", "on_error": None},
    {"topic": "t", "interceptors": [5]},
    {"topic": "t", "interceptors": 5},
    {"topic": "t", "max_wait_ms": 1.5},
    {"topic": "t", "max_wait_ms": "1"},
    {"topic": "t", "fetch_bytes": True},
    {"topic": "t", "request_timeout_s": "1"},
    {"topic": "t", "request_timeout_s": float("nan")},
    {"topic": "t", "check_crc": "no"},
    {"topic": "t", "rack": 5},
    {"topic": "t", "group": "g", "on_assigned": 5},
    {"topic": "t", "group": "g", "on_revoked": "print"},
    {"topic": "t", "group": "g", "on_lost": []},
    {"topic": "t", "group": "g", "auto_commit": "no"},
    {"topic": "t", "group": "g", "commit_interval_s": "1"},
    {"topic": "t", "group": "g", "commit_interval_s": float("inf")},
    {"topic": "t", "group": "g", "instance_id": 5},
    {"topic": "t", "group": "g", "assignor": 5},
    {"topic": "t", "group": "g", "assignors": ("range",)},
    {"topic": "t", "group": "g", "protocol": "classic", "assignors": "range"},
    {"topic": "t", "group": "g", "protocol": "classic", "assignors": 5},
    {"topic": "t", "group": "g", "protocol": "classic", "assignors": [object()]},
    {"topic": "t", "group": "g", "protocol": "classic", "assignors": ()},
    {"topic": "t", "group": "g", "protocol": "classic", "assignor": "range"},
]


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
async def test_what_makes_no_consumer_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        connect("127.0.0.1:1").consumer(**wrong)


async def test_a_partition_may_be_named_twice_and_is_read_once() -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t", 2), 1, 3)
        async with client.consumer("t", partitions=[1, 1]) as consumer:
            assert consumer.partitions == (1,)
            assert [record.offset async for record in consumer.read_to_end()] == [0, 1, 2]


@pytest.mark.parametrize("start", [-1, 1 << 63, 1.5, True, None, "middle"], ids=repr)
async def test_a_start_at_what_is_no_offset_is_refused(start: Any) -> None:
    with pytest.raises(ConfigError):
        connect("127.0.0.1:1").consumer("t", start=start)


async def test_a_bug_that_ends_the_commits_is_told_to_who_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        async with in_group(client) as consumer:
            await soon(anext(consumer))
            await soon(anext(consumer))
            await until(lambda: cluster.groups.offsets.get(("t", 0)) == 1)

            def broken(keys: Any) -> Any:
                raise OverflowError("int too big to convert")

            with monkeypatch.context() as patched:
                patched.setattr(consumer._parts, "finished", broken)
                await until(lambda: consumer._fetcher._ended)
            assert [(await soon(anext(consumer))).offset for _ in range(3)] == [2, 3, 4]  # of the batch that is open
            with pytest.raises(OttlaError, match="commits ended by OverflowError"):
                await soon(anext(consumer))
        assert cluster.groups.offsets["t", 0] == 5
