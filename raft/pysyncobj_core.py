"""Raft: PySyncObj with the parts replaced that lose acknowledged writes. The one file that touches its privates.

PySyncObj keeps the state (term, vote, role, log, commit index, waiting callbacks, command queue). Each method below
named ``_SyncObj__...`` overrides a name-mangled private, and says which defect of the audit (docs/raft.md) it
closes. Together they replace every method of it that reads the clock, draws random numbers, sends a message,
pickles or forks; after the constructor nothing reads its module-level time and randomness, so several nodes
with clocks of their own run in one process.

Purely synchronous: ``receive`` and ``doTick`` are the inputs, the transport is the output, and nobody may call in
from inside a callback.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pysyncobj.config import FAIL_REASON, SyncObjConf
from pysyncobj.node import Node
from pysyncobj.syncobj import _COMMAND_TYPE, _RAFT_STATE, SyncObj

from ottla.log.chance import Chance
from ottla.log.clock import Clock

from . import pysyncobj_pin as pysyncobj_pin  # the pin is checked before anything here can be used
from .barrier import BarrierTransport
from .codec import AppendEntries, Message, NextIndex
from .wal import WalFull, WriteAheadLog
from .wal_format import MAX_COMMAND_BYTES

log = logging.getLogger(__name__)

Role = _RAFT_STATE
NO_OP_COMMAND = bytes([_COMMAND_TYPE.NO_OP])
APPLIED_PER_TICK = 512  # then others may run
PROPOSALS_PER_TICK = 1024


class RaftInvariantBroken(AssertionError):
    """Something that Raft proves impossible happened. The node must stop before it harms the others."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. An election starts at random between the two, after silence."""

    heartbeat_s: float = 0.1
    election_min_s: float = 0.5
    election_max_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a proposal. ``error`` is one of PySyncObj's FAIL_REASON, 0 for success."""

    index: int
    result: bytes | None
    error: int
    raised: str | None = None  # what ``apply`` raised, which it never should


class PySyncObjCore(SyncObj):  # type: ignore[misc]
    """One voter. ``apply(index, term, command)`` runs once per committed command, in order, from index 1 after each
    start, and must be deterministic. Errors out of ``receive`` and ``doTick`` are fatal to the node."""

    def __init__(
        self,
        node_id: int,
        other_ids: list[int],
        *,
        wal: WriteAheadLog,
        transport: BarrierTransport,
        clock: Clock,
        chance: Chance,
        apply: Callable[[int, int, bytes], bytes],
        timing: Timing,
    ) -> None:
        # All before super().__init__, which already calls overrides.
        self._wal = wal
        self._barrier = transport
        self._clock = clock
        self._chance = chance
        self._apply = apply
        self._timing = timing
        self._others = tuple(Node(other) for other in sorted(other_ids))
        self._stirred = True  # something came since the last tick that it may make use of
        super().__init__(
            Node(node_id),
            self._others,
            _configuration(wal, timing),
            nodeClass=Node,
            transport=transport,
        )
        self._poller = _NoPoller()  # sockets are the event loop's business
        # First election soon: with nobody leading yet, a full silence need not pass. Pre-votes protect a live leader.
        wait = 0.0 if not other_ids else 2 * timing.heartbeat_s + timing.election_min_s * chance.random()
        self._SyncObj__raftElectionDeadline = clock.monotonic() + wait

    # What the driver uses

    @property
    def term(self) -> int:
        return int(self.raftCurrentTerm)

    @property
    def leader_id(self) -> int | None:
        """The leader of this term, as far as this node knows."""
        leader = self._getLeader()
        return None if leader is None else int(leader.id)

    @property
    def is_leader(self) -> bool:
        return bool(self._isLeader())

    @property
    def is_active(self) -> bool:
        """Leader, and everything committed before its term is applied here."""
        return self.is_leader and self.raftLastApplied >= self._SyncObj__noopIDx

    @property
    def commit_index(self) -> int:
        return int(self.raftCommitIndex)

    @property
    def applied_index(self) -> int:
        return int(self.raftLastApplied)

    def receive(self, node_id: int, message: Message) -> None:
        """A message from ``node_id``, who is authenticated. A voter that has no room to act on it stays silent."""
        self._stirred = self._stirred or not isinstance(message, AppendEntries | NextIndex)  # those say it themselves
        try:
            self._SyncObj__onMessageReceived(Node(node_id), message)
        except WalFull as full:
            log.warning("dropped %s from node %s: %s", type(message).__name__, node_id, full)

    def connected(self, node_id: int, up: bool) -> None:
        """Messages to ``node_id`` leave from now on, or no more; what was on its way is lost."""
        self._stirred = True
        (self._SyncObj__onNodeConnected if up else self._SyncObj__onNodeDisconnected)(Node(node_id))

    def propose(self, command: bytes, done: Callable[[Applied], None], *, no_op: bool = False) -> None:
        """Queue a command; the next tick appends it. ``done`` is called at most once, never from in here unless
        the queue is full, and perhaps never: the caller has a deadline of its own (D15)."""
        assert len(command) <= MAX_COMMAND_BYTES
        kind = _COMMAND_TYPE.NO_OP if no_op else _COMMAND_TYPE.REGULAR
        self._applyCommand(command, done, kind)

    def released(self) -> None:
        """The log was synced: send what waited for it."""
        self._stirred = True
        self._barrier.release(self._wal.synced_position, self.term)

    # What the subclasses are made of: PySyncObj's state under names of its own

    @property
    def _is_candidate(self) -> bool:
        return bool(self._SyncObj__raftState == Role.CANDIDATE)

    def _set_role(self, role: int) -> None:
        self._SyncObj__setState(role)

    @property
    def _leader(self) -> Node | None:
        return self._SyncObj__raftLeader

    @_leader.setter
    def _leader(self, node: Node | None) -> None:
        self._SyncObj__raftLeader = node

    @property
    def _deadline(self) -> float:
        """When patience with the leader, or with the voters, ends."""
        return float(self._SyncObj__raftElectionDeadline)

    @_deadline.setter
    def _deadline(self, at: float) -> None:
        self._SyncObj__raftElectionDeadline = at

    @property
    def _voted_for(self) -> int | None:
        vote: int | None = self._SyncObj__votedForNodeId
        return vote

    @property
    def _connected_nodes(self) -> set[Node]:
        nodes: set[Node] = self._SyncObj__connectedNodes
        return nodes

    def _commit(self, index: int) -> None:
        self._SyncObj__raftCommitIndex = index

    def _set_no_op(self, index: int) -> None:
        self._SyncObj__noopIDx = index

    def _set_term(self, term: int, voted_for: int | None) -> None:
        self._SyncObj__setCurrentTerm(term, voted_for)

    def _patience(self) -> float:
        return self._SyncObj__generateRaftTimeout()

    # What the subclasses do

    def _turn(self, now: float) -> None:
        raise NotImplementedError

    def _hear(self, node: Node, message: Message, now: float) -> None:
        raise NotImplementedError

    def _peer_connected(self, node: Node, now: float) -> None:
        raise NotImplementedError

    def _peer_lost(self, node: Node, now: float) -> None:
        raise NotImplementedError

    # Entrances

    def _onTick(self, timeToWait: float = 0.0) -> None:
        # Replaced whole: it sent before it synced, and counted itself for unsynced entries (D2).
        self._stirred = False
        self._turn(self._clock.monotonic())

    def _SyncObj__onMessageReceived(self, node: Node, message: Message) -> None:
        # Replaced whole: D1, D4, D5, D10, D13, D14, D17.
        if node in self._others:
            self._hear(node, message, self._clock.monotonic())

    def _SyncObj__onNodeConnected(self, node: Node) -> None:
        super()._SyncObj__onNodeConnected(node)
        self._peer_connected(node, self._clock.monotonic())

    def _SyncObj__onNodeDisconnected(self, node: Node) -> None:
        super()._SyncObj__onNodeDisconnected(node)
        self._barrier.forget(node)
        self._peer_lost(node, self._clock.monotonic())

    def _SyncObj__onBecomeLeader(self) -> None:
        raise RaftInvariantBroken("elections are held elsewhere")  # D5

    def _SyncObj__sendAppendEntries(self) -> None:
        raise RaftInvariantBroken("replication is done elsewhere")  # D13, D16, D17

    def _SyncObj__sendNextNodeIdx(self, *_: object, **__: object) -> None:
        raise RaftInvariantBroken("answers carry a term")  # D4

    def _append_proposals(self) -> None:
        # D9: never forwards; request ids that start at 0 in each process answer the wrong caller. A full disk fails
        # the proposal, which was not written, and nothing else.
        for _ in range(PROPOSALS_PER_TICK):
            if not self._pending():
                return
            command, done = self._SyncObj__commandsQueue.get_nowait()
            if not self.is_leader:
                _tell(done, Applied(0, None, FAIL_REASON.NOT_LEADER))
                continue
            index = self._wal.last_index + 1
            try:
                self._wal.add(command, index, self.term)
            except WalFull:
                _tell(done, Applied(0, None, FAIL_REASON.QUEUE_FULL))
                continue
            self._SyncObj__commandsWaitingCommit[index].append((self.term, done))

    def _checkCommandsToApply(self) -> None:
        self._append_proposals()  # D9

    def _SyncObj__applyLogEntries(self) -> bool:
        self._apply_committed()  # D8
        return False

    def _SyncObj__callErrCallback(self, err: int, callback: Any) -> None:
        _tell(callback, Applied(0, None, err))

    def _pending(self) -> bool:
        return bool(self._SyncObj__commandsQueue._FastQueue__queue)

    def _apply_committed(self) -> None:
        # D8: an entry counts as applied before anyone hears of it, and neither a raising apply nor a raising callback
        # can make it run twice or block those behind it.
        last = min(self.commit_index, self.applied_index + APPLIED_PER_TICK)
        while self.applied_index < last:
            command, index, term = self._wal.entry(self.applied_index + 1)
            outcome = self._SyncObj__doApplyCommand(command, index, term)
            self._SyncObj__raftLastApplied += 1
            for proposed_term, done in self._SyncObj__commandsWaitingCommit.pop(index, ()):
                _tell(done, outcome if proposed_term == term else Applied(index, None, FAIL_REASON.DISCARDED))

    def _SyncObj__doApplyCommand(self, command: bytes, index: int, term: int) -> Applied:
        # No pickle, no code versions (D18), no membership entries (D6): a command is bytes for ``apply``.
        if command[0] != _COMMAND_TYPE.REGULAR:
            return Applied(index, None, FAIL_REASON.SUCCESS)
        try:
            return Applied(index, self._apply(index, term, command[1:]), FAIL_REASON.SUCCESS)
        except Exception as error:
            log.exception("apply raised at index %d; the command has no effect on any node", index)
            return Applied(index, None, FAIL_REASON.REQUEST_DENIED, raised=repr(error))

    def _jump_to(self, index: int) -> None:
        # E18: who waits for an entry that the snapshot has swallowed never learns whether it was theirs.
        self._SyncObj__raftLastApplied = index
        self._commit(max(self.commit_index, index))
        waiting = self._SyncObj__commandsWaitingCommit
        for passed in sorted(other for other in waiting if other <= index):
            for _, done in waiting.pop(passed):
                _tell(done, Applied(0, None, FAIL_REASON.LEADER_CHANGED))

    def _SyncObj__tryLogCompaction(self) -> None:
        """Never: compaction.py decides. The stock one forks and loses the journal (D3, D3b)."""

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> None:
        raise RaftInvariantBroken("snapshots are installed elsewhere")  # D3

    def _SyncObj__parseChangeClusterRequest(self, command: bytes) -> None:
        return None  # D6: voters are static; the stock one unpickles

    # Term, vote and patience

    def _SyncObj__generateRaftTimeout(self) -> float:
        timing = self._timing
        return timing.election_min_s + (timing.election_max_s - timing.election_min_s) * self._chance.random()

    def _SyncObj__setCurrentTerm(self, term: int, votedForNodeId: int | None) -> None:
        # Disk first: with WalFull the step has not happened. The stock one changes memory first.
        if (term, votedForNodeId) == (self._wal.getCurrentTerm(), self._wal.getVotedForNodeId()):
            return
        if term < self._wal.getCurrentTerm():
            raise RaftInvariantBroken(f"term {term} after {self._wal.getCurrentTerm()}")
        self._wal.setCurrentTerm(term, votedForNodeId)
        self._SyncObj__raftCurrentTerm, self._SyncObj__votedForNodeId = term, votedForNodeId


class _NoPoller:
    def poll(self, timeout: float) -> None:
        """There are no sockets here."""


def _tell(done: Callable[[Applied], None] | None, outcome: Applied) -> None:
    if done is None:
        return
    try:
        done(outcome)
    except Exception:  # D8: somebody's callback is no reason to apply twice
        log.exception("a proposal's callback raised")


def _configuration(wal: WriteAheadLog, timing: Timing) -> SyncObjConf:
    return SyncObjConf(
        autoTick=False,  # no thread
        journalFile=wal,  # D2
        fullDumpFile=None,  # D3: snapshots are snapshot.py's
        useFork=False,  # D3: an orphaned child of a fork replaced the parent's dump
        dynamicMembershipChange=False,  # D6
        pollerType="select",  # holds no descriptor
        raftMinTimeout=timing.election_min_s,
        raftMaxTimeout=timing.election_max_s,
        appendEntriesPeriod=timing.heartbeat_s,
        leaderFallbackTimeout=timing.election_max_s,  # D12
        connectionTimeout=max(3.5, timing.election_max_s),
        appendEntriesBatchSizeBytes=2 * MAX_COMMAND_BYTES,  # D17: no entry is ever sent in pieces
        appendEntriesUseBatch=True,  # False would open a pipe
        commandsWaitLeader=False,
        commandsQueueSize=10_000,
    )
