"""Snapshots between real nodes on loopback: offered, fetched in pieces, proved, and installed as a whole."""

import asyncio
import errno
import hashlib
import hmac
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from msgspec.structs import replace

from ottla.log.chance import SystemChance
from ottla.log.clock import SystemClock
from ottla.log.storage import SystemStorage
from ottla.raft import snapshot_transfer
from ottla.raft.compaction import CompactionSettings, SnapshotOffer
from ottla.raft.quorum import Outcome
from ottla.raft.snapshot import SnapshotDamaged, SnapshotId, SnapshotMeta, SnapshotStore, encode_snapshot
from ottla.raft.snapshot_keeper import Captured, SnapshotKeeper, StateHooks
from ottla.raft.snapshot_transfer import SNAPSHOT_PATH, SnapshotDesk, SnapshotFetcher, TransferFailed
from ottla.raft.transport import Endpoint

from .cluster import CrashingStorage
from .test_quorum import FAST, WAIT_S, Node, active, cluster, endpoints, until

EAGER = replace(FAST, compaction=CompactionSettings(entries=30, kept=10))


async def propose(leader: Node, count: int, size: int = 10) -> int:
    """Commit that many commands; the last one's index."""
    outcomes = await asyncio.gather(*(leader.q.propose(b"%d" % i + b"x" * size, WAIT_S) for i in range(count)))
    assert {outcome.outcome for outcome in outcomes} == {Outcome.OK}
    return max(outcome.index or 0 for outcome in outcomes)


async def snapshot_taken(node: Node, beyond: int) -> None:
    """Until the log of ``node`` no longer starts before ``beyond``."""
    assert node.q._wal is not None
    changed = asyncio.Event()
    node.q.add_listener(changed.set)
    async with asyncio.timeout(WAIT_S):
        while node.q._wal.base_index < beyond:
            changed.clear()
            await propose(node, 1)
            await changed.wait()


async def test_a_voter_that_was_away_for_too_long_comes_back_by_snapshot(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        for node in nodes:
            await node.stop()
            node.settings = EAGER
            await node.start(endpoints(nodes))
        leader = await until(nodes, lambda: active(nodes))
        await propose(leader, 5)
        away = next(node for node in nodes if node is not leader)
        for node in nodes:
            await node.q.wait_applied(leader.q.applied_index, WAIT_S)
        left_at = away.q.last_index
        await away.stop()
        for _ in range(6):
            await propose(leader, 20, size=100)
        await snapshot_taken(leader, left_at + 1)
        await away.start(endpoints(nodes))
        last = await propose(leader, 3)
        await away.q.wait_applied(last, WAIT_S)
        assert away.q.snapshots_installed == 1
        assert away.applied == leader.applied
        assert len(away.applied) == len(leader.applied) >= 128

        for node in nodes:  # and all of them start from what they have
            await node.stop()
        applied = list(leader.applied)
        for node in nodes:
            await node.start(endpoints(nodes))
        again = await until(nodes, lambda: active(nodes))
        index = await again.q.read_barrier(WAIT_S)
        for node in nodes:
            await node.q.wait_applied(index, WAIT_S)
            assert node.applied == applied
            assert node.q.snapshots_installed == 0


async def test_a_disk_that_is_too_full_for_a_snapshot_costs_nothing_but_the_log() -> None:
    storage = CrashingStorage()
    node = Node(1, Path("/data"), None, storage)
    node.settings = EAGER
    await node.listen()
    await node.start(endpoints([node]))
    try:
        await until([node], lambda: node.q.is_active)
        storage.fail("write", error=errno.ENOSPC, name_contains="snapshot")
        await propose(node, 40)
        await propose(node, 40)
        assert not node.fatal.done()
        assert len(node.applied) == 80
    finally:
        await node.close()


class Served:
    """A desk of one snapshot, behind a real port."""

    def __init__(self, secret: bytes | None = b"s") -> None:
        self.storage = CrashingStorage()
        self.store = SnapshotStore(Path("/data/snapshots"), self.storage, "c")
        self.data = encode_snapshot(SnapshotMeta(50, 2, "c", 1), bytes(range(256)) * 100)
        self.id: SnapshotId = self.store.save(self.data).id
        self.offsets: list[str] = []
        self.fail_after: int | None = None  # requests that are answered
        self._desk = SnapshotDesk(self.store, secret, "c", self._run)

    async def _run(self, function: Any) -> Any:
        return function()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.offsets.append(request.headers.get("Range", ""))
        if self.fail_after is not None and len(self.offsets) > self.fail_after:
            raise web.HTTPServiceUnavailable
        return await self._desk.handle(request)

    async def __aenter__(self) -> str:
        app = web.Application()
        app.router.add_get(SNAPSHOT_PATH, self.handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


def fetcher_through(session: ClientSession, secret: bytes | None, cluster_id: str) -> SnapshotFetcher:
    fetcher = SnapshotFetcher(secret, cluster_id, SystemChance())
    fetcher.session = session
    return fetcher


async def test_a_transfer_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_transfer, "PIECE_BYTES", 10_000)
    served = Served()
    served.fail_after = 1
    async with served as url, ClientSession() as session:
        fetcher = fetcher_through(session, b"s", "c")
        with pytest.raises(TransferFailed, match="503"):
            await fetcher.fetch(url, served.id)
        served.fail_after = None
        assert await fetcher.fetch(url, served.id) == served.data
        assert served.offsets == ["bytes=0-", "bytes=10000-", "bytes=10000-", "bytes=20000-"]


@pytest.mark.parametrize(
    ("secret", "cluster_id", "index", "status"),
    [(b"other", "c", 50, "403"), (None, "c", 50, "403"), (b"s", "d", 50, "403"), (b"s", "c", 51, "404")],
)
async def test_who_cannot_prove_the_secret_or_asks_for_what_is_gone_gets_nothing(
    secret: bytes | None, cluster_id: str, index: int, status: str
) -> None:
    served = Served()
    async with served as url, ClientSession() as session:
        with pytest.raises(TransferFailed, match=status):
            await fetcher_through(session, secret, cluster_id).fetch(url, served.id._replace(index=index))


@pytest.mark.parametrize("header", ["", "bytes=-5", "bytes=1-2,4-5", "bytes=99999999999999999999-", "lines=1-"])
async def test_a_bad_range_is_refused(header: str) -> None:
    async with Served(None) as url, ClientSession() as session:
        for query in ("?index=50", "?index=x", ""):
            async with session.get(url + SNAPSHOT_PATH + query, headers={"Range": header}) as response:
                assert response.status == 400


async def test_an_answer_is_bound_to_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    # An old answer, or one whose bytes were changed on the way, proves nothing.
    served = Served()
    real = SnapshotDesk.handle

    async def replaying(self: SnapshotDesk, request: web.Request) -> web.Response:
        answer = await real(self, request)
        transcript = b"snapshot-piece" + b"an older nonce" + bytes(answer.body)  # type: ignore[arg-type]
        answer.headers["X-Ottla-Proof"] = hmac.new(b"s", transcript, hashlib.sha256).hexdigest()
        return answer

    async def changing(self: SnapshotDesk, request: web.Request) -> web.Response:
        answer = await real(self, request)
        answer.body = b"\xff" + bytes(answer.body)[1:]  # type: ignore[arg-type]
        return answer

    async with served as url, ClientSession() as session:
        for bad in (replaying, changing):
            monkeypatch.setattr(SnapshotDesk, "handle", bad)
            with pytest.raises(TransferFailed, match="prove"):
                await fetcher_through(session, b"s", "c").fetch(url, served.id)


async def test_bytes_that_are_not_those_offered_are_not_returned() -> None:
    served = Served()
    async with served as url, ClientSession() as session:
        fetcher = fetcher_through(session, b"s", "c")
        with pytest.raises(TransferFailed, match="offered"):
            await fetcher.fetch(url, served.id._replace(crc=1))
        with pytest.raises(TransferFailed):
            await fetcher.fetch(url, served.id._replace(size=served.id.size - 1))
        assert await fetcher.fetch(url, served.id) == served.data


async def test_a_state_that_this_release_cannot_hold_refuses_the_start() -> None:
    storage = CrashingStorage()
    node = Node(1, Path("/data"), None, storage)
    node.settings = EAGER
    await node.listen()
    await node.start(endpoints([node]))
    try:
        await until([node], lambda: node.q.is_active)
        await snapshot_taken(node, 1)
        applied = list(node.applied)
        await node.stop()

        def refuse(data: bytes) -> Any:
            raise ValueError("of a later release")

        restore, node.restore = node.restore, refuse  # type: ignore[method-assign]
        with pytest.raises(SnapshotDamaged, match=r"OTTLA-SNAPSHOT-DAMAGED: .*of a later release"):
            await node.start(endpoints([node]))
        node.restore = restore  # type: ignore[method-assign]
        await node.start(endpoints([node]))
        await until([node], lambda: node.q.is_active)
        assert node.applied == applied
    finally:
        await node.close()


class Offered:
    """As much of a voter as its keeper looks at."""

    snapshot_due = None

    def __init__(self) -> None:
        self.snapshot_offer: SnapshotOffer | None = None


async def test_a_leader_that_is_gone_without_a_word_is_not_waited_for_once_another_offers(tmp_path: Path) -> None:
    voters = {number: Endpoint("127.0.0.1", number) for number in (1, 2, 3)}
    keeper = SnapshotKeeper(
        cluster_id="c",
        voters=voters,
        directory=tmp_path,
        storage=SystemStorage(),
        clock=SystemClock(),
        chance=SystemChance(),
        secret=None,
        hooks=StateHooks(lambda: Captured(1, lambda: b""), lambda data: lambda: None),
        run_blocking=lambda call: asyncio.get_running_loop().run_in_executor(None, call),
        wake=lambda: None,
        failed=lambda job: None,
    )
    asked: asyncio.Queue[str] = asyncio.Queue()

    class Silent:
        async def fetch(self, url: str, wanted: SnapshotId) -> bytes:
            asked.put_nowait(url)
            return await asyncio.Future()

    keeper._fetcher = Silent()  # type: ignore[assignment]
    core: Any = Offered()
    for leader in (2, 3):
        core.snapshot_offer = SnapshotOffer(leader, SnapshotId(9, 1, 10, 1))
        async with asyncio.timeout(5):
            while asked.empty():
                keeper.look(core)
                keeper._fetch_not_before = 0.0
                await asyncio.sleep(0)
        assert asked.get_nowait() == voters[leader].url
    keeper.look(core)
    await asyncio.sleep(0)
    assert asked.empty(), "the same leader is waited for"
    for job in keeper.jobs:
        job.cancel()
    await asyncio.gather(*keeper.jobs, return_exceptions=True)
