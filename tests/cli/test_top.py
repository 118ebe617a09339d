"""`ottla top`: what two looks tell, what is shown of it, and how it leaves a terminal."""

import json
import os
import pty
import signal
import subprocess
import sys

import pytest

from ottla.cli.main import run
from ottla.cli.problems import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from ottla.cli.top_figures import GroupFigures, Look, NodeFigures, TopicFigures, compare, read_figures
from ottla.cli.top_view import paint
from ottla.client import sync
from ottla.client.testing import LocalCluster

LEAVE_SCREEN, SHOW_CURSOR = b"\x1b[?1049l", b"\x1b[?25h"

PAGE = """\
# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.
process_cpu_seconds_total 1.5
process_resident_memory_bytes 6.0e+07
ottla_produce_bytes_total 1000.0
ottla_fetch_bytes_total{to="consumer"} 20.0
ottla_fetch_bytes_total{to="replica"} 30.0
ottla_request_seconds_count{api="fetch"} 3.0
ottla_request_seconds_count{api="produce"} 4.0
ottla_request_seconds_bucket{api="produce",le="0.1"} 4.0
process_cpu_seconds_total nonsense
"""


def look(at_s: float, *, ends: int | None, lag: int | None, figures: NodeFigures) -> Look:
    node = dict.fromkeys(("address", "state", "quorum", "leads", "holds", "log_bytes", "problem"))
    status = {
        "cluster_id": "c",
        "quorum_leader": 1,
        "quorum_term": 2,
        "problems": [],
        "partitions": 3,
        "under_replicated": 0,
        "leaderless": 0,
        "nodes": [{"node": 1, **node}],
    }
    topics = {"quiet": TopicFigures(1, 5), "busy": TopicFigures(2, ends)}
    return Look(at_s, status, {1: figures}, topics, {"g": GroupFigures("Stable", 1, lag)})


BEFORE = look(10.0, ends=100, lag=7, figures=NodeFigures(1.0, 1e6, 100.0, 0.0, 0.0, 5.0))


def test_a_page_of_metrics_is_read() -> None:
    assert read_figures(PAGE) == NodeFigures(1.5, 6e7, 1000.0, 20.0, 30.0, 7.0)
    assert read_figures("<html>no metrics") == NodeFigures()


def test_rates_are_what_happened_between_two_looks() -> None:
    now = look(12.0, ends=300, lag=1, figures=NodeFigures(1.5, 2e6, 300.0, 50.0, 0.0, 9.0))
    document = compare(BEFORE, now)
    (node,) = document["nodes"]
    assert (node["cpu_percent"], node["memory_bytes"], node["in_bytes_per_s"]) == (25.0, 2_000_000, 100.0)
    assert (node["out_bytes_per_s"], node["requests_per_s"]) == (25.0, 2.0)
    assert [(row["topic"], row["records_per_s"]) for row in document["topics"]] == [("busy", 100.0), ("quiet", 0.0)]
    assert document["groups"] == [
        {"group": "g", "state": "Stable", "members": 1, "lag": 1, "lag_change_per_s": -3.0},
    ]
    assert (document["records_per_s"], document["in_bytes_per_s"]) == (100.0, 100.0)


def test_what_is_not_known_is_absent_and_a_restart_is_no_negative_rate() -> None:
    first = compare(None, BEFORE)
    assert first["records_per_s"] is None
    assert first["nodes"][0]["in_bytes_per_s"] is None
    again = compare(BEFORE, look(11.0, ends=None, lag=None, figures=NodeFigures(bytes_in=1.0)))
    assert again["nodes"][0]["in_bytes_per_s"] == 0.0
    assert again["nodes"][0]["cpu_percent"] is None
    assert {row["topic"]: row["records_per_s"] for row in again["topics"]} == {"busy": None, "quiet": 0.0}


def test_a_screen_holds_what_fits() -> None:
    from rich.console import Console

    many = BEFORE._replace(topics={f"t{number:03}": TopicFigures(1, 1) for number in range(100)})
    console = Console(width=120, height=20, markup=False)
    with console.capture() as capture:
        console.print(paint(compare(None, many), 20))
    shown = capture.get().splitlines()
    assert len(shown) <= 20
    assert any("more topics and groups" in line for line in shown)


def test_snapshots_of_a_cluster(ottla_cluster: LocalCluster, capsys: pytest.CaptureFixture[str]) -> None:
    with sync.connect(ottla_cluster) as client, client.producer() as producer:
        producer.send("orders", b"v")
        with client.consumer("orders", group="readers", start="earliest") as consumer:
            next(consumer)
            consumer.commit()
    servers = ",".join(ottla_cluster)
    assert run(["top", "-n", "2", "-i", "0.1", "--servers", servers]) == 0
    shown = capsys.readouterr().out
    assert shown.count("quorum leader n1") == 2
    assert "orders" in shown
    assert "readers" in shown
    assert "\x1b" not in shown  # not a terminal
    assert run(["top", "-i", "0.1", "-o", "json", "--servers", servers]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["nodes"][0]["memory_bytes"] > 1_000_000
    assert document["topics"][0]["records_per_s"] == 0.0
    assert document["groups"][0]["lag"] == 0


def test_ctrl_c_leaves_the_terminal_as_it_was(ottla_cluster: LocalCluster) -> None:
    command = [sys.executable, "-m", "ottla.cli.main", "top", "-i", "0.1", "--servers", ",".join(ottla_cluster)]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # who runs the tests may ignore it
    )
    os.close(theirs)
    shown = b""
    while b"Ctrl-C ends" not in shown:
        shown += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    try:
        while found := os.read(ours, 65536):
            shown += found
    except OSError:  # what Linux says at the end of a terminal
        pass
    finally:
        os.close(ours)
    assert process.wait(30) == EXIT_INTERRUPTED
    assert LEAVE_SCREEN in shown
    assert shown.rindex(SHOW_CURSOR) > shown.index(b"Ctrl-C ends")
    assert b"Traceback" not in shown


def test_errors_are_coded(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["top", "-n", "1", "--servers", "127.0.0.1:1"]) == EXIT_FAILED
    assert "OTTLA-CONNECT-FAILED" in capsys.readouterr().err
    assert run(["top", "-n", "0"]) == EXIT_USAGE
    assert run(["top", "-i", "0"]) == EXIT_USAGE
