"""The bar of long work: on a terminal only, gone at the end, and never between data."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from ottla.cli.progress import STEP, progress
from ottla.client import sync
from ottla.client.testing import LocalCluster


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("sending", 10) as bar:
        bar.advance()
        bar.to(5, total=20, note="half")
        bar.expect(3)
    assert not bar.drawn
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_it_says_how_far(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("sending", None) as bar:
        assert bar.drawn
        bar.expect(2 * STEP)
        for _ in range(STEP):
            bar.advance()
        bar.to(STEP, note="halfway")
        bar._progress.refresh()  # type: ignore[union-attr]
    shown = terminal.getvalue()
    assert f"{STEP}/{2 * STEP}" in shown
    assert "halfway" in shown
    assert shown.endswith("\x1b[2K")  # gone


def test_not_between_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(sys, "stdout", Terminal())
    with progress("reading", 1, beside_data=True) as bar:
        assert not bar.drawn


def on_a_terminal(arguments: list[str], **streams: object) -> tuple[int, str]:
    """Exit code, and what standard error, a terminal, got."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "ottla.cli.main", *arguments]
    process = subprocess.Popen(command, stderr=theirs, **streams)  # type: ignore[call-overload]
    os.close(theirs)
    shown = b""
    try:
        while found := os.read(ours, 65536):
            shown += found
    except OSError:  # what Linux says at the end of a terminal
        pass
    finally:
        os.close(ours)
    return process.wait(30), shown.decode()


def test_a_file_is_sent_and_read_with_a_bar(ottla_cluster: LocalCluster, tmp_path: Path) -> None:
    servers = ["--servers", ",".join(ottla_cluster)]
    lines = tmp_path / "lines"
    lines.write_text("".join(f"line {number}\n" for number in range(5_000)))
    with lines.open() as source:
        code, shown = on_a_terminal(["produce", "t", *servers], stdin=source, stdout=subprocess.DEVNULL)
    assert code == 0
    assert "sending" in shown
    assert "5,000 records in " in shown.rpartition("\x1b[2K")[2]  # said when the bar is gone
    with (tmp_path / "read").open("wb") as sink:
        code, shown = on_a_terminal(["consume", "t", *servers], stdin=subprocess.DEVNULL, stdout=sink)
    assert code == 0
    assert "reading" in shown
    assert sorted((tmp_path / "read").read_text().splitlines()) == sorted(lines.read_text().splitlines())
    code, shown = on_a_terminal(["bench", "consume", "-t", "t", *servers], stdout=subprocess.DEVNULL)
    assert code == 0
    assert "reading" in shown
    with sync.connect(ottla_cluster) as client:
        assert sum(client.consumer("t").end_offsets().values()) == 5_000
