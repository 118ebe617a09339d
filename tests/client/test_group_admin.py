"""Groups, looked after by programs: dry runs check what the act checks, and nothing is set that could not be read."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

import ottla.client as ottla
from ottla.client import sync
from ottla.client.client import Client, connect
from ottla.client.error_codes import ErrorCode
from ottla.client.errors import ConfigError, RequestFailed, TopicNotFound
from ottla.client.testing import LocalCluster, cluster

LONG_AGO_MS = 1_600_000_000_000
GROUP = "billing"


@pytest.fixture
async def client(ottla_cluster: LocalCluster) -> AsyncIterator[Client]:
    """Of a cluster with five records in orders-0, a second apart and long ago, and none in orders-1."""
    async with connect(ottla_cluster) as connected:
        await connected.admin.create_topic("orders", partitions=2)
        async with connected.producer() as producer:
            for number in range(5):
                when = LONG_AGO_MS + 1000 * number
                await producer.send("orders", b"%d" % number, partition=0, timestamp_ms=when)
        yield connected


async def committed(client: Client, group: str = GROUP) -> dict[tuple[str, int], int | None]:
    described = await client.admin.describe_group(group)
    return {(p.topic, p.partition): p.committed for p in described.partitions}


async def test_a_group_is_set_by_every_kind_of_place(client: Client) -> None:
    admin = client.admin
    third = datetime.fromtimestamp(LONG_AGO_MS / 1000 + 2, UTC)
    for to, expected in (
        ("earliest", 0),
        ("latest", 5),
        (third, 2),
        ("@2020-09-13T12:26:42Z", 2),
        (f"@{LONG_AGO_MS + 3000}", 3),
        (timedelta(hours=1), 5),  # nothing is as late: the end
        ("@-1h", 5),
        ({("orders", 0): 4}, 4),
        ({("orders", 0): "earliest"}, 0),
    ):
        topics = None if isinstance(to, dict) else "orders"
        planned = await admin.set_offsets(GROUP, to, topics=topics, validate_only=True)
        done = await admin.set_offsets(GROUP, to, topics=topics)
        assert planned == done
        assert (done[0].topic, done[0].partition, done[0].after, done[0].lag) == ("orders", 0, expected, 5 - expected)
        assert (await committed(client))["orders", 0] == expected
    (change, _) = await admin.set_offsets(GROUP, "latest")  # all it has committed for
    assert change == ottla.OffsetChange("orders", 0, 0, 5, 0, 5)


async def test_a_dry_run_changes_nothing(client: Client) -> None:
    await client.admin.set_offsets(GROUP, "latest", topics=["orders"], validate_only=True)
    with pytest.raises(RequestFailed, match="there is no group"):
        await client.admin.describe_group(GROUP)
    await client.admin.set_offsets(GROUP, {("orders", 0): 3})
    await client.admin.set_offsets(GROUP, "latest", validate_only=True)
    assert await client.admin.delete_offsets(GROUP, "orders", validate_only=True) == {("orders", 0): 3}
    await client.admin.delete_group(GROUP, validate_only=True)
    await client.admin.delete_topic("orders", validate_only=True)
    assert await committed(client) == {("orders", 0): 3}
    assert len((await client.admin.describe_topic("orders", current=True)).partitions) == 2


@pytest.mark.parametrize("validate_only", [True, False])
async def test_what_the_log_does_not_hold_is_refused_and_nothing_is_set(client: Client, validate_only: bool) -> None:
    admin = client.admin
    await admin.set_offsets(GROUP, {("orders", 0): 2})
    for to, error, said in (
        ({("orders", 0): 1, ("orders", 1): 7}, RequestFailed, "orders-1 holds 0 to 0, not 7"),
        ({("orders", 0): 6}, RequestFailed, "orders-0 holds 0 to 5, not 6"),
        ({("orders", 2): 0}, TopicNotFound, "orders has partitions 0 to 1, not 2"),
        ({("nope", 0): 0}, TopicNotFound, "there is no topic nope"),
    ):
        with pytest.raises(error, match=said):
            await admin.set_offsets(GROUP, to, validate_only=validate_only)
    await admin.delete_records("orders", {0: 3})
    with pytest.raises(RequestFailed, match="orders-0 holds 3 to 5, not 2") as refused:
        await admin.set_offsets(GROUP, {("orders", 0): 2}, validate_only=validate_only)
    assert refused.value.error is ErrorCode.OFFSET_OUT_OF_RANGE
    with pytest.raises(TopicNotFound):
        await admin.set_offsets(GROUP, "earliest", topics=["orders", "nope"], validate_only=validate_only)
    with pytest.raises(RequestFailed, match="nobody has committed nothing"):
        await admin.set_offsets("nobody", "earliest", validate_only=validate_only)
    assert await committed(client) == {("orders", 0): 2}


@pytest.mark.parametrize("validate_only", [True, False])
@pytest.mark.parametrize("protocol", ["consumer", "classic"])
async def test_members_are_told_of_before_the_act_too(client: Client, protocol: str, validate_only: bool) -> None:
    admin = client.admin
    await admin.create_topic("others", partitions=1)
    await admin.set_offsets(GROUP, {("orders", 0): 2, ("others", 0): 0})
    async with client.consumer("orders", group=GROUP, protocol=protocol) as member:
        assert (await anext(member)).offset == 2
        for refused in (
            admin.set_offsets(GROUP, "latest", validate_only=validate_only),
            admin.delete_group(GROUP, validate_only=validate_only),
        ):
            with pytest.raises(RequestFailed, match=r"billing has members\. Stop them first\.") as error:
                await refused
            assert error.value.error is ErrorCode.NON_EMPTY_GROUP
        with pytest.raises(RequestFailed, match="orders-0: a member of the group reads it") as error:
            await admin.delete_offsets(GROUP, ["others", ("orders", 0)], validate_only=validate_only)
        assert error.value.error is ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
        assert (await committed(client))["others", 0] == 0, "all or none is forgotten"
        assert await admin.delete_offsets(GROUP, "others") == {("others", 0): 0}


async def test_offsets_are_forgotten_by_topic_and_by_partition(client: Client) -> None:
    admin = client.admin
    await admin.create_topic("others", partitions=1)
    await admin.set_offsets(GROUP, {("orders", 0): 2, ("orders", 1): 0, ("others", 0): 0})
    assert await admin.delete_offsets(GROUP, [("orders", 0), ("orders", 7)]) == {("orders", 0): 2}
    assert await admin.delete_offsets(GROUP, ["others", "nope"]) == {("others", 0): 0}
    assert await committed(client) == {("orders", 1): 0}
    with pytest.raises(RequestFailed) as refused:
        await admin.delete_offsets("nobody", "orders")
    assert refused.value.error is ErrorCode.GROUP_ID_NOT_FOUND
    await admin.delete_group(GROUP)
    assert (await admin.list_groups()).groups == ()


async def test_wrong_inputs_are_coded(client: Client) -> None:
    for to in (5, None, "start", "@yesterday", datetime(2026, 1, 1), timedelta(hours=-1), [("orders", 0)]):
        with pytest.raises(ConfigError):
            await client.admin.set_offsets(GROUP, to, topics="orders")  # type: ignore[arg-type]
    for place in ("orders", ("orders", "0"), ("orders", -1), ("orders", True), ("orders", 1 << 31), (0, 0)):
        with pytest.raises(ConfigError):
            await client.admin.set_offsets(GROUP, {place: 0})  # type: ignore[dict-item]
    for offset in (-1, 1.5, True, "5", None, 1 << 63):
        with pytest.raises(ConfigError):
            await client.admin.set_offsets(GROUP, {("orders", 0): offset})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="topics do not go with"):
        await client.admin.set_offsets(GROUP, {("orders", 0): 0}, topics="orders")
    with pytest.raises(ConfigError):
        await client.admin.delete_offsets(GROUP, [3])  # type: ignore[list-item]
    for group in ("", "x" * 256, 5, None, "\ud800"):
        for call in (client.admin.describe_group, client.admin.delete_group):
            with pytest.raises(ConfigError):
                await call(group)  # type: ignore[arg-type]
        with pytest.raises(ConfigError):
            await client.admin.set_offsets(group, "earliest", topics="orders")  # type: ignore[arg-type]
        with pytest.raises(ConfigError):
            await client.admin.delete_offsets(group, "orders")  # type: ignore[arg-type]


async def test_a_reader_behind_a_commit_outside_of_the_log_hears_what_to_do(client: Client) -> None:
    await client.admin.set_offsets(GROUP, {("orders", 0): 2})
    await client.admin.delete_records("orders", {0: 4})
    async with client.consumer("orders", group=GROUP) as consumer:
        with pytest.raises(RequestFailed, match="orders-0 holds 4 to 5, not 2") as told:
            await anext(consumer)
        assert "ottla group seek" in told.value.hint
        await consumer.seek("orders", 0, "earliest")
        assert (await anext(consumer)).offset == 4


def test_the_blocking_sdk_does_the_same(ottla_cluster: LocalCluster) -> None:
    with sync.connect(ottla_cluster) as client:
        client.admin.create_topic("orders", partitions=1)
        assert client.admin.set_offsets(GROUP, "earliest", topics="orders")[0].after == 0
        assert [group.group_id for group in client.admin.list_groups().groups] == [GROUP]
        assert client.admin.describe_group(GROUP).lag == 0
        assert client.admin.delete_offsets(GROUP, "orders") == {("orders", 0): 0}


async def test_a_node_that_hangs_hides_its_own_groups_only() -> None:
    async with cluster(nodes=3, broker_session_timeout_ms=60_000) as servers, connect(servers) as client:
        await client.admin.create_topic("orders", partitions=1)
        names = [f"g{number}" for number in range(12)]
        for name in names:
            await client.admin.set_offsets(name, "earliest", topics="orders")
        whole = await client.admin.list_groups()
        assert ([group.group_id for group in whole.groups], whole.unanswered) == (sorted(names), {})
        servers.pause(3)
        found = await client.admin.list_groups()
        assert list(found.unanswered) == [3]
        assert 0 < len(found.groups) < len(names)
        servers.resume(3)
        while (found := await client.admin.list_groups()).unanswered:
            await asyncio.sleep(0.05)
        assert [group.group_id for group in found.groups] == sorted(names)
