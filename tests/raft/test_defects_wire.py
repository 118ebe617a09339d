"""Defects of PySyncObj on the network, and the pin on its source (docs/raft.md has the list)."""

import importlib.util
import os
import shutil
import socket
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import pysyncobj.dns_resolver
import pysyncobj.pickle
import pysyncobj.syncobj
import pytest
from pysyncobj.dns_resolver import DnsCachingResolver
from pysyncobj.journal import Journal
from pysyncobj.poller import POLL_EVENT_TYPE
from pysyncobj.tcp_connection import TcpConnection

from ottla.raft import pysyncobj_pin
from ottla.raft.codec import MalformedMessage, RequestVote, decode
from ottla.raft.engine import SafeSyncObj
from ottla.raft.pysyncobj_pin import PINNED_VERSION, PickleForbidden, PySyncObjChanged, check_pin

from .cluster import World
from .lonely import Lonely
from .stock import Stock, stock_pickle


class MakesDirectory:
    """Its pickle makes a directory when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


class OneMessage:
    """A socket that something came in by, and the poller that noticed."""

    def __init__(self, data: bytes) -> None:
        self._data = [data]

    def fileno(self) -> int:
        return 9

    def getsockopt(self, *_: object) -> int:
        return 0

    def recv(self, _: int) -> bytes:
        if not self._data:
            raise BlockingIOError(11, "nothing more")
        return self._data.pop()

    def close(self) -> None:
        pass

    def subscribe(self, _: int, callback: Any, __: int) -> None:
        self.callback = callback

    def unsubscribe(self, _: int) -> None:
        pass


# D10


def test_d10_stock_runs_what_anybody_sends_it(tmp_path: Path) -> None:
    with stock_pickle() as pickler:
        frame = zlib.compress(pickler.dumps(MakesDirectory(tmp_path / "made")))
        peer = OneMessage(struct.pack("i", len(frame)) + frame)
        TcpConnection(peer, socket=peer)
        peer.callback(peer.fileno(), POLL_EVENT_TYPE.READ)  # nobody has said yet who it is
    assert (tmp_path / "made").is_dir()


def test_d10_stock_obeys_a_stranger() -> None:
    stock = Stock(3)
    stock.follow(2, 1, [(b"\0x", 2, 1)], commit=2)
    stock.doTick(0)
    stock.transport._onReadonlyNodeConnected(pysyncobj.syncobj.Node("0"))  # said "readonly", and nothing else
    stock.hear("0", type="append_entries", term=10**9, commit_index=1, entries=[], prevLogIdx=1, prevLogTerm=0)  # type: ignore[arg-type]
    assert stock.raftCurrentTerm == 10**9
    assert stock.last_index == 1  # the committed entry is gone


def test_d10_ours_no_pickle_is_ever_read_or_written(tmp_path: Path) -> None:
    with stock_pickle() as pickler:
        harmful = pickler.dumps(MakesDirectory(tmp_path / "made"))
    for function in (pysyncobj.pickle.loads, pysyncobj.pickle.dumps, pysyncobj.pickle.load, pysyncobj.pickle.dump):
        with pytest.raises(PickleForbidden):
            function(harmful)
    for data in (harmful, zlib.compress(harmful)):
        with pytest.raises(MalformedMessage):
            decode(data)
    assert not (tmp_path / "made").exists()


def test_d10_ours_a_message_of_a_stranger_changes_nothing() -> None:
    world = Lonely(3)
    world.hear(9, RequestVote(9, 9, 9, True))
    assert world.one.core.term == 0


# D19


def test_d19_stock_takes_ipv6_for_ipv4() -> None:
    resolver = DnsCachingResolver(1, 1)
    resolver.setPreferredAddrFamily("ipv6")
    assert resolver._DnsCachingResolver__preferredAddrFamily == socket.AF_INET


def test_d19_the_resolver_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("a name was resolved")

    monkeypatch.setattr(DnsCachingResolver, "resolve", forbidden)
    monkeypatch.setattr(pysyncobj.dns_resolver.socket, "getaddrinfo", forbidden)
    world = World(1, 3)
    world.run_to_leader().propose(b"x")
    world.run(0.5)
    assert world.acked == [b"x"]


# The pin


def test_another_pysyncobj_is_refused() -> None:
    source = Path(pysyncobj.syncobj.__file__).read_bytes()
    check_pin(PINNED_VERSION, source)
    for version, content in ((PINNED_VERSION, source + b"\n"), ("0.3.18", source)):
        with pytest.raises(PySyncObjChanged, match="OTTLA-PYSYNCOBJ-CHANGED"):
            check_pin(version, content)


def test_a_changed_source_is_refused_at_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(pysyncobj.syncobj.__file__).parent
    shutil.copytree(source, tmp_path / "pysyncobj", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "pysyncobj" / "syncobj.py").open("a") as changed:
        changed.write("\n# somebody mended something\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "pysyncobj"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = importlib.util.spec_from_file_location("pin_of_a_changed_source", pysyncobj_pin.__file__)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError) as refused:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    message = str(refused.value)
    assert message.startswith("OTTLA-PYSYNCOBJ-CHANGED: ")
    assert f"Install pysyncobj=={PINNED_VERSION}" in message
    for name in [name for name in sys.modules if name.partition(".")[0] == "pysyncobj"]:
        del sys.modules[name]  # the copy; the real ones come back


def test_every_override_names_a_method_that_exists() -> None:
    own = [name for kind in SafeSyncObj.__mro__[:-2] for name in vars(kind) if name.startswith("_SyncObj__")]
    assert own
    for name in own:
        assert hasattr(pysyncobj.syncobj.SyncObj, name), name


def test_the_journal_is_ours_and_stock_ones_still_work() -> None:
    world = World(1, 1)
    assert world.voters[1].core._SyncObj__raftLog is world.voters[1].wal
    assert isinstance(pysyncobj.syncobj.createJournal(None), Journal)
