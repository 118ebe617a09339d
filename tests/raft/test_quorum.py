"""Three quorums in one loop, over real sockets on loopback and real files."""

import asyncio
import contextlib
import errno
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, WSMsgType, web

from ottla.log.chance import SystemChance
from ottla.log.clock import SystemClock
from ottla.log.storage import SystemStorage
from ottla.raft.codec import ResponseVote, encode
from ottla.raft.compaction import CompactionSettings
from ottla.raft.handshake import HandshakeRefused, PeerIdentity, introduce
from ottla.raft.quorum import MetadataQuorum, Outcome, QuorumSettings, QuorumUnavailable
from ottla.raft.snapshot_keeper import Captured, StateHooks
from ottla.raft.transport import Endpoint, RaftTransport
from ottla.raft.wal_format import MAX_COMMAND_BYTES

from .cluster import CrashingStorage

WAIT_S = 20  # never reached but by a hang
FAST = QuorumSettings(heartbeat_s=0.05, election_min_s=0.4, election_max_s=0.8)


class Node:
    """One voter with its own HTTP server and log directory."""

    def __init__(self, node_id: int, directory: Path, secret: bytes | None, storage: Any = None) -> None:
        self.id = node_id
        self.directory = directory
        self.secret = secret
        self.storage = storage or SystemStorage()
        self.port = 0
        self.applied: list[bytes] = []
        self.settings = FAST
        self.fatal: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self.runner: web.AppRunner | None = None
        self.quorum: MetadataQuorum | None = None
        self._executor = ThreadPoolExecutor(1)

    async def listen(self) -> None:
        """Open the port, with a route that reaches whichever quorum runs."""
        app = web.Application()

        async def relay(request: web.Request) -> web.StreamResponse:
            if self.quorum is None:
                raise web.HTTPServiceUnavailable
            return await self.quorum.raft_handler(request)

        async def relay_snapshot(request: web.Request) -> web.StreamResponse:
            if self.quorum is None:
                raise web.HTTPServiceUnavailable
            return await self.quorum.snapshot_handler(request)

        async def relay_tail(request: web.Request) -> web.StreamResponse:
            if self.quorum is None:
                raise web.HTTPServiceUnavailable
            return await self.quorum.tail_handler(request)

        app.router.add_get("/internal/raft/tail", relay_tail)
        app.router.add_get("/internal/raft", relay)
        app.router.add_get("/internal/raft/snapshot", relay_snapshot)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self.runner.addresses[0][1]

    def apply(self, index: int, term: int, command: bytes) -> bytes:
        if command == b"raise":
            raise ValueError("raised")
        self.applied.append(command)
        return b"%d:" % index + command

    def capture(self) -> Captured:
        applied = tuple(self.applied)
        return Captured(1, lambda: msgspec.msgpack.encode(applied))

    def restore(self, data: bytes) -> Callable[[], None]:
        applied = msgspec.msgpack.decode(data, type=list[bytes])
        return lambda: self.applied.__setitem__(slice(None), applied)

    def run_blocking(self, function: Callable[[], Any]) -> Any:
        return asyncio.get_running_loop().run_in_executor(self._executor, function)

    async def start(self, voters: dict[int, Endpoint]) -> None:
        self.applied.clear()
        self.quorum = MetadataQuorum(
            local=PeerIdentity(node_id=self.id, cluster_id="c", directory_id=f"d{self.id}"),
            voters=voters,
            directory=self.directory,
            storage=self.storage,
            clock=SystemClock(),
            chance=SystemChance(),
            secret=self.secret,
            apply=self.apply,
            state=StateHooks(self.capture, self.restore),
            settings=self.settings,
            run_blocking=self.run_blocking,
            on_fatal=self.fatal.set_result,
        )
        await self.quorum.start()

    @property
    def q(self) -> MetadataQuorum:
        assert self.quorum is not None
        return self.quorum

    async def stop(self) -> None:
        if self.quorum is not None:
            await self.quorum.stop()
            self.quorum = None

    async def close(self) -> None:
        await self.stop()
        if self.runner is not None:
            await self.runner.cleanup()
        self._executor.shutdown()


async def until(nodes: list[Node], condition: Callable[[], Any]) -> Any:
    """Wait, by listening, until ``condition`` holds."""
    changed = asyncio.Event()
    for node in nodes:
        node.q.add_listener(changed.set)
    async with asyncio.timeout(WAIT_S):
        while not (found := condition()):
            await changed.wait()
            changed.clear()
    return found


def active(nodes: list[Node]) -> Node | None:
    return next((node for node in nodes if node.quorum is not None and node.q.is_active), None)


@contextlib.asynccontextmanager
async def cluster(directory: Path, size: int = 3, secret: bytes | None = b"s") -> AsyncIterator[list[Node]]:
    nodes = [Node(i, directory / str(i), secret) for i in range(1, size + 1)]
    try:
        for node in nodes:
            await node.listen()
        voters = endpoints(nodes)
        for node in nodes:
            await node.start(voters)
        yield nodes
    finally:
        for node in nodes:
            await node.close()


def endpoints(nodes: list[Node]) -> dict[int, Endpoint]:
    return {node.id: Endpoint("127.0.0.1", node.port, f"d{node.id}") for node in nodes}


async def test_commits_survive_the_loss_of_the_leader_and_a_restart_from_the_log(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        leader = await until(nodes, lambda: active(nodes))
        outcomes = await asyncio.gather(*(leader.q.propose(b"%d" % i, WAIT_S) for i in range(50)))
        assert [outcome.outcome for outcome in outcomes] == [Outcome.OK] * 50
        assert [outcome.result for outcome in outcomes] == [b"%d:%d" % (outcomes[i].index or 0, i) for i in range(50)]
        for node in nodes:
            await node.q.wait_applied(outcomes[-1].index or 0, WAIT_S)
            assert node.applied == leader.applied
            assert node.q.leader_id == leader.id

        await leader.q._transport.stop()  # neither heard nor hearing
        others = [node for node in nodes if node is not leader]
        second = await until(others, lambda: active(others))
        more = await second.q.propose(b"more", WAIT_S)
        assert more.outcome is Outcome.OK
        await until([leader], lambda: not leader.q.is_leader)
        assert (await leader.q.propose(b"lost", WAIT_S)).reason == "NOT_LEADER"

        for node in nodes:
            await node.stop()
        for node in nodes:
            await node.start(endpoints(nodes))
        third = await until(nodes, lambda: active(nodes))
        index = await third.q.read_barrier(WAIT_S)
        for node in nodes:
            await node.q.wait_applied(index, WAIT_S)
            assert node.applied == [b"%d" % i for i in range(50)] + [b"more"]


async def test_a_voter_alone_leads_at_once_and_remembers(tmp_path: Path) -> None:
    async with cluster(tmp_path, size=1, secret=None) as [node]:
        await until([node], lambda: node.q.is_active)
        assert (await node.q.propose(b"a", WAIT_S)).outcome is Outcome.OK
        await node.stop()
        await node.start(endpoints([node]))
        await until([node], lambda: node.q.is_active)
        assert node.applied == [b"a"]
        assert node.q.commit_index == node.q.applied_index == node.q.last_index


async def test_stopping_the_leader_hands_over(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        leader = await until(nodes, lambda: active(nodes))
        term = leader.q.term
        await leader.q.propose(b"a", WAIT_S)
        others = [node for node in nodes if node is not leader]
        await leader.stop()
        second = await until(others, lambda: active(others))
        assert second.q.term > term
        assert second.applied == [b"a"]


async def test_concurrent_readers_share_one_entry(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        leader = await until(nodes, lambda: active(nodes))
        before = leader.q.last_index
        indexes = await asyncio.gather(*(leader.q.read_barrier(WAIT_S) for _ in range(20)))
        assert set(indexes) == {before + 1}
        first = asyncio.create_task(leader.q.read_barrier(WAIT_S))
        await asyncio.sleep(0)
        async with asyncio.timeout(WAIT_S):
            while leader.q.last_index == before + 1:
                await asyncio.sleep(0)
        second = await leader.q.read_barrier(WAIT_S)  # the first one's entry may be older than this question
        assert (await first, second) == (before + 2, before + 3)
        follower = next(node for node in nodes if node is not leader)
        with pytest.raises(QuorumUnavailable):
            await follower.q.read_barrier(WAIT_S)


async def test_a_large_command_travels_and_a_larger_one_fails(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        leader = await until(nodes, lambda: active(nodes))
        large = bytes(MAX_COMMAND_BYTES)
        outcomes = await asyncio.gather(*(leader.q.propose(large, WAIT_S) for _ in range(4)))
        assert {outcome.outcome for outcome in outcomes} == {Outcome.OK}
        for node in nodes:
            await node.q.wait_applied(outcomes[-1].index or 0, WAIT_S)
            assert node.applied == [large] * 4
        assert (await leader.q.propose(large + b"x", WAIT_S)).outcome is Outcome.FAILED


async def test_an_outcome_nobody_waits_for_changes_nothing(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        leader = await until(nodes, lambda: active(nodes))
        abandoned = asyncio.create_task(leader.q.propose(b"abandoned", WAIT_S))
        await asyncio.sleep(0)
        abandoned.cancel()
        assert (await leader.q.propose(b"late", 0)).outcome is Outcome.UNKNOWN
        assert (await leader.q.propose(b"raise", WAIT_S)).reason.startswith("APPLY_RAISED")
        assert (await leader.q.propose(b"next", WAIT_S)).outcome is Outcome.OK
        assert leader.applied == [b"abandoned", b"late", b"next"]


async def test_a_cut_off_leader_leaves_its_proposal_unknown(tmp_path: Path) -> None:
    async with cluster(tmp_path) as nodes:
        leader = await until(nodes, lambda: active(nodes))
        leader.q._transport.deliver = lambda node, message: False  # type: ignore[method-assign]
        outcome = await leader.q.propose(b"x", 0.05)
        assert outcome.outcome is Outcome.UNKNOWN
        with pytest.raises((TimeoutError, QuorumUnavailable)):
            await leader.q.read_barrier(0.05)
        await until([leader], lambda: not leader.q.is_leader)  # a majority was not heard: D12


async def test_a_failed_sync_stops_the_node_and_is_not_tried_again() -> None:
    storage = CrashingStorage()
    node = Node(1, Path("/data"), None, storage)
    await node.listen()
    await node.start(endpoints([node]))
    try:
        await until([node], lambda: node.q.is_active)
        storage.fail("sync", error=errno.EIO)
        outcome = await node.q.propose(b"x", WAIT_S)
        assert outcome.outcome is Outcome.UNKNOWN
        assert isinstance(await node.fatal, OSError)
        assert not node.q.is_leader
        assert (await node.q.propose(b"y", WAIT_S)).outcome is Outcome.FAILED
    finally:
        await node.close()


async def test_a_full_disk_fails_the_proposal_and_nothing_else() -> None:
    storage = CrashingStorage()
    node = Node(1, Path("/data"), None, storage)
    await node.listen()
    await node.start(endpoints([node]))
    try:
        await until([node], lambda: node.q.is_active)
        storage.fail("write", error=errno.ENOSPC)
        assert await node.q.propose(b"x" * 1000, WAIT_S) == (Outcome.FAILED, None, None, "QUEUE_FULL")
        assert (await node.q.propose(b"y", WAIT_S)).outcome is Outcome.OK
        await node.stop()
        await node.start(endpoints([node]))
        await until([node], lambda: node.q.is_active)
        assert node.applied == [b"y"]
    finally:
        await node.close()


class Noticed(dict[int, HandshakeRefused]):
    """Says when something was put in."""

    def __init__(self, event: asyncio.Event) -> None:
        super().__init__()
        self._event = event

    def __setitem__(self, key: int, value: HandshakeRefused) -> None:
        super().__setitem__(key, value)
        self._event.set()


async def test_nodes_with_different_secrets_do_not_meet(tmp_path: Path) -> None:
    nodes = [Node(1, tmp_path / "1", b"one"), Node(2, tmp_path / "2", b"two")]
    try:
        for node in nodes:
            await node.listen()
        for node in nodes:
            await node.start(endpoints(nodes))
        refused = asyncio.Event()
        nodes[0].q._transport.refusals = Noticed(refused)
        async with asyncio.timeout(WAIT_S):
            await refused.wait()
        assert nodes[0].q._transport.refusals[2].code == "OTTLA-WRONG-SECRET"
        assert nodes[0].q.leader_id is None
    finally:
        for node in nodes:
            await node.close()


@pytest.mark.parametrize("frames", [[b"junk"], [bytes(8)], [bytes(8) + b"\xc1"], [(5).to_bytes(8, "big") + b"x"]])
async def test_junk_from_a_proved_peer_ends_its_connection_and_nothing_else(
    tmp_path: Path, frames: list[bytes]
) -> None:
    async with cluster(tmp_path) as nodes, ClientSession() as session:
        leader = await until(nodes, lambda: active(nodes))
        peer = next(node for node in nodes if node is not leader)
        identity = PeerIdentity(node_id=peer.id, cluster_id="c", directory_id=f"d{peer.id}")
        async with session.ws_connect(f"http://127.0.0.1:{leader.port}/internal/raft") as ws:
            await introduce(ws, identity, "raft", b"s", SystemChance())
            for frame in frames:
                await ws.send_bytes(frame)
            async with asyncio.timeout(WAIT_S):
                assert (await ws.receive()).type in (WSMsgType.CLOSE, WSMsgType.CLOSED)
        outcome = await leader.q.propose(b"x", WAIT_S)
        assert outcome.outcome is Outcome.OK


async def test_a_new_connection_of_a_peer_ends_its_old_one(tmp_path: Path) -> None:
    async with cluster(tmp_path, size=1) as [node], ClientSession() as session:
        peers = {2: Endpoint("127.0.0.1", 1, "d2")}
        woken = asyncio.Event()
        transport = RaftTransport(
            PeerIdentity(node_id=1, cluster_id="c", directory_id="d1"), peers, b"s", SystemChance(), woken.set
        )
        transport.start(session)
        node.q._transport.handle = transport.handle  # type: ignore[method-assign]
        identity = PeerIdentity(node_id=2, cluster_id="c", directory_id="d2")
        url = f"http://127.0.0.1:{node.port}/internal/raft"
        async with asyncio.timeout(WAIT_S), session.ws_connect(url) as old, session.ws_connect(url) as new:
            for ws, term in ((old, 1), (new, 2)):
                await introduce(ws, identity, "raft", b"s", SystemChance())
                await ws.send_bytes(bytes(8) + encode(ResponseVote(term)))
                await woken.wait()
                woken.clear()
            assert (await old.receive()).type is WSMsgType.CLOSE
            assert [event.message for event in transport.take_events()] == [ResponseVote(1), ResponseVote(2)]
        await transport.stop()


@pytest.mark.parametrize("greeting", [b"", b"junk", bytes(5000)])
async def test_a_stranger_gets_a_refusal(tmp_path: Path, greeting: bytes) -> None:
    async with cluster(tmp_path, size=1) as [node], ClientSession() as session:
        async with session.ws_connect(f"http://127.0.0.1:{node.port}/internal/raft") as ws:
            await ws.send_bytes(greeting)
            async with asyncio.timeout(WAIT_S):
                assert b"OTTLA-BAD-HANDSHAKE" in (await ws.receive()).data
                assert (await ws.receive()).type is WSMsgType.CLOSE
        await until([node], lambda: node.q.is_active)


async def test_a_sync_of_the_log_gets_in_between_the_pieces_of_a_snapshot(tmp_path: Path) -> None:
    async with cluster(tmp_path, size=1, secret=None) as [node]:
        committed_meanwhile = threading.Event()
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def pieces() -> Iterator[bytes]:
            loop.call_soon_threadsafe(begun.set)
            for _ in range(100_000):  # never so many but where no sync gets in between
                if committed_meanwhile.is_set():
                    break
                yield b""
            yield msgspec.msgpack.encode(tuple(node.applied))

        await node.stop()
        node.settings = msgspec.structs.replace(FAST, compaction=CompactionSettings(entries=5, kept=1))
        node.capture = lambda: Captured(1, pieces)  # type: ignore[method-assign]
        await node.start(endpoints([node]))
        await until([node], lambda: node.q.is_active)
        for number in range(5):
            await node.q.propose(b"%d" % number, WAIT_S)
        await begun.wait()
        proposal = await node.q.propose(b"meanwhile", WAIT_S)
        assert proposal.outcome is Outcome.OK
        assert not list((tmp_path / "1" / "snapshots").glob("*.snapshot"))
        committed_meanwhile.set()
        async with asyncio.timeout(WAIT_S):
            while not list((tmp_path / "1" / "snapshots").glob("*.snapshot")):
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("failure", [OSError("it did not listen yet"), RuntimeError("a bug of ours")])
async def test_a_peer_that_came_while_it_was_dialed_is_not_waited_for(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = PeerIdentity(node_id=1, cluster_id="c", directory_id="d1")
    transport = RaftTransport(local, {2: Endpoint("b", 2)}, None, SystemChance(), lambda: None)
    pause, dialed, again = RaftTransport._pause, 0, asyncio.Event()

    async def converse(node_id: int, peer: Endpoint) -> bool:
        nonlocal dialed
        dialed += 1
        if dialed > 1:
            again.set()
            await asyncio.Event().wait()
        transport._links[2].met.set()
        raise failure

    async def very_long(self: RaftTransport, link: Any, seconds: float) -> None:
        await pause(self, link, 1000.0)

    monkeypatch.setattr(transport, "_converse", converse)
    monkeypatch.setattr(RaftTransport, "_pause", very_long)
    dialing = asyncio.create_task(transport._dial(2, Endpoint("b", 2)))
    async with asyncio.timeout(WAIT_S):
        await again.wait()
    dialing.cancel()
    await asyncio.gather(dialing, return_exceptions=True)


async def test_a_peer_that_dials_ends_the_pause_before_it_is_dialed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = RaftTransport._pause

    async def very_long(self: RaftTransport, link: Any, seconds: float) -> None:
        await pause(self, link, 1000.0)

    async with cluster(tmp_path) as nodes:
        await until(nodes, lambda: active(nodes))
        monkeypatch.setattr(RaftTransport, "_pause", very_long)
        away = nodes[2]
        await away.stop()
        links = [node.q._transport._links[away.id] for node in nodes[:2]]
        async with asyncio.timeout(WAIT_S):
            while any(link.up for link in links):
                await asyncio.sleep(0.01)
        await away.start(endpoints(nodes))
        async with asyncio.timeout(WAIT_S):
            while not all(link.up for link in links):
                await asyncio.sleep(0.01)
