"""Groups of unmodified clients: sharing, leaving, coming back, by each assignor and both protocols."""

import time
from collections import Counter

import pytest

from .target import Target
from .test_records import not_offered_is_a_skip
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
    topic, group = target.topic(partitions=3), target.name("g")
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
    topic, group = target.topic(partitions=4), target.name("g")
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
    topic, group = target.topic(partitions=4), target.name("g")
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


@pytest.mark.every_client
@not_offered_is_a_skip
def test_a_group_is_listed_described_and_deleted(client: Worker, target: Target) -> None:
    topic, group = target.topic(partitions=2), target.name("g")
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


@pytest.mark.slow
@not_offered_is_a_skip
def test_a_group_commits_by_itself(client: Worker, target: Target) -> None:
    topic, group = target.topic(partitions=3), target.name("g")
    values = fill(client, topic, 300, 3)
    client.do("join", member="a", group=group, topics=[topic], auto_commit=True)
    assert sorted(r.value or b"" for r in client.poll("a", 300)) == sorted(values)
    client.do("leave", member="a")
    more = fill(client, topic, 30, 3, start=1000)
    client.do("join", member="b", group=group, topics=[topic], auto_commit=True)
    assert sorted(r.value or b"" for r in client.poll("b", 30)) == sorted(more)
    client.do("leave", member="b")


@pytest.mark.slow
@pytest.mark.parametrize("assignor", ["range", "roundrobin", "cooperative-sticky"])
@not_offered_is_a_skip
def test_members_that_commit_by_themselves_share(client: Worker, target: Target, assignor: str) -> None:
    topic, group = target.topic(partitions=4), target.name("g")
    how = {"group": group, "topics": [topic], "assignor": assignor, "auto_commit": True}
    client.do("join", member="a", **how)
    client.do("join", member="b", **how)
    owned, _ = settle(client, ["a", "b"], topic, 4)
    assert sorted(map(len, owned.values())) == [2, 2]
    values = fill(client, topic, 40, 4)
    shared = [*client.poll("a", 20), *client.poll("b", 20)]
    assert sorted(r.value or b"" for r in shared) == sorted(values)
    client.do("leave", member="a")
    settle(client, ["b"], topic, 4)
    client.do("leave", member="b")


@pytest.mark.slow
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@not_offered_is_a_skip
def test_a_pattern_stands_for_the_topics_that_it_matches(
    client: Worker, target: Target, protocol: str, later: bool
) -> None:
    prefix = target.name("p")
    for name in (f"{prefix}-one", f"not-{prefix}"):
        target.topic(partitions=1, name=name)
        client.produce(name, [Sent(name.encode(), partition=0)])
    how = {"protocol": protocol, "pattern": f"{prefix}-.*", "topics": [], "auto_commit": True, "later": later}
    client.do("join", member="a", group=target.name("g"), **how)
    found = [(r.topic, r.value) for r in client.poll("a", 1)]
    if later:
        target.topic(partitions=1, name=f"{prefix}-two")
        client.produce(f"{prefix}-two", [Sent(b"two", partition=0)])
        found += [(r.topic, r.value) for r in client.poll("a", 1)]
    client.do("leave", member="a")
    names = [(f"{prefix}-one", f"{prefix}-one".encode()), (f"{prefix}-two", b"two")]
    assert found == names[: 1 + later]


@pytest.mark.slow
@pytest.mark.parametrize("first", ["classic", "consumer"])
@not_offered_is_a_skip
def test_members_of_both_protocols_share_and_take_over(client: Worker, target: Target, first: str) -> None:
    """A group is taken from one protocol to the other member by member, without a stop (KIP-848)."""
    topic, group = target.topic(partitions=4), target.name("g")
    second = "consumer" if first == "classic" else "classic"
    fill(client, topic, 40, 4)
    client.do("join", member="a", group=group, topics=[topic], protocol=first)
    owned, came = settle(client, ["a"], topic, 4)
    came += client.poll("a", 40 - len(came))
    client.do("commit", member="a")
    client.do("join", member="b", group=group, topics=[topic], protocol=second)
    owned, _ = settle(client, ["a", "b"], topic, 4)
    assert sorted(map(len, owned.values())) == [2, 2]
    fill(client, topic, 40, 4, start=100)
    shared = [*client.poll("a", 20), *client.poll("b", 20)]
    assert sorted(int(r.value or b"") for r in shared) == list(range(100, 140))
    client.do("commit", member="a")
    client.do("commit", member="b")
    client.do("leave", member="a")
    owned, _ = settle(client, ["b"], topic, 4)
    fill(client, topic, 4, 4, start=200)
    assert sorted(int(r.value or b"") for r in client.poll("b", 4)) == list(range(200, 204))
    client.do("commit", member="b")
    assert client.do("committed", member="b", topic=topic) == {str(number): 21 for number in range(4)}
    client.do("leave", member="b")
