"""One voter of the quorum: PySyncObj made safe. Replication (Raft paper, section 5.3), on top of voting.py
and compaction.py.

Purely synchronous: ``receive``, ``connected``, ``propose`` and ``doTick`` are the inputs, the transport is the output,
and nobody may call in from inside a callback.
"""

import logging
from typing import Any

from pysyncobj.node import Node

from ottla.log.failpoints import failpoint

from .codec import (
    AppendEntries,
    InstallSnapshot,
    Message,
    NextIndex,
    PreVote,
    RequestVote,
    ResponsePreVote,
    ResponseVote,
    TimeoutNow,
)
from .compaction import Compaction
from .pysyncobj_core import NO_OP_COMMAND, RaftInvariantBroken, Role
from .replication import Entry, Progress, Reject, decide_append, majority_index
from .wal import WalFull

log = logging.getLogger(__name__)

BATCH_BYTES = 256 << 10  # of one AppendEntries, unless a single entry is larger
WINDOW_BYTES = 2 << 20  # sent to one follower and not acknowledged
QUIET_HEARTBEATS = 1.5
"""So long after an answer a message that brings nothing gets none: of an idle leader's heartbeats every second one is
answered, which spares it a sixth of its work, and all of them where they come late."""


class SafeSyncObj(Compaction):
    """One voter: parameters as PySyncObjCore's and Compaction's. Errors out of its inputs are fatal to the node."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self._progress: dict[Node, Progress] = {}  # of this node's last leadership
        self._next_heartbeat = 0.0
        self._told: tuple[Node, int, int] | None = None  # leader, term and match of the last answer that has left
        self._told_at = 0.0
        super().__init__(*arguments, **keywords)

    def hand_over(self) -> bool:
        """Ask the most caught-up follower to take over; whether there is one that may (Raft thesis, 3.10)."""
        ready = [
            (progress.match, node.id, node)
            for node, progress in self._progress.items()
            if node in self._connected_nodes and progress.match == self._wal.last_index
        ]
        if not self.is_leader or not ready:
            return False
        self._barrier.send(max(ready)[2], TimeoutNow(self.term))
        return True

    def next_deadline(self) -> float:
        """Monotonic seconds at which a tick is due even if nothing happens before."""
        if self.commit_index > self.applied_index or self._pending():
            return self._clock.monotonic()
        return self._next_heartbeat if self.is_leader else self._deadline

    @property
    def is_due(self) -> bool:
        """A tick would do something. Heartbeats and their answers alone make none due, which is most of an idle
        node's traffic."""
        return self._stirred or self.next_deadline() <= self._clock.monotonic()

    def _turn(self, now: float) -> None:
        try:
            self._campaign_when_due(now)
            self._take_office_when_elected(now)
        except WalFull as full:
            log.warning("no election: %s", full)
        if self.is_leader:
            self._advance_commit()
            self._check_quorum(now)
        self._apply_committed()
        self._append_proposals()
        if self.is_leader:
            if not self._others:
                self._next_heartbeat = now + self._timing.heartbeat_s
            self._replicate_all(now)

    @failpoint("raft.take_office")
    def _take_office(self, now: float) -> None:
        # The no-op first: if the disk has no room for it, this node does not lead.
        last = self._wal.last_index
        self._wal.add(NO_OP_COMMAND, last + 1, self.term)
        self._set_no_op(last + 1)
        self._leader = self.selfNode
        self._progress = {node: Progress(last + 1, now) for node in self._others}
        self._next_heartbeat = now
        self._set_role(Role.LEADER)

    def _hear(self, node: Node, message: Message, now: float) -> None:
        match message:
            case AppendEntries():
                self._on_append_entries(node, message, now)
            case InstallSnapshot():
                self._on_install_snapshot(node, message, now)
            case NextIndex():
                self._on_next_index(node, message, now)
            case RequestVote():
                self._on_request_vote(node, message, now)
            case ResponseVote():
                self._on_response_vote(node, message)
            case PreVote():
                self._on_pre_vote(node, message, now)
            case ResponsePreVote():
                self._on_response_pre_vote(node, message, now)
            case TimeoutNow():
                self._on_timeout_now(node, message, now)

    def _on_append_entries(self, node: Node, message: AppendEntries, now: float) -> None:
        if message.term < self.term:
            # With pre-vote nobody else tells a superseded leader; an empty answer of our term does.
            self._barrier.send(node, NextIndex(self.term, 1, success=False, reset=False))
            return
        self._follow(node, message.term, now)
        decision = decide_append(self._wal, message.prev_index, message.prev_term, message.entries)
        if isinstance(decision, Reject):
            self._told = None
            self._barrier.send(node, NextIndex(self.term, decision.next_index, success=False, reset=True))
            return
        if decision.truncate_from is not None:
            self._truncate(decision.truncate_from)
        for entry in decision.append:
            self._wal.add(*entry)
        # D1, D3b: only what was just compared with the leader's log may be committed, not what may follow it here.
        self._commit(max(self.commit_index, min(message.commit_index, decision.matched)))
        if message.entries or not self._has_just_told(node, decision.matched, now):
            self._accept_up_to(node, decision.matched, now)

    def _has_just_told(self, leader: Node, matched: int, now: float) -> bool:
        """The leader knows what an answer would say. Silence is what a lost message would be, so it harms nothing; an
        answer may only be missing for less long than a leader's patience."""
        known = self._told == (leader, self.term, matched)
        return known and now - self._told_at < QUIET_HEARTBEATS * self._timing.heartbeat_s

    def _follow(self, leader: Node, term: int, now: float) -> None:
        if self.is_leader and term == self.term:
            raise RaftInvariantBroken(f"two leaders in term {term}: this node and node {leader.id}")
        if term > self.term:
            self._set_term(term, None)
        self._leader = leader
        self._pre_votes = None
        self._set_role(Role.FOLLOWER)
        self._leader_heard_at = now
        if not self._transfer:
            self._rearm(now)

    def _truncate(self, from_index: int) -> None:
        if from_index <= self.commit_index:
            raise RaftInvariantBroken(f"asked to truncate from {from_index}, committed up to {self.commit_index}")
        self._wal.deleteEntriesFrom(from_index - 1)

    def _accept_up_to(self, node: Node, matched: int, now: float) -> None:
        # D4: the answer carries its term. D2: what it promises is durable first; until then it is a sign of life, so
        # that a slow disk costs no election.
        position = max(self._wal.end_of(matched), self._wal.hard_state_end)
        answer = NextIndex(self.term, matched + 1, success=True, reset=False)
        if self._barrier.send_after(position, self._wal.synced_position, node, answer):
            self._told, self._told_at = (node, self.term, matched), now
        else:
            self._told = None
            self._barrier.send(node, NextIndex(self.term, 1, success=False, reset=False))

    def _on_next_index(self, node: Node, message: NextIndex, now: float) -> None:
        if message.term > self.term:
            self._step_down(message.term, now)
            self._stirred = True
        if message.term != self.term or not self.is_leader:
            return  # D4: an answer to an earlier leadership says nothing about this one
        progress = self._progress[node]
        progress.responded_at = now
        # Not the answer to a mere heartbeat: it may commit something, or let more be sent.
        self._stirred |= message.reset or progress.probing or message.next_index - 1 > progress.match
        if message.success and message.next_index <= self._wal.last_index + 1:
            progress.accepted(message.next_index - 1, now)
        elif message.reset:
            progress.rejected(message.next_index, now)

    def _advance_commit(self) -> None:
        # D2: this node's own entries count once they are synced here. Figure 8: only an entry of this term commits.
        matches = [progress.match for progress in self._progress.values()]
        index = majority_index([*matches, self._wal.synced_index])
        if index > self.commit_index and self._wal.term_at(index) == self.term:
            self._commit(index)

    def _check_quorum(self, now: float) -> None:
        # D12: a leader that a majority has not answered for an election timeout no longer leads. One heartbeat more,
        # since not each is answered.
        patience = self._timing.election_max_s + self._timing.heartbeat_s
        alive = sum(now - p.responded_at <= patience for p in self._progress.values())
        if not self._majority(alive):
            self._step_down(self.term, now)

    def _replicate_all(self, now: float) -> None:
        # D13, D16, D17: a bounded window per follower, one probe at a time where the logs may differ, and no entries
        # in pieces; snapshots are fetched by those who need them.
        heartbeat = now >= self._next_heartbeat
        if heartbeat:
            self._next_heartbeat = now + self._timing.heartbeat_s
        for node, progress in self._progress.items():
            if node in self._connected_nodes:
                self._replicate(node, progress, now, heartbeat)

    def _replicate(self, node: Node, progress: Progress, now: float, heartbeat: bool) -> None:
        if progress.waiting and now - progress.moved_at > 4 * self._timing.heartbeat_s:
            progress.restart(self._wal.last_index, now)
        if progress.next <= self._wal.base_index:
            if heartbeat:  # D16: never more often
                self._offer_snapshot(node)
            return
        sent = False
        while self._may_send(progress):
            entries = self._wal.batch(progress.next, BATCH_BYTES)
            through = progress.next - 1 + len(entries)
            self._send_entries(node, progress.next - 1, tuple(entries))
            progress.sent(through, self.commit_index, now)
            sent = True
        commit = min(self.commit_index, progress.match)
        if not sent and (heartbeat or commit > progress.commit_told):
            # From what is known to match, not from what was sent last: it may overtake bulk on its way.
            # Where that is gone, the first entry: a sign of life, which every log accepts.
            known = progress.match if progress.match >= self._wal.base_index else 1
            self._send_entries(node, max(known, 1), ())
            progress.commit_told = max(commit, progress.commit_told)

    def _may_send(self, progress: Progress) -> bool:
        if progress.probing:
            return not progress.probe_sent
        if progress.next > self._wal.last_index:
            return False
        in_flight = self._wal.end_of(progress.next - 1) - self._wal.end_of(max(progress.window_start, 1))
        return in_flight < WINDOW_BYTES

    def _send_entries(self, node: Node, prev_index: int, entries: tuple[Entry, ...]) -> None:
        # Needs no barrier: a leader's term is durable before it leads, and an entry that is lost here was not counted.
        prev_term = self._wal.term_at(prev_index)
        self._barrier.send(node, AppendEntries(self.term, self.commit_index, prev_index, prev_term, entries))

    def _peer_connected(self, node: Node, now: float) -> None:
        self._told = None  # what was on its way to it is lost
        if self.is_leader:
            self._progress[node].restart(self._wal.last_index, now)
