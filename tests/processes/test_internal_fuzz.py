"""Hostile input to the internal endpoints of real nodes: alive and serving, and not a byte of Raft's state changed."""

import asyncio
import hashlib
import json
import random
import struct

import aiohttp
import msgspec
import pytest

from ottla.client.client import connect
from ottla.log.chance import SystemChance
from ottla.raft.codec import RequestVote, encode
from ottla.raft.forming import PROOF_HEADER
from ottla.raft.handshake import Introduction, PeerIdentity, introduce

from ..broker.internal_input import mutate, pickles, raft_message, valid_frames
from .harness import Cluster, NodeProcess

pytestmark = pytest.mark.processes

SECRET = b"s" * 32
PATHS = {"raft": "/internal/raft", "control": "/internal/control", "replica": "/internal/replica"}
MEMORY_BYTES_MAX = 250 << 20
QUIET = ("raft.election.min.ms=3000", "raft.election.max.ms=6000", "broker.session.timeout.ms=30000")
"""So that a slow machine changes nothing by itself: no election, nobody fenced."""


@pytest.fixture
async def cluster(tmp_path):
    (tmp_path / "secret").write_bytes(SECRET)
    quiet = [argument for setting in QUIET for argument in ("--set", setting)]
    async with Cluster(tmp_path, 3, "--secret-file", str(tmp_path / "secret"), *quiet) as nodes:
        async with connect(nodes.servers) as client, client.producer() as producer:
            await producer.send("t", b"kept")
        yield nodes


def of_disk(node: NodeProcess) -> tuple[dict[str, str], dict]:
    """Digests of the node's log, votes, snapshots and identity, and what it says of Raft."""
    found = {}
    for path in sorted(node.directory.rglob("*")):
        name = str(path.relative_to(node.directory))
        if path.is_file() and ("wal" in name or "snapshot" in name or "identity" in name):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    assert any("wal" in name for name in found)
    assert any("identity" in name for name in found)
    said = node.describe()
    return found, {name: said[name] for name in ("quorum_leader", "quorum_term", "commit_index", "applied_index")}


async def assert_serving(nodes: list[NodeProcess]) -> None:
    for node in nodes:
        assert node.running, node.log[-2000:]
        assert node.rss_bytes() < MEMORY_BYTES_MAX
        assert "Traceback" not in node.log
    async with connect([node.address for node in nodes]) as client, client.consumer("t") as consumer:
        assert [record.value async for record in consumer.read_to_end()] == [b"kept"]


def identity_of(node: NodeProcess) -> PeerIdentity:
    content = json.loads(next(node.directory.glob("identity*")).read_bytes())
    return PeerIdentity(
        node_id=content["node_id"], cluster_id=content["cluster_id"], directory_id=content["directory_id"]
    )


async def until_closed(ws: aiohttp.ClientWebSocketResponse) -> list[bytes]:
    """What it says until it closes, in seconds at most."""
    said = []
    async with asyncio.timeout(20):
        async for message in ws:
            said.append(message.data)
    return said


async def test_without_a_proof_nothing_changes(cluster, tmp_path):
    rng, harmful = random.Random(11), pickles(tmp_path / "made")
    node = cluster.node(1)
    peer, chance = identity_of(cluster.node(2)), SystemChance()
    before = of_disk(node)
    async with aiohttp.ClientSession(f"http://{node.address}") as session:
        for number in range(150):
            purpose = rng.choice(tuple(PATHS))
            hello = Introduction(peer, purpose, SECRET if number % 3 else b"guessed", chance).hello()
            first = hello if rng.random() < 0.5 else mutate(rng, hello, harmful)
            absurd = struct.pack(">Q", 0) + encode(RequestVote(rng.choice((9, 2**62 - 1)), 999, 9, True))
            second = rng.choice([absurd, *harmful, msgspec.msgpack.encode({"type": "proof", "proof": bytes(32)})])
            async with session.ws_connect(PATHS[purpose]) as ws:
                await ws.send_bytes(first)
                await ws.send_bytes(second)
                *_, refusal = await until_closed(ws)
                assert msgspec.msgpack.decode(refusal)["code"].startswith("OTTLA-")
        for number in range(100):
            body = rng.choice([*harmful, b"{}", b"[" * 60_000, rng.randbytes(100)])
            async with session.post("/internal/forming", data=body, headers={PROOF_HEADER: "0" * 64}) as response:
                assert response.status == 403
                assert (await response.json())["code"] == "OTTLA-WRONG-SECRET"
            headers = {"Range": "bytes=0-", "X-Ottla-Proof": "0" * (number % 65)}
            async with session.get(f"/internal/raft/snapshot?index={number}", headers=headers) as response:
                assert response.status == 403
    assert of_disk(node) == before
    assert not (tmp_path / "made").exists()
    await assert_serving(cluster.nodes)


async def test_a_proved_peer_that_talks_nonsense_loses_its_connection_only(cluster, tmp_path):
    rng, harmful = random.Random(12), pickles(tmp_path / "made")
    leader = cluster.node(cluster.node(1).describe()["quorum_leader"])
    peer = next(node for node in cluster if node is not leader)
    who = identity_of(peer)
    await peer.kill()  # itself, it would dial again and again, and each time end our connection in its name
    term = leader.describe()["quorum_term"]
    async with aiohttp.ClientSession(f"http://{leader.address}") as session:
        for _ in range(60):
            which = rng.randrange(3)
            purpose = tuple(PATHS)[which]
            data = mutate(rng, valid_frames(rng)[which], harmful)
            while not data or data[-1:] == b"\x00":
                data = mutate(rng, valid_frames(rng)[which], harmful)
            broken = data + b"\xc1"  # a byte that msgpack has no use for
            async with session.ws_connect(PATHS[purpose]) as ws:
                await introduce(ws, who, purpose, SECRET, SystemChance())
                await ws.send_bytes(struct.pack(">Q", 0) + broken if purpose == "raft" else broken)
                await until_closed(ws)
                if purpose != "replica":  # a replica stream of no registered incarnation is closed at once
                    assert ws.close_code == aiohttp.WSCloseCode.PROTOCOL_ERROR
        async with session.ws_connect(PATHS["raft"]) as ws:
            await introduce(ws, who, "raft", SECRET, SystemChance())
            absurd = [m for m in (raft_message(rng) for _ in range(3000)) if m.term > 2**40]
            for number, message in enumerate(absurd[:500]):
                await ws.send_bytes(struct.pack(">Q", number) + encode(message))
            await ws.send_bytes(b"the end")  # after which all before it were heard
            await until_closed(ws)
            assert ws.close_code == aiohttp.WSCloseCode.PROTOCOL_ERROR
    assert leader.describe()["quorum_term"] == term
    assert not (tmp_path / "made").exists()
    await assert_serving([node for node in cluster if node is not peer])
