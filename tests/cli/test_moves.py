"""What the commands that move things say, without a cluster."""

from pathlib import Path

import pytest

from ottla.cli.main import run
from ottla.cli.partitions import parse_nodes
from ottla.cli.problems import EXIT_FAILED, EXIT_USAGE, UsageProblem
from ottla.cli.rebalance import racks_of, replicas_of, target_of
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import BrokerEndpoint, PartitionMetadata, TopicMetadata
from ottla.log.model import BrokerId, LeaderEpoch, PartitionEpoch, TopicId


def test_nodes_are_numbers_with_commas_between() -> None:
    assert parse_nodes("3, 1,2") == [3, 1, 2]
    for text in ("", "1,", "a", "1;2", "0", "-1"):
        with pytest.raises(UsageProblem):
            parse_nodes(text)


@pytest.mark.parametrize(
    "words",
    [
        "partition move t",  # neither --to nor --cancel
        "partition move t --to 1 --cancel",
        "partition move t --to x",
        "partition elect t --to 2",  # only an unclean election has a choice
        "node drain 0",
    ],
)
def test_what_cannot_be_meant_is_a_wrong_command_line(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words.split(), "--servers", "127.0.0.1:1"]) == EXIT_USAGE
    assert "OTTLA-USAGE" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["node drain 2", "rebalance", "partition ls", "partition elect t -y"])
def test_without_a_cluster_nothing_is_done(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words.split(), "--servers", "127.0.0.1:1"]) == EXIT_FAILED
    assert "OTTLA-CONNECT-FAILED" in capsys.readouterr().err


def test_only_nodes_that_live_and_are_not_drained_are_given_replicas() -> None:
    def endpoint(number: int, **how: bool) -> BrokerEndpoint:
        return BrokerEndpoint(BrokerId(number), "h", 1, "r", **how)

    nodes = [endpoint(1), endpoint(2, fenced=True), endpoint(3, draining=True), endpoint(4, drained=True)]
    assert racks_of(nodes) == {1: "r"}


def test_a_plan_is_made_from_where_partitions_will_be() -> None:
    ids = tuple(map(BrokerId, (4, 2, 3, 1)))
    state = PartitionMetadata(
        0, ids[1], LeaderEpoch(0), PartitionEpoch(0), ids, ids[1:], adding=ids[:1], removing=ids[3:]
    )
    assert target_of(state) == (4, 2, 3)
    topic = TopicMetadata(ErrorCode.NONE, "t", TopicId("x" * 22), (state,))
    assert replicas_of([topic]) == {("t", 0): (4, 2, 3)}
