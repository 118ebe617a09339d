"""One real node through the real command, from `dev` to Ctrl-C."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

OTTLA = [sys.executable, "-m", "ottla.cli.main"]
TIMEOUT_S = 60.0


def ottla(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*OTTLA, *arguments], input=stdin, capture_output=True, timeout=TIMEOUT_S, check=False)


def test_a_laptop_cluster_from_start_to_ctrl_c(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [*OTTLA, "dev", "-n", "1", "--ephemeral", "--base-http", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as dev:
        assert dev.stdout is not None
        try:
            table, ready = dev.stdout.readline().decode(), dev.stdout.readline().decode()
            row = re.fullmatch(r"n1  leader  http (127\.0\.0\.1:\d+)  kafka (127\.0\.0\.1:\d+)\n", table)
            assert row, table
            assert re.fullmatch(r"Ready in \d+\.\d s \(quorum 1/1\)\.\n", ready)
            _use(row[1])
            _take_its_port(row[1], tmp_path / "other")
            shutil.rmtree(tmp_path / "other")
        finally:
            talk = _press_ctrl_c(dev)
    assert dev.returncode == 0
    assert talk == b"Stopping; Ctrl-C again to kill.\n"
    assert list(tmp_path.iterdir()) == []


def _press_ctrl_c(dev: "subprocess.Popen[bytes]") -> bytes:
    dev.send_signal(signal.SIGINT)
    try:
        return dev.communicate(timeout=TIMEOUT_S)[1]
    except subprocess.TimeoutExpired:
        dev.kill()
        raise


def _use(address: str) -> None:
    servers = ("--servers", address)
    assert ottla("health", "-w", "--exit-when-healthy", "--timeout", "30", *servers).returncode == 0
    assert ottla("topic", "create", "t", "-p", "2", "-r", "1", *servers).returncode == 0
    sent = ottla("produce", "t", "-k", "=", "-H", "h=1", *servers, stdin=b"a=1\na=2\nb=3\n")
    assert sent.returncode == 0, sent.stderr
    assert sent.stderr.startswith(b"3 records in ")
    read = ottla("consume", "t", "-o", "%k%v%h", *servers)
    assert sorted(read.stdout.split()) == [b"a1h=1", b"a2h=1", b"b3h=1"]
    assert ottla("consume", "t", "-n", "1", "-f", *servers).stdout.count(b"\n") == 1
    _copy_as_json(servers)
    _meet_errors(servers)


def _copy_as_json(servers: tuple[str, str]) -> None:
    as_json = ottla("consume", "t", "-o", "json", *servers).stdout
    assert ottla("produce", "copy", "--json", *servers, stdin=as_json).returncode == 0
    shape = ("-o", "%p %k %v %T %h")
    assert sorted(ottla("consume", "copy", *shape, *servers).stdout.splitlines()) == sorted(
        ottla("consume", "t", *shape, *servers).stdout.splitlines()
    )


def _meet_errors(servers: tuple[str, str]) -> None:
    missing = ottla("topic", "show", "nope", *servers)
    assert (missing.returncode, missing.stdout) == (3, b"")
    assert missing.stderr.startswith(b"OTTLA-UNKNOWN-TOPIC-OR-PARTITION: ")
    refused = ottla("topic", "create", "u", "-c", "retention.msx=1", *servers)
    assert refused.returncode == 1
    assert refused.stderr.startswith(b"OTTLA-INVALID-CONFIG: ")
    bad = ottla("produce", "t", "--json", *servers, stdin=b'{"value":"x"}\nnot json\n')
    assert bad.returncode == 1
    assert b"OTTLA-BAD-RECORD: line 2: " in bad.stderr


def _take_its_port(address: str, data: Path) -> None:
    taken = ottla("start", "--http", address, "--data", str(data))
    assert taken.returncode == 1
    last = taken.stderr.decode().splitlines()[-1]
    assert re.match(rf"OTTLA-PORT-IN-USE: {re.escape(address)} is taken by pid \d+ \(.+\)\. Use --http", last)
