"""Observers: they apply what the quorum committed, whoever tells them, and never anything else."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from aiohttp import ClientSession
from hypothesis import given, strategies as st
from msgspec.structs import replace

from ottla.log.chance import SystemChance
from ottla.log.clock import SystemClock
from ottla.raft.compaction import CompactionSettings
from ottla.raft.handshake import PeerIdentity
from ottla.raft.http_proof import NONCE_HEADER, PROOF_HEADER, prove
from ottla.raft.observer import BEHIND_S, FIRST_ENTRY, MetadataObserver, _Patience
from ottla.raft.quorum import Outcome, QuorumUnavailable
from ottla.raft.snapshot import SnapshotId
from ottla.raft.snapshot_keeper import Captured, StateHooks
from ottla.raft.tail import TAIL_BYTES, TAIL_PATH, Diverged, TailAnswer, View, answer_tail
from ottla.raft.wal import EntryId, WriteAheadLog

from .cluster import CrashingStorage
from .test_quorum import FAST, WAIT_S, Node, active, cluster, endpoints, until
from .test_snapshot_transfer import propose, snapshot_taken

EAGER = replace(FAST, compaction=CompactionSettings(entries=30, kept=10))
VIEW = View(1, 3)


class Watcher:
    """An observer with a state that is the list of what it applied."""

    def __init__(self, nodes: list[Node], session: ClientSession, secret: bytes | None = b"s", cluster_id: str = "c"):
        self.applied: list[bytes] = []
        self.heard = 0
        self.fatal: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self.observer = MetadataObserver(
            local=PeerIdentity(node_id=9, cluster_id=cluster_id, directory_id="d9"),
            voters=endpoints(nodes),
            session=session,
            clock=SystemClock(),
            chance=SystemChance(),
            secret=secret,
            apply=self.apply,
            state=StateHooks(lambda: Captured(1, lambda: b""), self.restore),
            committed=lambda: self.heard,
            run_blocking=self.run_blocking,
            on_fatal=self.fatal.set_result,
        )

    def apply(self, index: int, term: int, command: bytes) -> bytes:
        self.applied.append(command)
        return b""

    def restore(self, data: bytes) -> Callable[[], None]:
        applied = msgspec.msgpack.decode(data, type=list[bytes])
        return lambda: self.applied.__setitem__(slice(None), applied)

    async def run_blocking(self, call: Callable[[], object]) -> object:
        return call()


@contextlib.asynccontextmanager
async def watching(nodes: list[Node], after: EntryId = FIRST_ENTRY, **options: object) -> AsyncIterator[Watcher]:
    async with ClientSession() as session:
        watcher = Watcher(nodes, session, **options)  # type: ignore[arg-type]
        watcher.observer._last = after
        await watcher.observer.start()
        try:
            yield watcher
        finally:
            await watcher.observer.stop()


async def test_an_observer_applies_what_is_committed_and_knows_who_leads(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        leader = await until(nodes, lambda: active(nodes))
        await propose(leader, 5)
        async with watching(nodes) as watcher:
            last = await propose(leader, 3)
            await watcher.observer.wait_applied(last, WAIT_S)
            assert watcher.applied == leader.applied
            assert watcher.observer.leader_id == leader.id
            assert watcher.observer.term == leader.q.term
            assert watcher.observer.commit_index == last
            assert (await watcher.observer.propose(b"x")).outcome is Outcome.FAILED
            with pytest.raises(QuorumUnavailable):
                await watcher.observer.read_barrier()


async def test_it_goes_on_with_another_voter_when_its_own_dies_and_hears_of_the_new_leader(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        leader = await until(nodes, lambda: active(nodes))
        async with watching(nodes) as watcher:
            await watcher.observer.wait_applied(await propose(leader, 3), WAIT_S)
            told_by = nodes[watcher.observer._turn]
            await told_by.stop()
            left = [node for node in nodes if node is not told_by]
            leader = await until(left, lambda: active(left))
            await watcher.observer.wait_applied(await propose(leader, 3), WAIT_S)
            assert watcher.applied == leader.applied
            assert watcher.observer.leader_id == leader.id


async def test_one_that_is_far_behind_takes_a_snapshot_first(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        for node in nodes:
            await node.stop()
            node.settings = EAGER
            await node.start(endpoints(nodes))
        leader = await until(nodes, lambda: active(nodes))
        for _ in range(6):
            await propose(leader, 20, size=100)
        for node in nodes:
            await node.q.wait_applied(leader.q.applied_index, WAIT_S)
            await asyncio.gather(
                snapshot_taken(leader, 20), until(nodes, lambda node=node: node.q._wal.base_index > 20)
            )
        async with watching(nodes) as watcher:
            await watcher.observer.wait_applied(await propose(leader, 3), WAIT_S)
            assert watcher.observer.snapshots_installed >= 1
            assert watcher.applied == leader.applied


async def test_a_voter_that_stays_behind_what_it_heard_of_is_left(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        leader = await until(nodes, lambda: active(nodes))
        async with watching(nodes) as watcher:
            await watcher.observer.wait_applied(await propose(leader, 1), WAIT_S)
            told_by = watcher.observer._turn
            watcher.heard = leader.q.commit_index + 1000  # nobody has it yet
            left = asyncio.Event()
            watcher.observer.add_listener(lambda: watcher.observer._turn != told_by and left.set())
            async with asyncio.timeout(WAIT_S):
                await left.wait()


@pytest.mark.parametrize("options", [{"secret": b"another"}, {"secret": None}, {"cluster_id": "another"}])
async def test_nothing_is_told_to_who_cannot_prove_to_belong(tmp_path: Path, options: dict[str, object]) -> None:
    async with cluster(tmp_path) as nodes:
        leader = await until(nodes, lambda: active(nodes))
        last = await propose(leader, 2)
        async with watching(nodes, **options) as watcher:
            with pytest.raises(TimeoutError):
                await watcher.observer.wait_applied(last, 0.3)
            assert watcher.applied == []
            assert not watcher.fatal.done()


async def test_a_voter_that_stood_for_a_term_nobody_heard_of_hides_no_leader(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        leader = await until(nodes, lambda: active(nodes))
        async with watching(nodes) as watcher:
            watcher.observer._view = View(0, leader.q.term + 1)  # as a candidate told it that then died
            found = asyncio.Event()
            watcher.observer.add_listener(lambda: watcher.observer.leader_id == leader.id and found.set())
            async with asyncio.timeout(WAIT_S):
                await found.wait()
            assert watcher.observer.term == leader.q.term


async def test_where_no_voter_answers_nobody_leads(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        leader = await until(nodes, lambda: active(nodes))
        async with watching(nodes) as watcher:
            await watcher.observer.wait_applied(await propose(leader, 1), WAIT_S)
            assert watcher.observer.leader_id is not None
            gone = asyncio.Event()
            watcher.observer.add_listener(lambda: watcher.observer.leader_id is None and gone.set())
            for node in nodes:
                node.q._tail._look = lambda after: None  # it answers, and has nothing to tell
            async with asyncio.timeout(WAIT_S):
                await gone.wait()


async def test_without_a_secret_another_cluster_is_not_followed_either(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1, secret=None) as nodes:
        leader = await until(nodes, lambda: active(nodes))
        last = await propose(leader, 2)
        async with watching(nodes, secret=None) as watcher:
            await watcher.observer.wait_applied(last, WAIT_S)
        async with watching(nodes, secret=None, cluster_id="another") as watcher:
            with pytest.raises(TimeoutError):
                await watcher.observer.wait_applied(last, 0.3)
            assert watcher.applied == []
        async with watching(nodes, EntryId(last, 99), secret=None, cluster_id="another") as watcher:
            with pytest.raises(TimeoutError):
                await watcher.observer.wait_applied(last + 1, 0.3)
            assert not watcher.fatal.done()


async def test_one_whose_history_is_another_stops(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        leader = await until(nodes, lambda: active(nodes))
        last = await propose(leader, 2)
        for node in nodes:
            await node.q.wait_applied(last, WAIT_S)
        async with watching(nodes, EntryId(last, 99)) as watcher:
            async with asyncio.timeout(WAIT_S):
                assert isinstance(await watcher.fatal, Diverged)
            with pytest.raises(TimeoutError):
                await watcher.observer.wait_applied(last + 100, WAIT_S)


@pytest.mark.parametrize(
    "query", ["", "after=-1", "after=1&term=1&leader=1&leader_term=1&wait_ms=x", "after=1" + "9" * 40]
)
async def test_a_question_that_is_none_gets_a_clear_answer(tmp_path: Path, query: str) -> None:
    async with (
        cluster(tmp_path, 1) as nodes,
        ClientSession(f"http://127.0.0.1:{nodes[0].port}") as session,
        session.get(f"{TAIL_PATH}?cluster=c&{query}") as response,
    ):
        assert response.status == 400


async def test_an_old_proof_does_not_fit_another_question(tmp_path: Path) -> None:
    async with cluster(tmp_path, 1) as nodes, ClientSession() as session:
        proof = prove(b"s", "tail-request", "c", "nonce", 1, 0, 0, 0, 0)
        headers = {NONCE_HEADER: "nonce", PROOF_HEADER: proof}
        for after, status in ((1, 200), (2, 403)):
            query = f"cluster=c&after={after}&term=0&leader=0&leader_term=0&wait_ms=0"
            async with session.get(f"http://127.0.0.1:{nodes[0].port}{TAIL_PATH}?{query}", headers=headers) as response:
                assert response.status == status


# What a voter tells


def make_log(terms: list[int], base: EntryId | None = None) -> WriteAheadLog:
    """A log whose entry 1 has term 0, and then one entry for each of these terms."""
    wal = WriteAheadLog.open(Path("/wal"), CrashingStorage(), None)
    wal.add(b"\x01", 1, 0)
    for index, term in enumerate(terms, start=2):
        wal.add(b"\x00%d" % index, index, term)
    if base is not None:
        wal.compact(base.index)
    return wal


@given(
    st.lists(st.integers(1, 4), max_size=12).map(sorted),
    st.integers(0, 12),
    st.integers(0, 12),
    st.integers(1, 14),
)
def test_only_applied_entries_are_told_in_order_without_a_gap(
    terms: list[int], compacted: int, applied: int, after: int
) -> None:
    wal = make_log(terms)
    last = wal.last_index
    applied = min(applied + 1, last)
    base = min(compacted, applied)
    if base:
        wal.compact(base)
    snapshot = SnapshotId(base, wal.term_at(base), 10, 0) if base else None
    place = EntryId(after, wal.term_at(after) if base <= after <= last else 1)
    answer = answer_tail(wal, applied, snapshot, VIEW, place)
    told = [entry[1] for entry in answer.entries]
    if after < base:
        assert (told, answer.snapshot) == ([], snapshot)
    else:
        assert answer.snapshot is None
        assert told == list(range(after + 1, applied + 1))
        assert all(entry == wal.entry(entry[1]) for entry in answer.entries)


def test_an_answer_is_bounded() -> None:
    wal = make_log([])
    for index in range(2, 2000):
        wal.add(bytes(1000), index, 1)
    answer = answer_tail(wal, 1999, None, VIEW, EntryId(1, 0))
    assert 0 < sum(len(command) for command, _, _ in answer.entries) <= TAIL_BYTES


def test_another_term_at_the_same_index_is_a_divergence() -> None:
    with pytest.raises(Diverged):
        answer_tail(make_log([1, 1, 2]), 4, None, VIEW, EntryId(3, 2))


def test_answers_survive_the_wire() -> None:
    answer = TailAnswer(7, VIEW, ((b"\x00a", 3, 1),), SnapshotId(2, 1, 5, 6))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(answer), type=TailAnswer) == answer


# When a voter is left


def test_patience_ends_with_a_voter_that_stays_behind_or_knows_no_leader() -> None:
    patience = _Patience()
    assert not patience.is_over(0.0, 5, 9, led=True)
    assert not patience.is_over(BEHIND_S, 8, 9, led=True)
    assert patience.is_over(BEHIND_S + 0.1, 8, 9, led=True)
    patience = _Patience()
    assert not patience.is_over(0.0, 5, 0, led=False)
    assert not patience.is_over(0.9, 5, 0, led=True)
    assert not patience.is_over(1.5, 5, 0, led=False)
    assert patience.is_over(2.6, 5, 0, led=False)


@given(st.lists(st.floats(0, 0.4), max_size=50))
def test_a_voter_that_keeps_up_is_never_left(pauses: list[float]) -> None:
    patience, now = _Patience(), 0.0
    for index, pause in enumerate(pauses):
        now += pause
        assert not patience.is_over(now, index, index + 1, led=True), "each aim was reached by the next answer"
