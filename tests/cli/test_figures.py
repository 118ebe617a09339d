"""What health, status, topic, bench and the demonstration make of what they are told."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from ottla.cli.bench import nearest_rank, summarize_latencies
from ottla.cli.consume import Moment, parse_place
from ottla.cli.demo import Failed, Tally, check_tallies, read_sources
from ottla.cli.health import _show, observe
from ottla.cli.output import Output
from ottla.cli.problems import UsageProblem
from ottla.cli.start import name_the_owner, parse_pairs
from ottla.cli.status import describe_all, lost_voters
from ottla.cli.topics import describe
from ottla.client.admin import ClusterDescription, NodeDescription, PartitionDescription, TopicDescription
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import BrokerEndpoint, ConfigEntry, DescribeNodeResponse, PartitionMetadata, TopicMetadata

VOTERS = [[1, "a", 1], [2, "b", 2], [3, "c", 3]]


def account(leader: int | None) -> dict[str, Any]:
    return {"state": "ready", "quorum_leader": leader, "quorum_term": 7, "voters": VOTERS}


def test_healthy_is_all_voters_ready_and_a_leader() -> None:
    health = observe([("a", 1)], lambda host, port: account(2), lambda host, port: True)
    assert health["healthy"]
    assert [row["address"] for row in health["nodes"]] == ["a:1", "b:2", "c:3"]
    assert not observe([("a", 1)], lambda host, port: account(None), lambda host, port: True)["healthy"]
    assert not observe([("a", 1)], lambda host, port: account(2), lambda host, port: host != "c")["healthy"]


def test_a_voter_that_nobody_named_counts_too() -> None:
    health = observe([("a", 1)], lambda host, port: None if host == "b" else account(1), lambda host, port: True)
    assert not health["healthy"]
    assert [row["state"] for row in health["nodes"]] == ["ready", "unreachable", "ready"]


def test_before_forming_there_are_only_the_named_nodes() -> None:
    forming = {"state": "forming", "version": "x"}
    health = observe(
        [("a", 1), ("z", 9)], lambda host, port: forming if host == "a" else None, lambda host, port: False
    )
    assert [(row["address"], row["state"]) for row in health["nodes"]] == [("a:1", "forming"), ("z:9", "unreachable")]


def partition(number: int, leader: int | None, isr: tuple[int, ...]) -> PartitionMetadata:
    return PartitionMetadata(number, leader, 4, 5, (1, 2, 3), isr)  # type: ignore[arg-type]


def test_status_counts_what_is_in_trouble() -> None:
    told = DescribeNodeResponse(1, "ready", "0.1.0", 1, 7, 10, 10, (), 2, 3, 100, 200, 1.25)  # type: ignore[arg-type]
    nodes = (
        NodeDescription(BrokerEndpoint(1, "a", 1), told, None),  # type: ignore[arg-type]
        NodeDescription(BrokerEndpoint(2, "b", 2, fenced=True), None, "gone"),  # type: ignore[arg-type]
        NodeDescription(BrokerEndpoint(3, "c", 3), None, "gone"),  # type: ignore[arg-type]
    )
    cluster = ClusterDescription("id", 9, 1, 1, 7, nodes)  # type: ignore[arg-type]
    partitions = (partition(0, 1, (1, 2, 3)), partition(1, 1, (1,)), partition(2, None, ()))
    topic = TopicMetadata(ErrorCode.NONE, "t", "tid", partitions)  # type: ignore[arg-type]
    document = describe_all(cluster, (topic,))
    assert (document["partitions"], document["under_replicated"], document["leaderless"]) == (3, 2, 1)
    assert [node["state"] for node in document["nodes"]] == ["ready", "fenced", "unreachable"]
    assert [node["quorum"] for node in document["nodes"]] == ["leader", None, None]
    assert document["nodes"][0]["free_bytes"] == 200


@pytest.mark.parametrize(("answers", "lost"), [(5, [5]), (1, []), (None, [])])
def test_a_voter_is_lost_only_where_another_node_answers_in_its_place(answers: int | None, lost: list[int]) -> None:
    voters = ((1, "a", 1), (2, "b", 2))
    there, told = (
        None
        if number is None
        else DescribeNodeResponse(number, "ready", "0.1.0", 2, 7, 10, 10, voters, 2, 3, 100, 200, 1.25)  # type: ignore[arg-type]
        for number in (answers, 2)
    )
    registered = (BrokerEndpoint(1, "a", 1), BrokerEndpoint(4, "a", 1), BrokerEndpoint(5, "a", 1))  # type: ignore[arg-type]
    nodes = tuple(NodeDescription(endpoint, there, None) for endpoint in registered)
    nodes += (NodeDescription(BrokerEndpoint(2, "b", 2), told, None),)  # type: ignore[arg-type]
    problems = lost_voters(ClusterDescription("id", 9, 2, 1, 7, nodes))  # type: ignore[arg-type]
    assert [problem.partition(" ")[0] for problem in problems] == [f"n{number}" for number in lost]


def test_a_partition_whose_leader_cannot_be_asked_is_shown_all_the_same() -> None:
    described = PartitionDescription(partition(0, None, (1,)), None, None, None, "no leader")
    (row,) = describe(TopicDescription("t", "tid", {}, (described,)), ())["partitions"]  # type: ignore[arg-type]
    assert row["end"] is None
    assert row["problem"] == "no leader"
    assert row["isr"] == [1]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300), st.floats(0, 100))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(values: list[float], percent: float) -> None:
    ordered = sorted(values)
    index = nearest_rank(len(ordered), percent)
    assert (index + 1) * 100 >= percent * len(ordered) or index == len(ordered) - 1
    assert index == 0 or index * 100 < percent * len(ordered)


def test_latencies_are_milliseconds() -> None:
    shown = summarize_latencies([number / 1000 for number in range(1, 1001)])
    assert shown == {"p50": 500.0, "p95": 950.0, "p99": 990.0, "p99.9": 999.0, "max": 1000.0}
    assert summarize_latencies([]) == {}


def test_where_to_begin() -> None:
    assert [parse_place(text, "--from") for text in ("start", "end", "17")] == ["earliest", "latest", 17]
    assert parse_place("@2026-11-01T00:00Z", "--to") == Moment(1_793_491_200_000)
    for text in ("-1", "@-1y", "@", "@2026-13-01", "@1", "earliest", "", "²"):
        with pytest.raises(UsageProblem):
            parse_place(text, "--from")


def test_pairs() -> None:
    assert parse_pairs(["a.b=c=d", "x="]) == {"a.b": "c=d", "x": ""}


async def test_a_taken_port_names_its_owner() -> None:
    import asyncio
    import os

    from ottla.broker.config import Settings

    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    error = name_the_owner(Settings(http=f"127.0.0.1:{port}"))
    server.close()
    assert f"127.0.0.1:{port} is taken by pid {os.getpid()} (" in str(error)
    assert str(error).endswith("Use --http HOST:PORT, or stop it.")


def tally(*lines: tuple[str, bytes]) -> dict[str, tuple[str, int]]:
    counted = Tally()
    for name, line in lines:
        counted.add(name, line)
    return counted.result()


def test_the_demonstration_notices_loss_repetition_and_disorder() -> None:
    sent = [("f", b"1"), ("g", b"x"), ("f", b"2")]
    check_tallies(tally(*sent), tally(sent[1], sent[0], sent[2]))  # order matters within a file only
    for wrong in (sent[:2], [*sent, sent[2]], sent[::-1], [*sent, ("h", b"new")], sent[1:2]):
        with pytest.raises(Failed):
            check_tallies(tally(*sent), tally(*wrong))


def test_the_demonstration_streams_every_file_with_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"1\n2\n3")
    (tmp_path / "b.py").write_bytes(b"1\n2\n")
    (tmp_path / "c.py").write_bytes(b"1\n")
    (tmp_path / "empty.py").write_bytes(b"")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "d.py").write_bytes(b"1\n")
    found = [(source.name, len(source.lines)) for source in read_sources(tmp_path)]
    assert found == [("a.py", 3), ("b.py", 2), ("c.py", 1)]


def test_a_topic_is_shown_with_what_holds_for_it() -> None:
    entries = [
        ConfigEntry("retention.ms", "-1", "topic", "long"),
        ConfigEntry("min.cleanable.dirty.ratio", "0.5", "default", "double"),
        ConfigEntry("cleanup.policy", "delete", "default", "list"),
    ]
    document = describe(TopicDescription("t", "tid", {"retention.ms": "-1"}, ()), entries)  # type: ignore[arg-type]
    assert document["configs"] == {"retention.ms": "-1"}
    assert document["effective"] == {
        "retention.ms": -1,
        "min.cleanable.dirty.ratio": 0.5,
        "cleanup.policy": "delete",
    }


def test_health_names_who_is_ill(capsys: pytest.CaptureFixture[str]) -> None:
    seen = observe([("a", 1)], lambda host, port: account(1) if host != "b" else None, lambda host, port: host != "c")
    _show(seen, Output.table)
    assert "Not healthy: quorum leader n1, term 7; not ready: n2, n3." in capsys.readouterr().err
