"""Any input on what nodes say to each other: no crash, no pickle, no change of state without a proof.

The cores of every internal endpoint, in process and from one seed; tests/processes/test_internal_fuzz.py sends the same
to real nodes.
"""

import asyncio
import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request
from msgspec.structs import replace

from ottla.broker import control_messages as control
from ottla.client.frames import BadFrame, decode_request
from ottla.log.storage import SystemStorage
from ottla.raft.codec import AppendEntries, MalformedMessage, NextIndex, RequestVote, encode
from ottla.raft.commands import encode_command
from ottla.raft.forming import FORMING_PATH, PROOF_HEADER as FORMING_PROOF, FormingDesk
from ottla.raft.handshake import Acceptance, HandshakeRefused, Introduction, PeerIdentity, Purpose
from ottla.raft.identity import open_directory
from ottla.raft.image_codec import decode_image, encode_image
from ottla.raft.pysyncobj_core import TERM_STEP_MAX, RaftInvariantBroken
from ottla.raft.results import decode_result
from ottla.raft.snapshot import SnapshotMeta, SnapshotStore, encode_snapshot
from ottla.raft.snapshot_transfer import NONCE_HEADER, PROOF_HEADER, SNAPSHOT_PATH, SnapshotDesk
from ottla.raft.state_machine import MetadataStateMachine
from ottla.raft.transport import _decode_frame

from ..raft.lonely import Lonely
from ..simulation.crashing_storage import SeededChance
from .internal_input import control_asks, deep, mutate, pickles, raft_message, valid_frames

SECRET = b"s" * 32
A = PeerIdentity(node_id=1, cluster_id="c", directory_id="da")
B = PeerIdentity(node_id=2, cluster_id="c", directory_id="db")
DIRECTORIES = {1: "da", 2: "db"}
CHANCE = SeededChance(1)
PURPOSES: tuple[Purpose, ...] = ("raft", "control", "replica")
MEMORY_BYTES_MAX = 16 << 20


@pytest.fixture(autouse=True)
def nothing_is_made(tmp_path: Path) -> Iterator[Path]:
    """No pickle that came in was loaded."""
    made = tmp_path / "made-by-a-pickle"
    yield made
    assert not made.exists()


def acceptance(purpose: Purpose) -> Acceptance:
    return Acceptance(B, SECRET, CHANCE, purpose=purpose, directories=DIRECTORIES)


def introduction(purpose: Purpose, who: PeerIdentity = A, secret: bytes | None = SECRET) -> Introduction:
    return Introduction(who, purpose, secret, CHANCE)


def stolen_proofs(purpose: Purpose) -> list[bytes]:
    """Proofs that were good once, or somewhere else."""
    recorded = introduction(purpose)
    replay = recorded.answer(acceptance(purpose).hello(recorded.hello()))
    other: Purpose = "control" if purpose != "control" else "replica"
    elsewhere = introduction(other)
    return [
        replay,
        elsewhere.answer(acceptance(other).hello(elsewhere.hello())),
        msgspec.msgpack.encode({"type": "proof", "proof": b""}),
        msgspec.msgpack.encode({"type": "welcome"}),
        msgspec.msgpack.encode({"type": "refused", "code": "x" * 1000, "message": "y" * 2000}),
    ]


def hellos(purpose: Purpose) -> list[bytes]:
    """One that is good, and those of the wrong cluster, directory, node, purpose and secret."""
    wrong = [
        PeerIdentity(node_id=1, cluster_id="other", directory_id="da"),
        PeerIdentity(node_id=1, cluster_id="c", directory_id="wiped"),
        PeerIdentity(node_id=3, cluster_id="c", directory_id="da"),
    ]
    others = [name for name in PURPOSES if name != purpose]
    return [
        introduction(purpose).hello(),
        *(introduction(purpose, who).hello() for who in wrong),
        *(introduction(name).hello() for name in others),
        introduction(purpose, secret=None).hello(),
    ]


def reflect(answer: bytes) -> bytes:
    """The acceptor's own proof, sent back to it."""
    return msgspec.msgpack.encode({"type": "proof", "proof": msgspec.msgpack.decode(answer)["proof"]})


@pytest.mark.parametrize("purpose", PURPOSES)
def test_nobody_gets_past_the_handshake_without_the_secret(purpose: Purpose, nothing_is_made: Path) -> None:
    rng, harmful = random.Random(PURPOSES.index(purpose)), pickles(nothing_is_made)
    openings, stolen = hellos(purpose), stolen_proofs(purpose)
    answered = 0
    for _ in range(2_500):
        hello = rng.choice(openings)
        if rng.random() < 0.6:
            hello = mutate(rng, hello, harmful)
        side = acceptance(purpose)
        try:
            answer = side.hello(hello)
        except HandshakeRefused:
            continue
        answered += 1
        proof = rng.choice([*stolen, reflect(answer), answer, hello])
        with pytest.raises(HandshakeRefused) as refused:
            side.proof(mutate(rng, proof, harmful) if rng.random() < 0.5 else proof)
        assert refused.value.code
    assert answered > 100


def check_frames(
    decoder: Callable[[bytes], object], errors: tuple[type[Exception], ...], which: int, made: Path
) -> None:
    rng, harmful = random.Random(which), pickles(made)
    decoder_of_depth = deep(200_000)
    tracemalloc.start()
    try:
        for number in range(3_500):
            data = mutate(rng, valid_frames(rng)[which], harmful)
            if number % 500 == 0:
                data = data[:1] + decoder_of_depth
            try:
                decoder(data)
            except errors:
                continue
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES_MAX
    finally:
        tracemalloc.stop()


def test_bytes_on_a_raft_stream_are_a_message_or_its_end(nothing_is_made: Path) -> None:
    check_frames(lambda data: _decode_frame(bytes(8) + data, 0), (MalformedMessage,), 0, nothing_is_made)


def test_bytes_on_a_control_stream_are_an_ask_or_its_end(nothing_is_made: Path) -> None:
    # The errors that the handler takes for a refusal, and no others.
    errors = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
    check_frames(control.decode_ask, errors, 1, nothing_is_made)


def test_bytes_on_a_replica_stream_are_a_fetch_or_its_end(nothing_is_made: Path) -> None:
    check_frames(decode_request, (BadFrame,), 2, nothing_is_made)


def follower() -> Lonely:
    """Follows node 2 in term 3, with entries 2 to 6, of which 2 to 4 are committed and applied."""
    world = Lonely(3)
    world.hear(2, AppendEntries(3, 4, 1, 0, tuple((b"\0%d" % index, index, 3) for index in range(2, 7))))
    world.one.tick()
    world.sync()
    world.sent.clear()
    return world


def leader() -> Lonely:
    """Leads, and has some entries committed."""
    world = Lonely(3)
    world.lead()
    for number in range(3):
        world.one.propose(b"%d" % number)
    world.one.tick()
    world.sync()
    world.hear(2, NextIndex(1, 6, success=True, reset=False))
    world.one.tick()
    return world


@pytest.mark.parametrize("start", [follower, leader])
def test_no_message_of_a_proved_peer_takes_back_what_is_committed(start: Callable[[], Lonely]) -> None:
    rng = random.Random(7)
    world, broken = start(), 0
    for _ in range(4_000):
        core, wal = world.one.core, world.one.wal
        term, commit = core.term, core.commit_index
        committed = wal[:commit]
        message = raft_message(rng)
        if rng.random() < 0.7 and not isinstance(message, AppendEntries):
            message = replace(message, term=term)  # else it soon is nobody's leader any more, and no leader's follower
        try:
            world.hear(rng.choice((2, 3)), message)
            if rng.random() < 0.2:
                world.now += rng.choice((0.01, 0.3, 2.0))
                world.one.tick()
            if rng.random() < 0.5:
                world.sync()
        except RaftInvariantBroken as proof:
            # Two leaders in one term, or another entry where one is committed: whoever is wrong, nothing may go on.
            if not str(proof).startswith(("two leaders in term", "asked to truncate from")):
                raise
            broken += 1
            world = start()
            continue
        assert term <= core.term <= term + TERM_STEP_MAX + 2
        assert core.commit_index >= commit
        assert wal[:commit] == committed
        assert core.applied_index <= core.commit_index <= wal.last_index
        world.sent.clear()
        if core.term > 100:
            world = start()
    assert broken


def test_a_term_that_no_elections_lead_to_is_dropped() -> None:
    world = follower()
    absurd = 2**62 - 1
    for message in (
        RequestVote(absurd, 99, 99, True),
        AppendEntries(absurd, 1, 1, 0),
        NextIndex(absurd, 1, False, False),
    ):
        world.hear(3, message)
    assert world.one.core.term == 3
    world.hear(3, RequestVote(3 + TERM_STEP_MAX, 99, 99, True))
    assert world.one.core.term == 3 + TERM_STEP_MAX


def test_no_command_of_a_proved_peer_stops_the_state_machine() -> None:
    rng = random.Random(9)
    machine = MetadataStateMachine()
    decided = 0
    for index in range(1, 4_001):
        try:
            _, ask = control.decode_ask(control_asks(rng))
        except msgspec.ValidationError:
            continue
        if isinstance(ask, control.Submit):
            decided += 1
            result = decode_result(machine.apply(index, 1, encode_command(ask.command)))
            assert getattr(result, "code", None) != "UNKNOWN_SERVER_ERROR"
    assert decided > 500
    assert decode_image(encode_image(machine.image)) == machine.image


def body_of(data: bytes) -> StreamReader:
    reader = StreamReader(BaseProtocol(asyncio.get_running_loop()), 1 << 16)
    reader.feed_data(data)
    reader.feed_eof()
    return reader


async def test_a_forming_request_without_a_proof_learns_and_changes_nothing(
    nothing_is_made: Path, tmp_path: Path
) -> None:
    rng, harmful = random.Random(3), pickles(nothing_is_made)
    with open_directory(tmp_path / "data", SystemStorage(), CHANCE) as directory:
        desk = FormingDesk(directory, ["a:1", "b:1"], SECRET, CHANCE)
        bare = FormingDesk(directory, ["a:1", "b:1"], None, CHANCE)
        before = desk.answer()
        hostile = [b"[" * 60_000, b'{"x":' + b"[" * 60_000, b'{"nonce":"\\ud800"}']
        valid = b'{"nonce":"n","asker":"x"}'
        for number in range(1_000):
            body = valid if number % 10 == 0 else mutate(rng, valid, [*harmful, *hostile])
            proof = rng.choice(("", "0" * 64, "\xff", rng.randbytes(32).hex()))
            request = make_mocked_request("POST", FORMING_PATH, headers={FORMING_PROOF: proof}, payload=body_of(body))
            assert (await desk.handle(request)).status == 403
            request = make_mocked_request("POST", FORMING_PATH, headers={FORMING_PROOF: ""}, payload=body_of(body))
            assert (await bare.handle(request)).status in (200, 400)
        assert desk.answer() == before
        assert not desk.asked.is_set()


async def test_no_piece_of_a_snapshot_goes_out_without_a_proof() -> None:
    rng = random.Random(4)
    world = Lonely(3)
    store: SnapshotStore = world.one.store
    store.save(encode_snapshot(SnapshotMeta(1, 0, "c", 1), bytes(100)))

    async def run(function: Any) -> Any:
        return function()

    desk = SnapshotDesk(store, SECRET, "c", run)
    seen = set()
    for _ in range(1_000):
        index = rng.choice(("1", "", "-1", "9" * 19, "9" * 30, "1;2", "\N{ARABIC-INDIC DIGIT ONE}", "../../x"))
        headers = {
            "Range": rng.choice(("bytes=0-", "bytes=5-", "bytes=-1", f"bytes={'9' * 18}-", "", "bytes=0-1,3-")),
            NONCE_HEADER: rng.choice(("", "ab", "\xff" * 50, "n" * 4000)),
            PROOF_HEADER: rng.choice(("", "0" * 64, rng.randbytes(32).hex(), "\xff")),
        }
        answer = await desk.handle(make_mocked_request("GET", f"{SNAPSHOT_PATH}?index={index}", headers=headers))
        seen.add(answer.status)
    assert seen == {400, 403}


def test_a_message_that_is_proved_valid_is_still_only_its_bytes() -> None:
    # The fuzzed decoders do let good ones through: they are not merely deaf.
    message = RequestVote(5, 1, 0, False)
    assert _decode_frame(bytes(8) + encode(message), 0) == message
    assert introduction("raft").hello()
