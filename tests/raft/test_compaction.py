"""What a snapshot does to a voter: it commits nothing by itself, loses nothing acknowledged, promises nothing early."""

import pytest

from ottla.raft.codec import AppendEntries, InstallSnapshot, NextIndex, RequestVote
from ottla.raft.compaction import CompactionSettings
from ottla.raft.pysyncobj_core import Applied, RaftInvariantBroken
from ottla.raft.snapshot import SnapshotId
from ottla.raft.wal import EntryId

from .cluster import SNAPSHOT_DIRECTORY, WAL_DIRECTORY, World
from .fuzz import EAGER
from .lonely import Lonely

X, Y = b"\0x", b"\0y"
ALIVE = NextIndex(2, 1, success=False, reset=False)


def with_a_tail() -> Lonely:
    """Follows node 2 in term 1: entries 2 to 6, of which 2 and 3 are committed and applied."""
    world = Lonely(3)
    world.hear(2, AppendEntries(1, 3, 1, 0, tuple((X, index, 1) for index in range(2, 7))))
    world.one.tick()
    world.sync()
    world.sent.clear()
    assert (world.one.core.applied_index, world.one.wal.last_index) == (3, 6)
    return world


def offer(world: Lonely, index: int, term: int) -> SnapshotId:
    world.hear(3, InstallSnapshot(2, index, term, 100, 1))
    return SnapshotId(index, term, 100, 1)


@pytest.mark.parametrize(("index", "term"), [(5, 1), (5, 2), (9, 2)])
def test_an_offer_commits_nothing_and_promises_nothing(index: int, term: int) -> None:
    # D3b: the local tail was not compared with anything.
    world = with_a_tail()
    offer(world, index, term)
    world.one.tick()
    world.sync()
    assert (world.one.core.commit_index, world.one.core.applied_index, world.one.wal.last_index) == (3, 3, 6)
    assert world.heard(NextIndex) == [ALIVE]
    assert world.one.core.snapshot_offer is not None


def test_an_offer_of_an_older_term_is_answered_and_ignored() -> None:
    world = with_a_tail()
    world.hear(2, RequestVote(5, 9, 4, True))
    world.sent.clear()
    offer(world, 9, 2)
    assert world.heard(NextIndex) == [NextIndex(5, 1, success=False, reset=False)]
    assert world.one.core.snapshot_offer is None


def test_what_is_committed_here_needs_no_snapshot() -> None:
    world = with_a_tail()
    snapshot = offer(world, 3, 1)
    world.sync()
    assert world.heard(NextIndex)[-1] == NextIndex(2, 4, success=True, reset=False)
    assert world.one.core.snapshot_offer is None
    assert not world.one.core.may_install(snapshot)


def test_a_log_that_has_the_snapshots_entry_keeps_what_follows() -> None:
    world = with_a_tail()
    world.one.core.install(offer(world, 5, 1))
    assert (world.one.core.applied_index, world.one.core.commit_index, world.one.wal.last_index) == (5, 5, 6)
    assert world.one.wal.holds(EntryId(6, 1))
    world.hear(3, AppendEntries(2, 6, 5, 1, ((X, 6, 1),)))
    world.one.tick()
    assert world.one.core.applied_index == 6


@pytest.mark.parametrize(("index", "term"), [(5, 2), (6, 2), (9, 2)])
def test_a_log_that_has_another_entry_there_starts_anew(index: int, term: int) -> None:
    world = with_a_tail()
    snapshot = offer(world, index, term)
    world.sync()
    world.one.core.install(snapshot)
    core, wal = world.one.core, world.one.wal
    assert (core.applied_index, core.commit_index, wal.last) == (index, index, (index, term))
    world.sent.clear()
    offer(world, index, term)
    assert world.heard(NextIndex) == [ALIVE], "not before the reset is durable"
    world.sync()
    assert world.heard(NextIndex)[-1] == NextIndex(2, index + 1, success=True, reset=False)
    world.hear(3, AppendEntries(2, index + 1, index, term, ((Y, index + 1, 2),)))
    world.one.tick()
    assert core.applied_index == index + 1


def test_a_snapshot_that_contradicts_what_is_committed_stops_the_node() -> None:
    world = with_a_tail()
    world.hear(3, AppendEntries(1, 5, 6, 1))
    with pytest.raises(RaftInvariantBroken):
        world.one.core.install(SnapshotId(5, 2, 100, 1))


def test_entries_that_a_snapshot_has_are_not_compared_and_those_after_are_taken() -> None:
    world = with_a_tail()
    world.one.core.install(offer(world, 9, 2))
    world.sync()
    world.sent.clear()
    entries = tuple((Y, index, 2) for index in range(5, 12))
    world.hear(3, AppendEntries(2, 11, 4, 1, entries))  # sent before the snapshot was installed
    world.sync()
    assert world.one.wal.last == (11, 2)
    world.hear(3, AppendEntries(2, 11, 4, 1, entries[:3]))
    world.sync()
    assert world.one.wal.last == (11, 2)
    assert [m.next_index for m in world.heard(NextIndex) if m.success] == [12, 8]


def far_behind(seed: int = 1, size: int = 3) -> tuple[World, int]:
    """A cluster whose log no longer reaches back to where one node, which is cut off, is; and that node."""
    world = World(seed, size, compaction=EAGER, segment_bytes=1000)
    leader = world.run_to_leader()
    world.run(0.3)
    away = next(voter for voter in world.voters.values() if voter is not leader)
    world.isolate(away.id)
    for number in range(100):
        leader.propose(b"%d" % number)
        world.run(0.02)
    assert leader.wal.base_index > away.wal.last_index
    return world, away.id


def test_a_follower_whose_entries_are_gone_gets_a_snapshot_and_then_entries() -> None:
    world, away = far_behind()
    world.mesh()
    world.run(2)
    assert world.installs == 1
    world.check_converged()
    for voter in world.voters.values():
        assert voter.wal.last_index - voter.wal.base_index <= EAGER.entries + EAGER.kept + 2, "memory is let go"
        assert len(voter.world.disks[voter.id].listdir(WAL_DIRECTORY)) <= 6
        assert len(voter.world.disks[voter.id].listdir(SNAPSHOT_DIRECTORY)) <= 2
    world.crash(away, power=True)
    again = world.start(away)
    assert again.core.applied_index > 1
    assert again.core.commit_index == again.core.applied_index
    world.mesh()
    world.run(2)
    world.check_converged()


def test_offers_come_with_heartbeats_and_not_more_often() -> None:
    # D16: the stock one queued 33,035 messages in one tick.
    world, away = far_behind()
    leader = world.run_to_leader()
    sent: list[object] = []
    deliver = leader.core._barrier.deliver
    leader.core._barrier.deliver = lambda node, message: (
        (  # type: ignore[method-assign]
            sent.append(message) if isinstance(message, InstallSnapshot) else None
        )
        or deliver(node, message)
    )
    world.voters[away].fetch_snapshot = lambda chunk: None  # type: ignore[method-assign]
    world.mesh()
    world.run(2)
    assert 15 <= len(sent) <= 22
    assert world.voters[away].core.leader_id == leader.id, "an offer is a heartbeat too"
    assert leader.core.is_leader


def test_a_proposal_that_a_snapshot_swallowed_is_unknown_and_never_ok() -> None:
    # E26: a rejoining leader applied commands that were never committed and called them done.
    world = World(3, 3, compaction=EAGER, segment_bytes=1000)
    old = world.run_to_leader()
    world.run(0.3)
    world.isolate(old.id)
    outcomes: list[Applied] = []
    for _ in range(5):
        old.core.propose(b"never committed", outcomes.append)
    world.run(2)
    new = world.run_to_leader()
    for number in range(100):
        new.propose(b"%d" % number)
        world.run(0.02)
    world.mesh()
    world.run(2)
    assert world.installs == 1
    assert [outcome.error for outcome in outcomes] == [5] * 5  # LEADER_CHANGED: unknown
    assert b"never committed" not in world.canon
    world.check_converged()


def test_a_vote_outlives_the_files_it_was_written_to() -> None:
    world, _ = far_behind()
    voter = world.run_to_leader()
    term, vote = voter.core.term, voter.wal.getVotedForNodeId()
    assert world.disks[voter.id].listdir(WAL_DIRECTORY)[0] != f"{1:020}.wal"
    world.crash(voter.id, power=True)
    again = world.start(voter.id)
    assert (again.core.term, again.wal.getVotedForNodeId()) == (term, vote)
    assert vote is not None


def test_a_snapshot_is_due_by_count_or_by_size() -> None:
    for settings, commands, size in (
        (CompactionSettings(entries=10, bytes=1 << 30), 10, 1),
        (CompactionSettings(entries=1000, bytes=5000), 5, 1000),
    ):
        world = World(1, 1, compaction=settings)
        one = world.run_to_leader()
        one.write_snapshot = lambda: None  # type: ignore[method-assign]
        last = one.core.applied_index
        for _ in range(commands - 2):
            one.propose(bytes(size))
            world.run(0.02)
        assert one.core.snapshot_due is None
        for _ in range(2):
            one.propose(bytes(size))
            world.run(0.02)
        assert one.core.snapshot_due == (last + commands, one.core.term)
