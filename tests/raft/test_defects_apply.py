"""Defects of PySyncObj in what becomes of a command: the stock class fails, ours holds (docs/raft.md has the list)."""

from typing import Any

import pysyncobj.pickle
import pytest
from pysyncobj.syncobj import _COMMAND_TYPE

from ottla.raft.codec import AppendEntries, MalformedMessage, decode
from ottla.raft.pysyncobj_core import Applied
from ottla.raft.pysyncobj_pin import PickleForbidden
from ottla.raft.quorum import Outcome

from .cluster import World
from .lonely import Lonely
from .stock import Stock, stock_clock, stock_pickle
from .test_quorum import active, cluster, until


def fail(*_: object) -> None:
    raise ValueError


# D8


def test_d8_stock_runs_a_command_again_when_its_callback_raises() -> None:
    stock = Stock(1)
    stock._applyCommand(b"x", fail, 0)
    for _ in range(4):
        try:
            stock.doTick(0)
        except ValueError:
            continue
        stock.campaign() if not stock._isLeader() else None
    assert stock.applied.count(b"x") > 1


def test_d8_stock_never_passes_a_command_that_raises() -> None:
    stock = Stock(1, fail)
    stock.campaign()
    stock._applyCommand(b"x", None, 0)
    stock.doTick(0)
    for _ in range(10):
        with pytest.raises(ValueError):  # it is the test's own
            stock.doTick(0)
    assert stock.raftLastApplied < stock.raftCommitIndex


def test_d8_ours_runs_a_command_once_whatever_raises() -> None:
    world = World(1, 1)
    one = world.run_to_leader()
    outcomes: list[Applied] = []
    one.core.propose(b"x", fail)
    one.core.propose(b"y", outcomes.append)
    world.run(0.1)
    assert one.applied == [b"x", b"y"]
    one.core._apply = fail  # type: ignore[assignment]
    one.core.propose(b"z", outcomes.append)
    world.run(0.1)
    assert [outcome.raised for outcome in outcomes] == [None, "ValueError()"]
    assert one.core.applied_index == one.wal.last_index


# D9


def test_d9_stock_answers_with_the_outcome_of_another_command() -> None:
    stock = Stock(3)
    stock.follow(2, 1, [])
    outcomes: list[Any] = []
    stock._applyCommand(b"new", lambda *outcome: outcomes.append(outcome), 0)
    stock.doTick(0)
    (forwarded,) = stock.heard("apply_command")  # lost on its way
    # What the leader answers to the first request of this node's former run, which had the same number.
    stock.hear(2, type="apply_command_response", request_id=forwarded["request_id"], log_idx=2, log_term=1)
    stock.follow(2, 1, [(b"\0old", 2, 1)], commit=2)
    stock.doTick(0)
    assert outcomes == [(None, 0)]
    assert stock.applied == [b"old"]  # and never b"new"


def test_d9_ours_a_follower_forwards_nothing() -> None:
    world = World(1, 3)
    leader = world.run_to_leader()
    world.run(0.3)
    follower = next(voter for voter in world.voters.values() if voter is not leader)
    follower.propose(b"x")
    world.run(0.3)
    assert world.failed == [b"x"]
    assert world.canon == []


@pytest.mark.parametrize("kind", [b"apply_command", b"apply_command_response"])
def test_d9_forwarding_cannot_be_reached(kind: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(b"\x93" + bytes([0xA0 + len(kind)]) + kind + b"\x01\xc4\x01x")


# D15


def test_d15_stock_never_tells_what_became_of_a_command() -> None:
    with stock_clock() as clock:
        stock = Stock(3)
        stock.follow(2, 1, [])
        outcomes: list[Any] = []
        stock._applyCommand(b"x", lambda *outcome: outcomes.append(outcome), 0)
        stock.doTick(0)
        assert len(stock.heard("apply_command")) == 1  # lost on its way
        for _ in range(600):
            clock.now += 0.1
            stock.follow(2, 1, [])
            stock.doTick(0)
        assert outcomes == []


async def test_d15_ours_tells_unknown_at_the_deadline(tmp_path: Any) -> None:
    async with cluster(tmp_path) as nodes:
        leader = await until(nodes, lambda: active(nodes))
        for node in nodes:
            if node is not leader:
                await node.stop()
        proposal = await leader.q.propose(b"x", 0.05)
        assert proposal.outcome is Outcome.UNKNOWN


# D17


def test_d17_stock_a_command_just_below_two_batches_breaks_its_followers() -> None:
    with stock_pickle():
        stock = Stock(3, appendEntriesBatchSizeBytes=1000)
        stock.lead()
        stock._applyCommand(bytes(1985), None, 0)
        stock.doTick(0)
        stock._SyncObj__sendAppendEntries()
        pieces = [m for to, m in stock.transport.mail if to == 2 and "transmission" in m]
        assert [piece["transmission"] for piece in pieces] == ["start", "finish", "finish"]
        follower = Stock(3, node_id=2)
        follower.hear(1, **pieces[0])
        with pytest.raises((EOFError, pysyncobj.pickle.pickle.UnpicklingError)):
            follower.hear(1, **pieces[1])


def test_d17_pieces_cannot_be_reached() -> None:
    world = World(1, 3)
    leader = world.run_to_leader()
    for size in (131_072 - 80, 131_072, 1 << 20):
        leader.propose(bytes(size))
    world.run(0.5)
    assert list(map(len, world.acked)) == [131_072 - 80, 131_072, 1 << 20]
    world.check_converged()
    with pytest.raises(MalformedMessage):
        decode(b"\x97\xaeappend_entries\x01\x01\x01\x00\x90\xa5start")


# D18


def test_d18_stock_applies_a_command_again_after_a_code_version_it_does_not_know() -> None:
    with stock_pickle() as stock_pickler:
        version = bytes([_COMMAND_TYPE.VERSION]) + stock_pickler.dumps(1)
        stock = Stock(3)
        stock.follow(2, 1, [(version, 2, 1), (b"\0a", 3, 1), (b"\0b", 4, 1)], commit=4)
        stock.doTick(0)
        stock.doTick(0)
        assert stock.applied == [b"a", b"b", b"b"]


def test_d18_code_versions_cannot_be_reached() -> None:
    world = Lonely(3)
    with pytest.raises(PickleForbidden):
        world.one.core.setCodeVersion(0)
    version = bytes([_COMMAND_TYPE.VERSION]) + b"\x80\x02K\x01."
    world.hear(2, AppendEntries(1, 4, 1, 0, ((version, 2, 1), (b"\0a", 3, 1), (b"\0b", 4, 1))))
    world.one.tick()
    world.one.tick()
    assert world.one.applied == [b"a", b"b"]
    assert world.one.core.getCodeVersion() == 0
