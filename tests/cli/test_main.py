"""The command line as a whole: what it answers without any node, and with which exit code."""

import subprocess
import sys
from pathlib import Path

import pytest

from ottla.cli.main import run
from ottla.cli.problems import NotFound, UsageProblem, exit_code_for, show_problem
from ottla.cli.version import VERSION
from ottla.client.errors import ConfigError, OttlaError, TopicNotFound

NOBODY = "127.0.0.1:1"


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"ottla {VERSION}\n"
    assert run([]) == 0
    shown = capsys.readouterr().out
    commands = ("start", "dev", "health", "status", "node", "topic", "produce", "consume", "bench")
    assert all(f"\n  {command} " in shown for command in commands)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["topic", "nope"],
        ["topic", "create"],
        ["dev", "-n", "8"],
        ["dev", "--ephemeral", "--detach"],
        ["consume", "t", "--from", "@-1h"],
        ["consume", "t", "-o", "%q"],
        ["produce", "t", "--acks", "2"],
        ["produce", "t", "-H", "novalue"],
        ["topic", "create", "t", "-c", "novalue"],
        ["start", "--set", "novalue"],
    ],
)
def test_a_wrong_command_line_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("OTTLA-USAGE: ")
    assert captured.err.count("\n") == 1


def test_nobody_there_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--servers", NOBODY]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("OTTLA-CONNECT-FAILED: no node answered")
    assert NOBODY in captured.err


def test_health_of_nobody_is_bad(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["health", "--servers", NOBODY]) == 1
    assert "unreachable" in capsys.readouterr().out


def test_a_cluster_that_is_not_there_is_exit_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["stop"], ["wipe", "-y"], ["kill", "1"], ["pause", "1"], ["resume", "1"], ["restart", "1"]):
        assert run(["dev", *verb, "--data", str(tmp_path)]) == 3
        assert capsys.readouterr().err.startswith("OTTLA-NOT-FOUND: there is no cluster in ")


def test_settings_are_checked_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["start", "--set", "num.partition=3"]) == 1
    assert capsys.readouterr().err.rstrip().endswith("Did you mean num.partitions?")


def test_destroying_asks_first(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("typer.confirm", lambda question, err: asked.append(question))
    assert run(["topic", "rm", "t", "--servers", NOBODY]) == 1
    assert asked == ["Delete topic t with all its records?"]
    assert "OTTLA-" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (OttlaError("it broke"), "OTTLA-ERROR: it broke.", 1),
        (ConfigError("no such thing.", hint="Do that."), "OTTLA-CONFIG: no such thing. Do that.", 1),
        (TopicNotFound("no topic x"), "OTTLA-UNKNOWN-TOPIC-OR-PARTITION: no topic x.", 3),
        (NotFound("no node 9"), "OTTLA-NOT-FOUND: no node 9.", 3),
        (UsageProblem("what?"), "OTTLA-USAGE: what?", 2),
    ],
)
def test_the_shape_of_an_error(error: OttlaError, line: str, code: int) -> None:
    assert show_problem(error) == line
    assert exit_code_for(error) == code


def test_help_loads_nothing_heavy() -> None:
    """What keeps `ottla --help` within its 200 ms."""
    script = (
        "import sys; from ottla.cli.main import run; run(['--help']);"
        "heavy = {'aiohttp', 'asyncio', 'msgspec', 'rich', 'structlog', 'uvloop', 'zstandard', 'pysyncobj'};"
        "sys.exit(','.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
