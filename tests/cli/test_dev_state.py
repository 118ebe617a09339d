"""Who runs, and above all who must never be signalled."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ottla.cli.dev import prepare, wipe
from ottla.cli.dev_nodes import DevNodes, free_ports
from ottla.cli.dev_state import DevState, new_state, read_state, require_state, write_state
from ottla.cli.port_owner import port_owner
from ottla.cli.problems import NotFound
from ottla.cli.processes import ProcessIdentity, identify, is_alive, send_signal
from ottla.client.errors import OttlaError


def test_this_process_is_alive() -> None:
    own = identify(os.getpid())
    assert own is not None
    assert is_alive(own)
    assert not is_alive(None)


def test_a_number_used_again_is_another_process() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        now = identify(child.pid)
        assert now is not None
        earlier = ProcessIdentity(child.pid, now.started + "0")
        assert not send_signal(earlier, signal.SIGKILL)
        assert child.poll() is None
        assert send_signal(now, signal.SIGKILL)
        assert os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT) is not None
        assert not is_alive(now)  # dead, though not yet collected


def test_a_program_with_a_strange_name_is_read_right(tmp_path: Path) -> None:
    (tmp_path / "77").mkdir()
    fields = ["S", *(["0"] * 18), "4711", "9"]
    (tmp_path / "77" / "stat").write_text(f"77 (a) b (c)) {' '.join(fields)}\n")
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("boot\n")
    assert identify(77, tmp_path) == ProcessIdentity(77, "boot:4711")


def test_the_state_is_what_was_written(tmp_path: Path) -> None:
    state = new_state([7003, 7001, 7002]).with_process(2, ProcessIdentity(1, "b:1"))
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    assert [node.port for node in state.nodes] == [7001, 7002, 7003]
    assert state.join == "127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003"
    assert [path.name for path in tmp_path.iterdir()] == ["dev.json"]


def test_one_node_forms_alone() -> None:
    assert new_state([7001]).join is None


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    with pytest.raises(NotFound):
        require_state(tmp_path)
    with pytest.raises(NotFound):
        new_state([7001]).node(2)
    (tmp_path / "dev.json").write_text("{")
    with pytest.raises(OttlaError, match="cannot be read"):
        read_state(tmp_path)


def test_a_directory_keeps_its_cluster(tmp_path: Path) -> None:
    made = prepare(tmp_path, None, 7380)
    assert len(made.nodes) == 3
    assert prepare(tmp_path, None, None) == made
    assert prepare(tmp_path, 3, 7380) == made
    for nodes, port in ((2, None), (None, 7080)):
        with pytest.raises(OttlaError) as caught:
            prepare(tmp_path, nodes, port)
        assert caught.value.code == "OTTLA-DEV-OTHER-CLUSTER"


def test_a_running_cluster_is_not_started_twice(tmp_path: Path) -> None:
    running = DevState(nodes=prepare(tmp_path, 1, 7380).nodes).with_process(1, identify(os.getpid()))
    write_state(tmp_path, running)
    with pytest.raises(OttlaError) as caught:
        prepare(tmp_path, 1, 7380)
    assert caught.value.code == "OTTLA-DEV-RUNNING"


def test_wipe_removes_only_what_is_ours(tmp_path: Path) -> None:
    prepare(tmp_path, 2, 7380)
    (tmp_path / "n1").mkdir()
    (tmp_path / "n1" / "x").touch()
    (tmp_path / "mine").touch()
    wipe(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_node_that_ends_at_once_says_why(tmp_path: Path) -> None:
    prepare(tmp_path, 1, 7380)
    nodes = DevNodes(tmp_path)
    nodes.log_path(1).parent.mkdir()
    nodes.log_path(1).write_text(
        "OTTLA-FORMING: waiting\nnoise\nOTTLA-PORT-IN-USE: 127.0.0.1:7380 is taken. Use --http HOST:PORT, or stop it.\n"
    )
    with pytest.raises(OttlaError, match=r"n1: .* is taken\. Use --base-http PORT") as caught:
        nodes.wait_ready(timeout_s=0.0)
    assert caught.value.code == "OTTLA-PORT-IN-USE"


async def test_the_owner_of_a_port_is_found() -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    owner = port_owner(port)
    assert owner is not None
    assert owner.pid == os.getpid()
    server.close()
    await server.wait_closed()
    assert port_owner(port) is None


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(5))) == 5
