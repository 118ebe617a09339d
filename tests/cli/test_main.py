"""The command line as a whole: what it answers without any node, and with which exit code."""

import errno
import io
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from ottla.cli.app import make_app
from ottla.cli.main import run
from ottla.cli.other_words import WORDS
from ottla.cli.problems import NotFound, UsageProblem, exit_code_for, show_problem
from ottla.cli.sdk import advise
from ottla.client.errors import ConfigError, ConnectFailed, OttlaError, RecordTooLarge, TopicNotFound
from ottla.client.version import VERSION

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
        ["consume", "t", "--from", "@-1y"],
        ["consume", "t", "--to", "tomorrow"],
        ["consume", "t", "-f", "--to", "end"],
        ["consume"],
        ["consume", "t", "--pattern", "t.*"],
        ["consume", "--pattern", "t.*", "-f", "-p", "0"],
        ["consume", "--pattern", "t.*", "-f", "--from", "5"],
        ["topic", "trim", "t", "--to", "start"],
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


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("topic describe t", "Try: ottla topic show"),
        ("topic list", "Try: ottla topic ls"),
        ("topic delete t", "Try: ottla topic rm"),
        ("group reset g", "Try: ottla group seek"),
        ("node rm 3", "Try: ottla node decommission"),
        ("config delete a", "Try: ottla config unset"),
        ("publish t", "Try: ottla produce"),
        ("consumer-groups", "Try: ottla group"),
        ("topic zzz", "Try: ottla topic --help"),
        ("topic show", "Try: ottla topic show --help"),
    ],
)
def test_who_types_another_tools_word_is_told_ours(typed: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(typed.split()) == 2
    assert capsys.readouterr().err.endswith(f" {hint}\n")


def test_the_words_of_other_tools_mean_commands_that_there_are() -> None:
    top = typer.main.get_command(make_app()).commands  # type: ignore[attr-defined]
    below = [set(group.commands) for group in top.values() if hasattr(group, "commands")]
    assert set(WORDS) <= set(top).union(*below)


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


def test_no_answer_and_a_no_change_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for typed, said in (("", "No answer. Use -y."), ("n\n", "Nothing changed."), ("\n", "Nothing changed.")):
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        assert run(["topic", "rm", "t", "--servers", NOBODY]) == 1
        assert said in capsys.readouterr().err


def test_a_reader_that_has_had_enough_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*arguments: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("ottla.cli.consume.consume", gone)
    assert run(["consume", "t"]) == 0


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(["dev", "--data", str(tmp_path / "file" / "x")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("OTTLA-DATA-UNUSABLE: ")
    assert "--data DIR" in error


def test_a_bad_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content, said in (("= 1", "is not TOML"), ("zzz = 1", "there is no setting 'zzz' in ")):
        (tmp_path / "node.toml").write_text(content)
        assert run(["start", "--config", str(tmp_path / "node.toml")]) == 1
        error = capsys.readouterr().err
        assert said in error
        assert "node.toml" in error


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (TopicNotFound("there is no topic a.b."), "ottla topic create a.b,"),
        (TopicNotFound("t has partitions 0 to 5, not 9."), None),
        (RecordTooLarge(2, 1), "-c max.message.bytes=N"),
        (ConnectFailed([("a:1", "a:1: it is not ready.")]), "ottla health --servers a:1"),
        (ConnectFailed([("a:1", "refused")]), "--servers HOST:PORT"),
    ],
)
def test_advice_is_in_the_words_of_the_command_line(error: OttlaError, advice: str | None) -> None:
    given = advise(error, "a:1")
    assert given is None if advice is None else given is not None and advice in given
