"""Hostile input for what nodes say to each other: from noise to whole messages that are only a little wrong."""

import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ottla.broker import control_messages as control
from ottla.client.frames import encode_frame
from ottla.client.protocol import ReplicaFetchRequest
from ottla.log.model import BrokerEpoch, BrokerId, TopicId
from ottla.raft.codec import (
    AppendEntries,
    InstallSnapshot,
    Message,
    NextIndex,
    PreVote,
    RequestVote,
    ResponsePreVote,
    ResponseVote,
    TimeoutNow,
    encode,
)
from ottla.raft.commands import AllocateProducerIds, Command, CreateTopic, DeleteTopic, FenceBroker, Requester
from ottla.raft.sessions import Heartbeat

ABSURD = (-1, 0, 1, 2, 255, 2**31, 2**32, 2**53, 2**62 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


class Harm:
    """Its pickle makes a directory when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def pickles(path: Path) -> list[bytes]:
    """One of each protocol."""
    return [pickle.dumps(Harm(path), protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]


def deep(depth: int) -> bytes:
    """Arrays in arrays, as msgpack."""
    return b"\x91" * depth + b"\xc0"


def raft_message(rng: random.Random, top: int = 2**62 - 1) -> Message:
    """A message that the codec lets pass; its numbers are those of the test's small log, or absurd."""

    def number(low: int) -> int:
        return max(low, min(top, rng.choice((rng.randrange(12), rng.randrange(12), rng.choice(ABSURD)))))

    term, index = number(0), number(1)
    makers: tuple[Callable[[], Message], ...] = (
        lambda: RequestVote(term, index, number(0), rng.random() < 0.5),
        lambda: ResponseVote(term),
        lambda: PreVote(term, index, number(0)),
        lambda: ResponsePreVote(term, rng.random() < 0.5),
        lambda: NextIndex(term, index, rng.random() < 0.5, rng.random() < 0.5),
        lambda: InstallSnapshot(term, index, min(term, number(0)), number(1), rng.randrange(1 << 32)),
        lambda: TimeoutNow(term),
        lambda: _append(rng, term, index, number(1)),
    )
    return rng.choice(makers)()


def _append(rng: random.Random, term: int, prev: int, commit: int) -> AppendEntries:
    terms = sorted(min(term, rng.randrange(12)) for _ in range(rng.randrange(4)))
    entries = tuple((bytes([rng.randrange(256)]) + b"x", prev + 1 + i, t) for i, t in enumerate(terms))
    return AppendEntries(term, commit, prev, rng.choice((terms[0] if terms else term, 0)), entries)


def control_asks(rng: random.Random) -> bytes:
    """One ask of a control stream, valid but for its numbers."""
    number = rng.choice(ABSURD[1:])
    requester = Requester(BrokerId(rng.randrange(1, 4)), BrokerEpoch(number), rng.choice(ABSURD[1:]))
    bodies = (
        AllocateProducerIds(rng.choice(ABSURD)),
        CreateTopic("t" * rng.choice((0, 1, 300)), TopicId("T" * 22), rng.choice(ABSURD), rng.choice(ABSURD)),
        DeleteTopic(TopicId("U" * 22)),
        FenceBroker(BrokerId(rng.randrange(1, 4)), BrokerEpoch(number)),
    )
    if rng.random() < 0.3:
        beat = Heartbeat(BrokerId(rng.randrange(1, 4)), BrokerEpoch(number), rng.choice(ABSURD))
        return control.encode(rng.randrange(1 << 32), control.Beat(beat))
    return control.encode(rng.randrange(1 << 32), control.Submit(Command(0, requester, rng.choice(bodies))))


def valid_frames(rng: random.Random) -> list[bytes]:
    """One whole frame of each stream: Raft's body, a control ask, a replica fetch."""
    fetch = ReplicaFetchRequest(max_wait_ms=rng.choice((0, 1, 10**9)), max_bytes=rng.choice((0, 1, 2**40)))
    return [encode(raft_message(rng)), control_asks(rng), b"".join(map(bytes, encode_frame(1, fetch, ())))]


def mutate(rng: random.Random, data: bytes, harmful: list[bytes]) -> bytes:
    """Bytes that are a little, or wholly, not ``data``."""
    changed = bytearray(data)
    match rng.randrange(9):
        case 0:
            return rng.randbytes(rng.randrange(200))
        case 1:
            return bytes(changed[: rng.randrange(len(changed) + 1)])
        case 2:
            for _ in range(rng.randrange(1, 4)):
                changed[rng.randrange(len(changed))] ^= rng.randrange(1, 256)
        case 3:
            changed[rng.randrange(len(changed)) :] = rng.choice(
                (b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdf")
            )
        case 4:
            at = rng.randrange(len(changed))
            changed[at:at] = rng.choice((deep(5000), b"\xcb\x7f\xf8" + bytes(6), b"\xcf" + b"\xff" * 8, b"\xd3\x80"))
        case 5:
            return _retyped(rng, data)
        case 6:
            return rng.choice(harmful)
        case 7:
            return data + data
        case 8:
            return msgspec.msgpack.encode(rng.choice((None, [], {}, 2**64 - 1, float("nan"), "\x00", [[]] * 50)))
    return bytes(changed)


def _retyped(rng: random.Random, data: bytes) -> bytes:
    """The same shape with another type in one place."""
    try:
        value = msgspec.msgpack.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return data[::-1]
    if isinstance(value, dict) and value:
        value[rng.choice(list(value))] = rng.choice((*ABSURD, None, float("nan"), b"", "", [], {}))
    elif isinstance(value, list) and value:
        value[rng.randrange(len(value))] = rng.choice((*ABSURD, None, float("nan"), b"", "", [], {}))
    return msgspec.msgpack.encode(value)
