"""PySyncObj as it comes, made just drivable: no threads, no sockets; its Raft untouched."""

import functools
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pysyncobj.journal
import pysyncobj.pickle
import pysyncobj.syncobj
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.journal import MemoryJournal
from pysyncobj.node import Node
from pysyncobj.transport import Transport

PICKLERS = ("loads", "dumps", "load", "dump")


@functools.cache
def _own_pickle() -> Any:
    """The library's pickle module anew: the one it uses refuses, since Ottla was imported."""
    spec = importlib.util.spec_from_file_location("stock_pickle", pysyncobj.pickle.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def stock_pickle() -> Iterator[Any]:
    """Inside, the library pickles as it comes."""
    stock = _own_pickle()
    functions = {name: getattr(stock, name) for name in PICKLERS}
    with mock.patch.multiple(pysyncobj.pickle, **functions), mock.patch.multiple(pysyncobj.journal, **functions):
        yield stock


class StockClock:
    """The library's time, which a test moves; each look at it takes ``step`` seconds, for some of its loops wait."""

    def __init__(self, step: float = 1e-6) -> None:
        self.now = 1000.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@contextmanager
def stock_clock(step: float = 1e-6) -> Iterator[StockClock]:
    """Inside, the library's time is the clock's."""
    clock = StockClock(step)
    with mock.patch.object(pysyncobj.syncobj, "monotonicTime", clock):
        yield clock


class Recorder(Transport):  # type: ignore[misc]
    """Keeps what was sent."""

    def __init__(self) -> None:
        super().__init__(None, None, ())
        self.sent: list[dict[str, Any]] = []
        self.mail: list[tuple[int, dict[str, Any]]] = []  # the same, with who it was for

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        self.sent.append(message)
        self.mail.append((node.id, message))
        return True


class Stock(SyncObj):  # type: ignore[misc]
    """A stock node, number 1 unless told otherwise, whose commands are plain bytes."""

    def __init__(self, size: int, apply: Any = None, *, node_id: int = 1, journal: Any = None, **conf: Any) -> None:
        self.applied: list[bytes] = []
        self._apply_override = apply
        self.transport = Recorder()
        others = [Node(other) for other in range(1, size + 1) if other != node_id]
        kept = MemoryJournal() if journal is None else journal  # an empty one is false
        super().__init__(
            Node(node_id),
            others,
            SyncObjConf(autoTick=False, useFork=False, journalFile=kept, **conf),
            nodeClass=Node,
            transport=self.transport,
        )
        for other in others:
            self.transport._onNodeConnected(other)

    def _SyncObj__doApplyCommand(self, command: bytes) -> Any:
        if command[:1] != b"\0":
            return super()._SyncObj__doApplyCommand(command)
        self.applied.append(command[1:])
        if self._apply_override is not None:
            self._apply_override(command[1:])
        return None

    def hear(self, sender: int, **message: Any) -> None:
        """A message from ``sender`` arrives."""
        self.transport._onMessageReceived(Node(sender), message)

    def follow(self, leader: int, term: int, entries: list[tuple[bytes, int, int]], commit: int = 1) -> None:
        """The first message of a leader: what follows entry 1."""
        self.hear(
            leader,
            type="append_entries",
            term=term,
            commit_index=commit,
            entries=entries,
            prevLogIdx=1,
            prevLogTerm=0,
        )

    def campaign(self) -> None:
        """Its patience ends now."""
        self._SyncObj__raftElectionDeadline = 0
        self.doTick(0)

    def lead(self) -> None:
        """Win an election by everybody's vote, and see its first entry committed."""
        self.campaign()
        others = [node.id for node in self.otherNodes]
        for other in others:
            self.hear(other, type="response_vote", term=self.raftCurrentTerm)
        for other in others:
            self.accept(other)
        self.doTick(0)
        assert self._isLeader()

    def accept(self, sender: int, through: int | None = None) -> None:
        """``sender`` says that it has everything up to ``through``."""
        last = self.last_index if through is None else through
        self.hear(sender, type="next_node_idx", next_node_idx=last + 1, reset=False, success=True)

    def heard(self, kind: str) -> list[dict[str, Any]]:
        """What was sent of this type since last asked."""
        found = [message for message in self.transport.sent if message["type"] == kind]
        self.transport.sent.clear()
        return found

    @property
    def log_length(self) -> int:
        return len(self._SyncObj__raftLog)

    @property
    def last_index(self) -> int:
        return int(self._SyncObj__raftLog[-1][1])
