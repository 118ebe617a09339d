"""Defects of PySyncObj in snapshots and compaction: the stock class fails, ours holds (docs/raft.md has the list)."""

from pathlib import Path
from typing import Any

import pytest
from pysyncobj.journal import FileJournal, MemoryJournal
from pysyncobj.node import Node
from pysyncobj.serializer import SERIALIZER_STATE

from ottla.raft.codec import InstallSnapshot, NextIndex
from ottla.raft.snapshot import SnapshotDamaged, SnapshotMeta, encode_snapshot

from .cluster import CLUSTER, World
from .fuzz import EAGER
from .lonely import Lonely
from .stock import Stock, stock_clock, stock_pickle

X, Y = b"\0x", b"\0y"

# D3, D3b


def alone(directory: Path) -> Stock:
    """A stock voter alone, on a journal and a dump in this directory."""
    return Stock(1, journal=FileJournal(str(directory / "journal")), fullDumpFile=str(directory / "dump"))


def write(stock: Stock, count: int) -> list[bytes]:
    """Commit that many commands; those that were acknowledged."""
    acknowledged: list[bytes] = []
    for number in range(count):
        command = b"%d" % (stock.last_index + number)
        stock._applyCommand(command, lambda _, error, told=command: acknowledged.append(told) if not error else None, 0)
    stock.doTick(0)
    stock.doTick(0)
    return acknowledged


def test_d3_stock_a_death_between_dump_and_journal_loses_what_came_after(tmp_path: Path) -> None:
    with stock_pickle():
        stock = alone(tmp_path)
        stock.campaign()
        write(stock, 20)
        stock.forceLogCompaction()
        stock.doTick(0)  # the dump is there; the journal would follow in the next tick
        busy = (SERIALIZER_STATE.SERIALIZING, None)
        stock._SyncObj__serializer.checkSerializing = lambda: busy  # type: ignore[attr-defined]
        assert len(write(stock, 20)) == 20
        assert stock.last_index == 42
        again = alone(tmp_path)
        again.doTick(0)
        assert again.last_index == 22  # twenty acknowledged commands are gone


def test_d3_stock_starts_empty_on_a_dump_it_cannot_read(tmp_path: Path) -> None:
    with stock_pickle():
        stock = alone(tmp_path)
        stock.campaign()
        write(stock, 20)
        stock.forceLogCompaction()
        stock.doTick(0)
        stock.doTick(0)
        (tmp_path / "dump").write_bytes(b"")  # renamed, never synced, and the power went
        again = alone(tmp_path)
        again.campaign()
        assert again._isLeader()
        assert write(again, 1) == []
        assert again.raftLastApplied == 1
        assert again.applied == []


def test_d3_stock_acknowledges_a_snapshot_that_it_could_not_load(tmp_path: Path) -> None:
    with stock_pickle():
        stock = Stock(3, fullDumpFile=str(tmp_path / "dump"))
        stock.follow(2, 1, [(X, 2, 1), (X, 3, 1)])
        stock.transport.sent.clear()
        for piece in ((b"not a dump", True, False), (b"", False, True)):
            stock.hear(3, type="append_entries", term=2, commit_index=100, serialized=piece)
        (answer,) = stock.heard("next_node_idx")
        assert (answer["success"], answer["next_node_idx"]) == (True, 4)
        assert (tmp_path / "dump").read_bytes() == b"not a dump"  # in place of whatever was there


def test_d3_ours_a_death_between_snapshot_and_log_loses_nothing() -> None:
    world = World(1, 1, compaction=EAGER)
    one = world.run_to_leader()
    for number in range(10):
        one.propose(b"%d" % number)
    world.run(0.2)
    core = one.core
    meta = SnapshotMeta(core.applied_index - 5, core.term, CLUSTER, 1)
    one.store.save(encode_snapshot(meta, one.encode(one.applied[:-5])))
    world.crash(1, power=True)
    one = world.start(1)
    world.run(1)
    assert one.applied == world.canon == world.acked == [b"%d" % number for number in range(10)]


def test_d3_ours_a_snapshot_that_cannot_be_read_is_neither_kept_nor_acknowledged() -> None:
    world = Lonely(3)
    good = world.one.store.save(encode_snapshot(SnapshotMeta(1, 0, CLUSTER, 1), world.one.encode([])))
    world.hear(3, InstallSnapshot(2, 100, 1, 10, 7))
    with pytest.raises(SnapshotDamaged):
        world.one.store.save(b"not a snapshot")
    world.sync()
    assert [message.success for message in world.heard(NextIndex)] == [False]
    assert world.one.store.recover().snapshot == good


def test_d3b_stock_a_piece_of_a_snapshot_commits_a_tail_that_was_never_committed() -> None:
    stock = Stock(3)
    stock.campaign()
    stock.hear(2, type="response_vote", term=1)
    outcomes: list[Any] = []
    stock._applyCommand(b"never committed", lambda *outcome: outcomes.append(outcome), 0)
    stock.doTick(0)
    stock.hear(3, type="append_entries", term=2, commit_index=100, serialized=(b"first piece", True, False))
    stock.doTick(0)
    assert stock.applied == [b"never committed"]
    assert outcomes == [(None, 0)]  # and its proposer was told SUCCESS


def test_d3b_ours_an_offer_commits_nothing() -> None:
    world = Lonely(3)
    world.lead()
    world.one.propose(b"never committed")
    world.one.tick()
    world.sync()
    world.hear(3, InstallSnapshot(2, 100, 1, 10, 7))
    world.one.tick()
    assert world.one.core.commit_index == 1
    assert world.one.applied == world.acked == []


# D16


def test_d16_stock_floods_a_follower_while_a_snapshot_is_not_there_yet() -> None:
    journal = MemoryJournal()
    for index in (50, 51, 52):
        journal.add(X, index, 0)
    with stock_clock(step=1e-4) as clock:
        stock = Stock(3, journal=journal)
        stock.campaign()
        stock.hear(2, type="response_vote", term=1)
        stock.hear(2, type="next_node_idx", next_node_idx=2, reset=True, success=False)
        stock._SyncObj__serializer._Serializer__pid = 12345  # a dump is being written
        stock._SyncObj__connectedNodes.discard(Node(3))
        stock.transport.sent.clear()
        clock.now += 0.2
        stock.doTick(0)
        assert len(stock.transport.sent) > 500  # in one tick, which took as long as a heartbeat's period
        assert {message.get("serialized", 0) for message in stock.transport.sent} == {None}


def test_d16_ours_one_offer_a_heartbeat() -> None:
    world = Lonely(3)
    world.lead()
    for number in range(100):
        world.one.propose(b"%d" % number)
    world.one.tick()
    world.sync()
    world.hear(2, NextIndex(1, 103, success=True, reset=False))
    world.one.tick()
    meta = SnapshotMeta(world.one.core.applied_index, 1, CLUSTER, 1)
    world.one.core.snapshot_taken(world.one.store.save(encode_snapshot(meta, world.one.encode([]))).id)
    world.one.wal.compact(meta.index)
    world.hear(3, NextIndex(1, 2, success=False, reset=True))
    world.sent.clear()
    world.now += 0.2
    for _ in range(50):
        world.one.tick()
    assert len(world.heard(InstallSnapshot)) == 1
