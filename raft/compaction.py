"""Snapshots in place of the log's start: when to take one, what to forget then, and how one from the leader is
installed (Raft paper, section 7), on top of voting.py. Purely synchronous; writing and fetching are
snapshot_keeper.py's.
"""

from typing import Any, NamedTuple

import msgspec
from pysyncobj.node import Node

from ottla.log.failpoints import failpoint

from .codec import InstallSnapshot, NextIndex
from .pysyncobj_core import RaftInvariantBroken
from .snapshot import SnapshotId
from .voting import Elections
from .wal import EntryId


class CompactionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot is due after so many entries or bytes of log since the last one; ``kept`` entries stay behind it, so
    that a follower that is a little slow needs none."""

    entries: int = 10_000
    bytes: int = 16 << 20
    kept: int = 1_000


class SnapshotOffer(NamedTuple):
    """The leader's entries that this node needs are gone; node ``node_id`` has this snapshot."""

    node_id: int
    snapshot: SnapshotId


class Compaction(Elections):
    """``snapshot``: the newest durable one, whose state ``apply``'s side holds already; the log holds its entry."""

    snapshot_offer: SnapshotOffer | None = None  # the newest, until it is installed or of no use

    def __init__(
        self,
        *arguments: Any,
        snapshot: SnapshotId | None = None,
        compaction: CompactionSettings | None = None,
        **keywords: Any,
    ) -> None:
        self._snapshot = snapshot
        self._compaction = compaction or CompactionSettings()
        super().__init__(*arguments, **keywords)
        if snapshot is not None:
            # D7 holds: what a snapshot has was committed.
            self._jump_to(max(snapshot.index, 1))
            self._wal.compact(max(snapshot.index - self._compaction.kept, self._wal.base_index))

    def _accept_up_to(self, node: Node, matched: int, now: float) -> None:
        raise NotImplementedError

    def _follow(self, leader: Node, term: int, now: float) -> None:
        raise NotImplementedError

    # One's own

    @property
    def newest_snapshot(self) -> SnapshotId | None:
        """The newest durable one: it reaches at least to where the log begins."""
        return self._snapshot

    @property
    def snapshot_due(self) -> EntryId | None:
        """The last applied entry, if a snapshot of the state after it should be taken now."""
        last = self._snapshot.index if self._snapshot is not None else 1
        entries = self.applied_index - last
        if entries <= 0:
            return None
        size = self._wal.end_of(self.applied_index) - self._wal.end_of(last)
        if entries < self._compaction.entries and size < self._compaction.bytes:
            return None
        return EntryId(self.applied_index, self._wal.term_at(self.applied_index))

    @failpoint("raft.compact")
    def snapshot_taken(self, snapshot: SnapshotId) -> None:
        """This snapshot of an applied state is durable: what it has may go from the log."""
        if self._snapshot is not None and snapshot.index <= self._snapshot.index:
            return  # one from the leader came first
        self._snapshot = snapshot
        self._wal.compact(max(snapshot.index - self._compaction.kept, self._wal.base_index))

    def _offer_snapshot(self, node: Node) -> None:
        if self._snapshot is None:
            raise RaftInvariantBroken(f"the log starts after {self._wal.base_index} and there is no snapshot")
        index, term, size, crc = self._snapshot
        self._barrier.send(node, InstallSnapshot(self.term, index, term, size, crc))

    # The leader's

    def _on_install_snapshot(self, node: Node, message: InstallSnapshot, now: float) -> None:
        alive = NextIndex(self.term, 1, success=False, reset=False)
        if message.term < self.term:
            self._barrier.send(node, alive)
            return
        self._follow(node, message.term, now)
        if message.index <= self.commit_index:
            self.snapshot_offer = None
            self._accept_up_to(node, message.index, now)  # committed here, so it is what the leader has there
            return
        # D3b: nothing is committed by an offer. What it names was not compared with anything here.
        offered = SnapshotId(message.index, message.snapshot_term, message.size, message.crc)
        self.snapshot_offer = SnapshotOffer(node.id, offered)
        self._barrier.send(node, NextIndex(self.term, 1, success=False, reset=False))

    def may_install(self, snapshot: SnapshotId) -> bool:
        """Whether it would bring this node forward. One that leads has all that was committed in its log."""
        return snapshot.index > self.applied_index and not self.is_leader

    @failpoint("raft.install")
    def install(self, snapshot: SnapshotId) -> None:
        """The state after this snapshot's entry is now ``apply``'s side's, in this same step, and the snapshot is
        durable. Raises WalFull; then nothing changed, and the state must not either: call this first.

        The log keeps what follows the snapshot's entry if it has that very entry, for then it is the leader's up to
        there; otherwise all of it goes: what it has up to there is in the snapshot or was never committed.
        """
        assert self.may_install(snapshot)
        place = EntryId(snapshot.index, snapshot.term)
        if not self._wal.holds(place):
            if place.index <= self.commit_index:
                raise RaftInvariantBroken(f"a snapshot contradicts committed entry {place.index}")
            self._wal.reset(place)
        self._jump_to(place.index)
        self.snapshot_offer = None
        self.snapshot_taken(snapshot)
