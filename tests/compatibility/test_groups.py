"""Groups of unmodified clients: sharing, leaving, coming back, by each assignor and both protocols."""

import time
from collections import Counter

import pytest

from .conftest import Target
from .test_records import make_topic, not_offered_is_a_skip
from .worker import Got, Sent, Worker

pytestmark = pytest.mark.processes

WAYS = [
    ("classic", "range"),
    ("classic", "roundrobin"),
    ("classic", "cooperative-sticky"),
    ("consumer", "uniform"),
]
SETTLED_S = 60.0


def fill(client: Worker, topic: str, count: int, partitions: int, start: int = 0) -> list[bytes]:
    values = [b"%d" % number for number in range(start, start + count)]
    client.produce(topic, [Sent(value, partition=number % partitions) for number, value in enumerate(values)])
    return values


def settle(client: Worker, members: list[str], topic: str, partitions: int) -> tuple[dict[str, set[int]], list[Got]]:
    """Poll all until each partition has one owner and nobody has none; what each owns, and what came meanwhile."""
    came: list[Got] = []
    deadline = time.monotonic() + SETTLED_S
    while time.monotonic() < deadline:
        for member in members:
            came += client.poll(member, 10_000, 0.5)
        owned = {m: {p for t, p in client.do("assignment", member=m) if t == topic} for m in members}
        count = Counter(number for numbers in owned.values() for number in numbers)
        if all(owned.values()) and count == dict.fromkeys(range(partitions), 1):
            return owned, came
    raise AssertionError(f"not settled: {owned}")


@pytest.mark.parametrize(("protocol", "assignor"), WAYS)
@not_offered_is_a_skip
def test_a_group_reads_commits_and_goes_on_where_it_was(
    client: Worker, target: Target, protocol: str, assignor: str
) -> None:
    topic, group = make_topic(target, partitions=3), target.topic("g")
    values = fill(client, topic, 300, 3)
    client.do("join", member="a", group=group, topics=[topic], protocol=protocol, assignor=assignor)
    assert sorted(r.value or b"" for r in client.poll("a", 300)) == sorted(values)
    client.do("commit", member="a")
    assert client.do("committed", member="a", topic=topic) == {str(number): 100 for number in range(3)}
    client.do("leave", member="a")
    more = fill(client, topic, 30, 3, start=1000)
    client.do("join", member="b", group=group, topics=[topic], protocol=protocol, assignor=assignor)
    assert sorted(r.value or b"" for r in client.poll("b", 30)) == sorted(more)
    client.do("leave", member="b")


@pytest.mark.parametrize(("protocol", "assignor"), WAYS)
@not_offered_is_a_skip
def test_members_share_and_take_over(client: Worker, target: Target, protocol: str, assignor: str) -> None:
    topic, group = make_topic(target, partitions=4), target.topic("g")
    fill(client, topic, 40, 4)
    how = {"group": group, "topics": [topic], "protocol": protocol, "assignor": assignor}
    client.do("join", member="a", **how)
    owned, came = settle(client, ["a"], topic, 4)
    assert owned == {"a": {0, 1, 2, 3}}
    came += client.poll("a", 40 - len(came))
    client.do("commit", member="a")
    client.do("join", member="b", **how)
    owned, _ = settle(client, ["a", "b"], topic, 4)
    assert sorted(map(len, owned.values())) == [2, 2]
    fill(client, topic, 40, 4, start=100)
    shared = [*client.poll("a", 20), *client.poll("b", 20)]
    assert sorted(int(r.value or b"") for r in shared) == list(range(100, 140))
    client.do("commit", member="a")
    client.do("leave", member="a")
    owned, _ = settle(client, ["b"], topic, 4)
    assert owned == {"b": {0, 1, 2, 3}}
    client.do("leave", member="b")


@pytest.mark.parametrize(("protocol", "assignor"), [WAYS[0], WAYS[3]])
@not_offered_is_a_skip
def test_a_static_member_finds_its_place_again(client: Worker, target: Target, protocol: str, assignor: str) -> None:
    topic, group = make_topic(target, partitions=4), target.topic("g")
    fill(client, topic, 4, 4)
    how = {"group": group, "topics": [topic], "protocol": protocol, "assignor": assignor, "session_ms": 30_000}
    client.do("join", member="a", instance="i-a", **how)
    client.do("join", member="b", instance="i-b", **how)
    before, _ = settle(client, ["a", "b"], topic, 4)
    client.do("leave", member="b")  # a static member is expected back
    client.do("join", member="c", instance="i-b", **how)
    after, _ = settle(client, ["a", "c"], topic, 4)
    assert (after["a"], after["c"]) == (before["a"], before["b"])
    client.do("leave", member="a")
    client.do("leave", member="c")


@not_offered_is_a_skip
def test_a_group_is_listed_described_and_deleted(client: Worker, target: Target) -> None:
    topic, group = make_topic(target, partitions=2), target.topic("g")
    fill(client, topic, 20, 2)
    client.do("join", member="a", group=group, topics=[topic])
    client.poll("a", 20)
    client.do("commit", member="a")
    assert group in client.admin("groups")
    described = client.admin("describe_group", group=group)
    assert (described["state"], described["members"]) == ("stable", 1)
    assert client.admin("offsets", group=group, topic=topic) == {"0": 10, "1": 10}
    client.do("leave", member="a")
    assert client.admin("describe_group", group=group)["state"] == "empty"
    client.admin("delete_group", group=group)
    assert group not in client.admin("groups")
