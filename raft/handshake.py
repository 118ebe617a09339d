"""How two nodes prove to each other who they are, on every stream between nodes.

    introducer                                   acceptor
      Hello   ----------------------------------->        who I am, what the stream is for, my nonce
              <-----------------------------------  Answer  who I am, my nonce, proof("acceptor")
      Proof   ----------------------------------->        proof("introducer")
              <-----------------------------------  Welcome
                                       (or Refused, by either, and the end)

    proof(role) = HMAC-SHA256(secret, role | length and bytes of Hello | length and bytes of the acceptor's Hello)

Both nonces are fresh and both hellos are under the proof, so neither an old handshake nor half of another one passes.
The proof covers who speaks, not what is said afterwards: for that a cluster runs over TLS. Without a secret (None)
proofs are empty, and both sides must be without one.

The classes ``Introduction`` and ``Acceptance`` are bytes in, bytes out; ``introduce`` and ``accept`` pump them over
a WebSocket.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Mapping
from typing import Annotated, Literal, Protocol, TypeAlias, TypeVar

import msgspec

from ottla.log.chance import Chance

Purpose: TypeAlias = Literal["raft", "control", "replica"]

WRONG_SECRET = "OTTLA-WRONG-SECRET"
WRONG_CLUSTER = "OTTLA-WRONG-CLUSTER"
WRONG_DIRECTORY = "OTTLA-WRONG-DIRECTORY"
BAD_HANDSHAKE = "OTTLA-BAD-HANDSHAKE"

MAX_FRAME_BYTES = 4096
NONCE_BYTES = 32
VERSION = 1

_Name: TypeAlias = Annotated[str, msgspec.Meta(max_length=100)]


class WebSocket(Protocol):
    """As much of one as a handshake needs: ours, or aiohttp's."""

    @property
    def closed(self) -> bool: ...

    async def send_bytes(self, data: bytes, /) -> None: ...

    async def receive_bytes(self) -> bytes | bytearray:
        """Raises ConnectionError, or aiohttp's TypeError, where the connection ends."""
        ...

    async def close(self) -> object: ...


class HandshakeRefused(ConnectionError):
    """One side would not speak with the other. ``code`` is one of this module's; the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class PeerIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a node says it is: its number, its cluster, the data directory it runs on, and which run of it."""

    node_id: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    cluster_id: _Name
    directory_id: _Name
    incarnation: _Name = ""  # differs from run to run of a process


class _Hello(msgspec.Struct, frozen=True, tag="hello", kw_only=True):
    version: int
    purpose: Purpose
    identity: PeerIdentity
    secured: bool
    nonce: Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]


class _Answer(msgspec.Struct, frozen=True, tag="answer"):
    hello: bytes  # the acceptor's _Hello, as proved
    proof: bytes


class _Proof(msgspec.Struct, frozen=True, tag="proof"):
    proof: bytes


class _Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    pass


class _Refused(msgspec.Struct, frozen=True, tag="refused"):
    code: str
    message: str


_Frame: TypeAlias = _Hello | _Answer | _Proof | _Welcome | _Refused
_T = TypeVar("_T", bound=_Frame)
_ENCODE = msgspec.msgpack.Encoder().encode
_DECODER: msgspec.msgpack.Decoder[_Frame] = msgspec.msgpack.Decoder(_Frame)


def _decode(data: bytes, wanted: type[_T]) -> _T:
    if len(data) > MAX_FRAME_BYTES:
        raise HandshakeRefused(BAD_HANDSHAKE, f"a frame of {len(data)} bytes")
    try:
        frame = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HandshakeRefused(BAD_HANDSHAKE, f"these bytes are no handshake: {error}") from error
    if isinstance(frame, _Refused):
        raise HandshakeRefused(frame.code[:100], frame.message[:500])
    if not isinstance(frame, wanted):
        raise HandshakeRefused(BAD_HANDSHAKE, f"{type(frame).__name__.strip('_')} where another frame belongs")
    return frame


def refusal(refused: HandshakeRefused) -> bytes:
    """The frame that tells the other side."""
    return _ENCODE(_Refused(refused.code, refused.message))


def _prove(secret: bytes | None, role: bytes, introducer: bytes, acceptor: bytes) -> bytes:
    if secret is None:
        return b""
    transcript = b"".join(len(part).to_bytes(4, "big") + part for part in (role, introducer, acceptor))
    return hmac.new(secret, transcript, hashlib.sha256).digest()


def _check_proof(secret: bytes | None, role: bytes, introducer: bytes, acceptor: bytes, proof: bytes) -> None:
    if not hmac.compare_digest(_prove(secret, role, introducer, acceptor), proof):
        raise HandshakeRefused(WRONG_SECRET, "the two nodes have different cluster secrets; give both the same")


def _make_hello(local: PeerIdentity, purpose: Purpose, secret: bytes | None, chance: Chance) -> bytes:
    nonce = chance.token_bytes(NONCE_BYTES)
    return _ENCODE(_Hello(version=VERSION, purpose=purpose, identity=local, secured=secret is not None, nonce=nonce))


def _check_hello(hello: _Hello, local: PeerIdentity, purpose: Purpose | None, secret: bytes | None) -> None:
    if hello.version != VERSION:
        raise HandshakeRefused(BAD_HANDSHAKE, f"handshake version {hello.version}; this node speaks {VERSION}")
    if hello.secured != (secret is not None):
        has, lacks = ("other", "this") if hello.secured else ("this", "other")
        raise HandshakeRefused(WRONG_SECRET, f"the {has} node has a cluster secret and the {lacks} one has none")
    if hello.identity.cluster_id != local.cluster_id:
        raise HandshakeRefused(
            WRONG_CLUSTER, f"node {hello.identity.node_id} is of cluster {hello.identity.cluster_id}, not of this one"
        )
    if purpose is not None and hello.purpose != purpose:
        raise HandshakeRefused(BAD_HANDSHAKE, f"a {hello.purpose} stream where {purpose} streams end")


def _check_directory(peer: PeerIdentity, directories: Mapping[int, str] | None) -> None:
    if directories is not None and directories.get(peer.node_id) != peer.directory_id:
        raise HandshakeRefused(
            WRONG_DIRECTORY,
            f"node {peer.node_id} runs on data directory {peer.directory_id}, which is not the one the cluster "
            "knows it by: was the directory wiped, or another one mounted?",
        )


class Acceptance:
    """The accepting side, one per connection. ``purpose`` None takes any; ``directories`` names who may come."""

    def __init__(
        self,
        local: PeerIdentity,
        secret: bytes | None,
        chance: Chance,
        *,
        purpose: Purpose | None = None,
        directories: Mapping[int, str] | None = None,
    ) -> None:
        self._local = local
        self._secret = secret
        self._chance = chance
        self._purpose = purpose
        self._directories = directories
        self._theirs = self._mine = b""
        self.peer: PeerIdentity | None = None  # proved only once ``proof`` has returned
        self.purpose: Purpose | None = None

    def hello(self, data: bytes) -> bytes:
        """A Hello came; the Answer to send. Raises HandshakeRefused."""
        hello = _decode(data, _Hello)
        _check_hello(hello, self._local, self._purpose, self._secret)
        _check_directory(hello.identity, self._directories)
        self.peer, self.purpose = hello.identity, hello.purpose
        self._theirs, self._mine = data, _make_hello(self._local, hello.purpose, self._secret, self._chance)
        return _ENCODE(_Answer(self._mine, _prove(self._secret, b"acceptor", self._theirs, self._mine)))

    def proof(self, data: bytes) -> bytes:
        """A Proof came; the Welcome to send. Raises HandshakeRefused."""
        proof = _decode(data, _Proof).proof
        _check_proof(self._secret, b"introducer", self._theirs, self._mine, proof)
        return _ENCODE(_Welcome())


class Introduction:
    """The dialing side, one per connection. ``expected`` is the node id, ``directories`` the directory it must have."""

    def __init__(
        self,
        local: PeerIdentity,
        purpose: Purpose,
        secret: bytes | None,
        chance: Chance,
        *,
        expected: int | None = None,
        directories: Mapping[int, str] | None = None,
    ) -> None:
        self._local = local
        self._purpose: Purpose = purpose
        self._secret = secret
        self._expected = expected
        self._directories = directories
        self._mine = _make_hello(local, purpose, secret, chance)
        self.peer: PeerIdentity | None = None

    def hello(self) -> bytes:
        """The Hello to send first."""
        return self._mine

    def answer(self, data: bytes) -> bytes:
        """An Answer came; the Proof to send. Raises HandshakeRefused."""
        answer = _decode(data, _Answer)
        hello = _decode(answer.hello, _Hello)
        _check_hello(hello, self._local, self._purpose, self._secret)
        _check_proof(self._secret, b"acceptor", self._mine, answer.hello, answer.proof)
        _check_directory(hello.identity, self._directories)
        if self._expected is not None and hello.identity.node_id != self._expected:
            raise HandshakeRefused(
                WRONG_DIRECTORY, f"node {hello.identity.node_id} answers where node {self._expected} belongs"
            )
        self.peer = hello.identity
        return _ENCODE(_Proof(_prove(self._secret, b"introducer", self._mine, answer.hello)))

    def welcome(self, data: bytes) -> PeerIdentity:
        """The Welcome came: the peer. Raises HandshakeRefused."""
        _decode(data, _Welcome)
        assert self.peer is not None
        return self.peer


async def accept(
    ws: WebSocket,
    local: PeerIdentity,
    secret: bytes | None,
    chance: Chance,
    timeout_s: float = 10,
    *,
    purpose: Purpose | None = None,
    directories: Mapping[int, str] | None = None,
) -> PeerIdentity:
    """Let a peer introduce itself on ``ws``. Raises HandshakeRefused, after telling the peer and closing."""
    core = Acceptance(local, secret, chance, purpose=purpose, directories=directories)
    async with _Refusing(ws, timeout_s):
        await ws.send_bytes(core.hello(await _receive(ws)))
        await ws.send_bytes(core.proof(await _receive(ws)))
        assert core.peer is not None
        return core.peer


async def introduce(
    ws: WebSocket,
    local: PeerIdentity,
    purpose: Purpose,
    secret: bytes | None,
    chance: Chance,
    timeout_s: float = 10,
    *,
    expected: int | None = None,
    directories: Mapping[int, str] | None = None,
) -> PeerIdentity:
    """Introduce this node on ``ws``; who is at the other end. Raises HandshakeRefused, after closing."""
    core = Introduction(local, purpose, secret, chance, expected=expected, directories=directories)
    async with _Refusing(ws, timeout_s):
        await ws.send_bytes(core.hello())
        await ws.send_bytes(core.answer(await _receive(ws)))
        return core.welcome(await _receive(ws))


async def _receive(ws: WebSocket) -> bytes:
    try:
        return bytes(await ws.receive_bytes())
    except (ConnectionError, TypeError):
        raise HandshakeRefused(BAD_HANDSHAKE, "the connection ended before the handshake did") from None


class _Refusing:
    """Bounds a handshake in time; sends the refusal that leaves the block, and closes."""

    def __init__(self, ws: WebSocket, timeout_s: float) -> None:
        self._ws = ws
        self._timeout_s = timeout_s
        self._timeout = asyncio.timeout(timeout_s)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            await self._timeout.__aexit__(kind, error, None)
        except TimeoutError:
            error = HandshakeRefused(BAD_HANDSHAKE, f"no handshake within {self._timeout_s:g} s")
            await self._refuse(error)
            raise error from None
        if isinstance(error, HandshakeRefused):
            await self._refuse(error)

    async def _refuse(self, refused: HandshakeRefused) -> None:
        if not self._ws.closed:
            try:
                async with asyncio.timeout(1):
                    await self._ws.send_bytes(refusal(refused))
                    await self._ws.close()
            except (ConnectionError, TimeoutError):
                pass  # the peer left first; the refusal stands
