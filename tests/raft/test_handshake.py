"""Who may speak with whom, and that nobody can pretend."""

import msgspec
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from hypothesis import given, strategies as st

from ottla.raft.handshake import (
    Acceptance,
    HandshakeRefused,
    Introduction,
    PeerIdentity,
    accept,
    introduce,
    refusal,
)

from .cluster import SeededChance

SECRET = b"correct horse"
A = PeerIdentity(node_id=1, cluster_id="c", directory_id="da", incarnation="1")
B = PeerIdentity(node_id=2, cluster_id="c", directory_id="db", incarnation="1")
CHANCE = SeededChance(1)


def pair(secret_a: bytes | None = SECRET, secret_b: bytes | None = SECRET) -> tuple[Introduction, Acceptance]:
    directories = {1: "da", 2: "db"}
    return (
        Introduction(A, "raft", secret_a, CHANCE, expected=2, directories=directories),
        Acceptance(B, secret_b, CHANCE, purpose="raft", directories=directories),
    )


def converse(introduction: Introduction, acceptance: Acceptance) -> PeerIdentity:
    return introduction.welcome(acceptance.proof(introduction.answer(acceptance.hello(introduction.hello()))))


@pytest.mark.parametrize("secret", [None, SECRET])
def test_two_nodes_that_agree_learn_who_the_other_is(secret: bytes | None) -> None:
    introduction, acceptance = pair(secret, secret)
    assert converse(introduction, acceptance) == B
    assert acceptance.peer == A
    assert acceptance.purpose == "raft"


@pytest.mark.parametrize(("one", "other"), [(SECRET, b"x"), (None, SECRET), (SECRET, None), (SECRET, b"")])
def test_a_wrong_or_missing_secret_is_refused_and_named(one: bytes | None, other: bytes | None) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        converse(*pair(one, other))
    assert refused.value.code == "OTTLA-WRONG-SECRET"


@pytest.mark.parametrize(
    ("identity", "code"),
    [
        (PeerIdentity(node_id=1, cluster_id="other", directory_id="da"), "OTTLA-WRONG-CLUSTER"),
        (PeerIdentity(node_id=1, cluster_id="c", directory_id="wiped"), "OTTLA-WRONG-DIRECTORY"),
        (PeerIdentity(node_id=3, cluster_id="c", directory_id="da"), "OTTLA-WRONG-DIRECTORY"),
    ],
)
def test_a_stranger_is_refused_and_named(identity: PeerIdentity, code: str) -> None:
    with pytest.raises(HandshakeRefused) as refused:
        converse(Introduction(identity, "raft", SECRET, CHANCE), pair()[1])
    assert refused.value.code == code


def test_another_purpose_or_another_node_than_expected_is_refused() -> None:
    with pytest.raises(HandshakeRefused):
        converse(Introduction(A, "replica", SECRET, CHANCE), pair()[1])
    with pytest.raises(HandshakeRefused):
        converse(Introduction(A, "raft", SECRET, CHANCE, expected=3), pair()[1])


def test_an_old_handshake_cannot_be_played_again_to_either_side() -> None:
    introduction, acceptance = pair()
    hello = introduction.hello()
    answer = acceptance.hello(hello)
    proof = introduction.answer(answer)
    acceptance.proof(proof)

    _, again = pair()
    again.hello(hello)
    with pytest.raises(HandshakeRefused):
        again.proof(proof)
    fresh, _ = pair()
    with pytest.raises(HandshakeRefused):
        fresh.answer(answer)


def test_a_proof_cannot_be_reflected() -> None:
    introduction, acceptance = pair()
    answer = acceptance.hello(introduction.hello())
    echo = msgspec.msgpack.encode({"type": "proof", "proof": msgspec.msgpack.decode(answer)["proof"]})
    with pytest.raises(HandshakeRefused) as refused:
        acceptance.proof(echo)
    assert refused.value.code == "OTTLA-WRONG-SECRET"
    other = Acceptance(A, SECRET, CHANCE)  # the introducer's own node, asked to make an answer
    with pytest.raises(HandshakeRefused):
        introduction.answer(other.hello(introduction.hello()))


@given(st.integers(0, 2), st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(frame: int, place: int, flip: int) -> None:
    introduction, acceptance = pair()

    def tamper(number: int, data: bytes) -> bytes:
        changed = bytearray(data)
        if number == frame:
            changed[place % len(data)] ^= flip
        return bytes(changed)

    def converse_tampered() -> None:
        answer = acceptance.hello(tamper(0, introduction.hello()))
        acceptance.proof(tamper(2, introduction.answer(tamper(1, answer))))

    with pytest.raises(HandshakeRefused):
        converse_tampered()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_clear_refusal(data: bytes) -> None:
    introduction, acceptance = pair()
    for step in (acceptance.hello, acceptance.proof, introduction.answer, introduction.welcome):
        with pytest.raises(HandshakeRefused):
            step(data)


def test_a_refusal_reaches_the_other_side_with_its_code() -> None:
    introduction, _ = pair()
    with pytest.raises(HandshakeRefused) as refused:
        introduction.answer(refusal(HandshakeRefused("OTTLA-X", "why")))
    assert (refused.value.code, refused.value.message) == ("OTTLA-X", "why")


async def _meet(secret_a: bytes | None, secret_b: bytes | None) -> list[object]:
    """Both ends' results over a real WebSocket."""
    ends: list[object] = []

    async def handle(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        try:
            ends.append(await accept(ws, B, secret_b, CHANCE, purpose="control"))
        except HandshakeRefused as refused:
            ends.append(refused.code)
        return ws

    app = web.Application()
    app.router.add_get("/", handle)
    async with TestServer(app) as server, ClientSession() as session, session.ws_connect(server.make_url("/")) as ws:
        try:
            ends.append(await introduce(ws, A, "control", secret_a, CHANCE))
        except HandshakeRefused as refused:
            ends.append(refused.code)
        await ws.receive()  # until the other end is done
    return ends


async def test_over_a_websocket() -> None:
    met = await _meet(SECRET, SECRET)
    assert A in met
    assert B in met
    assert await _meet(SECRET, b"x") == ["OTTLA-WRONG-SECRET"] * 2
    assert await _meet(None, SECRET) == ["OTTLA-WRONG-SECRET"] * 2


async def test_a_silent_peer_is_refused_in_time() -> None:
    async def handle(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.receive()
        await ws.receive()
        return ws

    app = web.Application()
    app.router.add_get("/", handle)
    async with TestServer(app) as server, ClientSession() as session, session.ws_connect(server.make_url("/")) as ws:
        with pytest.raises(HandshakeRefused, match="no handshake within"):
            await introduce(ws, A, "control", SECRET, CHANCE, timeout_s=0.05)
