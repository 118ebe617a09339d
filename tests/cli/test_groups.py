"""`ottla group`: dry runs check what the act checks, and what cannot be meant or read is refused."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from ottla.cli.groups import parse_targets
from ottla.cli.main import run
from ottla.cli.problems import EXIT_DONE, EXIT_FAILED, EXIT_NOT_FOUND, EXIT_USAGE, UsageProblem
from ottla.client import sync
from ottla.client.testing import LocalCluster, cluster

GROUP = "billing"
NOBODY = "127.0.0.1:1"


class Shell:
    """The command line against one cluster."""

    def __init__(self, servers: LocalCluster, capsys: pytest.CaptureFixture[str]) -> None:
        self.servers = servers
        self._capsys = capsys

    def __call__(self, words: str) -> tuple[int, str, str]:
        code = run([*words.split(), "--servers", ",".join(self.servers)])
        return code, *self._capsys.readouterr()

    def json(self, words: str) -> Any:
        code, out, err = self(f"{words} -o json")
        assert code == EXIT_DONE, err
        return json.loads(out)


@pytest.fixture(scope="module")
def servers() -> Iterator[LocalCluster]:
    with cluster() as running:
        with sync.connect(running) as client, client.producer() as producer:
            client.admin.create_topic("orders", partitions=2)
            for number in range(5):
                producer.send("orders", b"%d" % number, partition=0)
        yield running


@pytest.fixture
def shell(servers: LocalCluster, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    yield Shell(servers, capsys)
    with sync.connect(servers) as client:
        for group in client.admin.list_groups().groups:
            client.admin.delete_group(group.group_id)


def test_places_are_understood_or_named() -> None:
    assert parse_targets(["orders:1:7", "orders:2:0"]) == {("orders", 1): 7, ("orders", 2): 0}
    assert parse_targets(["start"]) == "earliest"
    assert parse_targets(["end"]) == "latest"
    assert parse_targets(["@-1h"]) == "@-1h"
    assert parse_targets(["@0"]) == "@0"
    for to, said in (
        (["orders:0:x"], "--to 'orders:0:x' is not TOPIC:PARTITION:OFFSET"),
        (["orders:0"], "--to 'orders:0' is not TOPIC:PARTITION:OFFSET"),
        (["orders:0:1", "end"], "--to 'end' is not TOPIC:PARTITION:OFFSET, and only that may be repeated"),
        (["beginning"], "--to 'beginning' is not start, end, @TIME or TOPIC:PARTITION:OFFSET"),
        (["5"], "write TOPIC:PARTITION:OFFSET"),
        (["@2026-13-01T00:00Z"], "'@2026-13-01T00:00Z' is no time"),
        (["orders:0:1", "orders:0:2"], "--to names orders:0 twice"),
    ):
        with pytest.raises(UsageProblem) as refused:
            parse_targets(to)
        assert said in str(refused.value)


@pytest.mark.parametrize("act", ["--dry-run", "-y"])
def test_a_dry_run_of_seek_says_what_the_act_would(shell: Shell, act: str) -> None:
    assert shell(f"group seek {GROUP} --to orders:0:2 -y")[0] == EXIT_DONE
    for to, code, said in (
        ("orders:0:700", EXIT_FAILED, "OTTLA-OFFSET-OUT-OF-RANGE: orders-0 holds 0 to 5, not 700. "),
        ("orders:9:7", EXIT_NOT_FOUND, "OTTLA-UNKNOWN-TOPIC-OR-PARTITION: orders has partitions 0 to 1, not 9."),
        ("nope:0:7", EXIT_NOT_FOUND, "OTTLA-UNKNOWN-TOPIC-OR-PARTITION: there is no topic nope."),
    ):
        assert shell(f"group seek {GROUP} --to {to} {act}")[::2] == (code, err := said + shell_hint(said)), err
    with sync.connect(shell.servers) as client, client.consumer("orders", group=GROUP) as member:
        next(member)
        code, _, err = shell(f"group seek {GROUP} --to end {act}")
        stop = f"Stop its members first; see who they are: ottla group show {GROUP}\n"
        assert (code, err) == (EXIT_FAILED, f"OTTLA-NON-EMPTY-GROUP: {GROUP} has members. {stop}")
        code, _, err = shell(f"group rm {GROUP} {act}")
        assert (code, err) == (EXIT_FAILED, f"OTTLA-NON-EMPTY-GROUP: {GROUP} has members. {stop}")
        code, _, err = shell(f"group forget {GROUP} orders:0 {act}")
        assert (code, err.partition(":")[0]) == (EXIT_FAILED, "OTTLA-GROUP-SUBSCRIBED-TO-TOPIC")
        assert err.endswith(stop)


def shell_hint(said: str) -> str:
    if "holds" in said:
        return "A group could not read on from there; choose 0 to 5.\n"
    return " Make it: ottla topic create nope, or list what there is: ottla topic ls\n" if "nope" in said else "\n"


def test_a_dry_run_shows_what_would_be_and_changes_nothing(shell: Shell) -> None:
    assert shell(f"group seek {GROUP} --to orders:0:2 -y")[0] == EXIT_DONE
    (row,) = shell.json(f"group seek {GROUP} --to end --dry-run")
    assert (row["committed"], row["new"], row["lag"], row["start"], row["end"]) == (2, 5, 0, 0, 5)
    (row,) = shell.json(f"group seek {GROUP} --to @0 --dry-run")
    assert row["new"] == 0
    assert shell.json(f"group forget {GROUP} orders --dry-run") == [{"topic": "orders", "partition": 0, "committed": 2}]
    assert shell.json(f"group rm {GROUP} --dry-run")["partitions"][0]["committed"] == 2
    assert shell.json(f"group show {GROUP}")["partitions"][0]["committed"] == 2
    assert shell("group rm nobody --dry-run")[0] == EXIT_NOT_FOUND
    rows = shell.json("topic rm orders --dry-run")
    assert [(row["start"], row["end"]) for row in rows] == [(0, 5), (0, 0)]
    for removal in ("rm nope --dry-run", "rm nope -y", "trim nope --to end -y"):
        code, _, err = shell(f"topic {removal}")
        assert (code, err.rstrip().endswith("there is no topic nope. What there is: ottla topic ls")) == (
            EXIT_NOT_FOUND,
            True,
        )
    assert shell("topic rm __consumer_offsets --dry-run")[0] == EXIT_FAILED
    assert shell("topic show orders")[0] == EXIT_DONE


def test_a_group_forgets_a_partition_or_a_topic(shell: Shell) -> None:
    assert shell(f"group seek {GROUP} --to start -t orders -y")[0] == EXIT_DONE
    assert shell.json(f"group forget {GROUP} orders:1 -y") == [{"topic": "orders", "partition": 1, "committed": 0}]
    assert [p["partition"] for p in shell.json(f"group show {GROUP}")["partitions"]] == [0]
    code, _, err = shell(f"group forget {GROUP} orders:1 -y")
    assert (code, err.startswith(f"OTTLA-NOT-FOUND: {GROUP} has committed nothing for orders:1.")) == (3, True), err
    assert shell("group forget nobody orders -y")[0] == EXIT_NOT_FOUND
    assert shell(f"group forget {GROUP} orders:x -y")[0] == EXIT_USAGE
    shell.json(f"group forget {GROUP} orders -y")
    assert shell.json("group ls") == []


def test_questions_and_totals_count_in_english(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("typer.confirm", lambda question, err: asked.append(question))
    for words in ("--to orders:0:1", "-t orders --to end"):
        assert shell(f"group seek {GROUP} {words}")[0] == EXIT_FAILED
    assert asked == [f"Set 1 partition of {GROUP}?", f"Set 2 partitions of {GROUP}?"]
    with sync.connect(shell.servers) as client, client.consumer("orders", group=GROUP) as member:
        next(member)
        assert "  1 member  consumer" in shell(f"group show {GROUP}")[1]


def test_a_name_that_no_group_can_have(shell: Shell) -> None:
    code, _, err = shell(f"group show {'x' * 300}")
    assert (code, err) == (EXIT_FAILED, "OTTLA-CONFIG: group has 300 characters. It has 255 at most.\n")


def test_a_member_behind_a_commit_outside_of_the_log_hears_what_to_do(shell: Shell) -> None:
    with sync.connect(shell.servers) as client:
        client.admin.create_topic("trimmed", partitions=1)
        with client.producer() as producer:
            producer.send("trimmed", b"v")
        client.admin.set_offsets(GROUP, "earliest", topics="trimmed")
        client.admin.delete_records("trimmed", {0: None})
    code, _, err = shell(f"consume trimmed -g {GROUP}")
    assert (code, err) == (
        EXIT_FAILED,
        "OTTLA-OFFSET-OUT-OF-RANGE: trimmed-0 holds 1 to 1, not 0. "
        f"Stop all its members, and set where it reads on: ottla group seek {GROUP} --to start|end\n",
    )


def get(shell: Shell, path: str) -> Any:
    with urllib.request.urlopen(f"http://{shell.servers.servers[0]}{path}", timeout=20) as answer:
        return json.load(answer)


def test_http_has_the_names_of_the_command_line(shell: Shell) -> None:
    assert shell(f"group seek {GROUP} --to start -t orders -y")[0] == EXIT_DONE
    with sync.connect(shell.servers) as client, client.consumer("orders", group=GROUP) as member:
        next(member)
        assert get(shell, f"/v1/groups/{GROUP}") == (shown := shell.json(f"group show {GROUP}"))
        assert (shown["group"], shown["type"]) == (GROUP, "consumer")
        assert shown["members"][0]["partitions"] == ["orders-0", "orders-1"]
        assert get(shell, "/v1/groups") == {"groups": shell.json("group ls"), "unanswered": []}
    for path, status, code in (
        ("/v1/groups?limit=5", 400, "OTTLA-INVALID-REQUEST"),
        (f"/v1/groups/{GROUP}?from=start", 400, "OTTLA-INVALID-REQUEST"),
        ("/v1/groups/nobody", 404, "OTTLA-GROUP-ID-NOT-FOUND"),
        (f"/v1/groups/{'x' * 300}", 400, "OTTLA-CONFIG"),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(shell, path)
        assert (refused.value.code, json.load(refused.value)["code"]) == (status, code)


def test_a_node_that_hangs_is_named_and_the_others_groups_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with cluster(nodes=3, broker_session_timeout_ms=60_000) as servers:
        with sync.connect(servers) as client:
            client.admin.create_topic("orders", partitions=1)
            for number in range(12):
                client.admin.set_offsets(f"g{number}", "earliest", topics="orders")
        servers.pause(3)
        code, out, err = Shell(servers, capsys)("group ls")
        assert (code, err.partition(" (")[0]) == (
            EXIT_FAILED,
            "OTTLA-INCOMPLETE: groups may be missing, not all nodes told theirs",
        )
        assert "n3: " in err
        assert 1 < len(out.splitlines()) < 13
