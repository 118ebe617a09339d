"""How a node that is no voter gets its node id: ``POST /internal/join`` to any node of the cluster.

    request   {"nonce": ..., "cluster_id": ..., "directory_id": ...}
              X-Ottla-Proof: HMAC-SHA256(secret, "join-request" | body), as hex
    answer    200 {"node_id": ...}, or 403, 409 (never), 503 (not now) and why
              X-Ottla-Proof: HMAC-SHA256(secret, "join-answer" | nonce | status | body)

The id is the directory's for good, so a request that is repeated, by whomever, changes nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import aiohttp
import msgspec
from aiohttp import web

from ottla.log.chance import Chance

from .http_body import BodyTooLarge, read_body
from .http_proof import PROOF_HEADER, prove, proves

JOIN_PATH = "/internal/join"
ASK_TIMEOUT_S = 10.0
BODY_BYTES_MAX = 4096
PAUSE_FIRST_S = 0.05
PAUSE_MAX_S = 1.0

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class JoinDelayed(Exception):
    """No node id now; the message says why."""


class JoinRefused(Exception):
    """No node id for this directory; the message says why."""


class _Ask(msgspec.Struct, frozen=True):
    nonce: _Text
    cluster_id: _Text
    directory_id: _Text


class _Answer(msgspec.Struct, frozen=True):
    node_id: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class JoinDesk:
    """Answers those who join. ``assign`` has the quorum give a directory its id, once this node can ask it: raises
    JoinDelayed and JoinRefused."""

    assign: Callable[[str, str], Awaitable[int]] | None = None  # (cluster id, directory id)

    def __init__(self, secret: bytes | None) -> None:
        self._secret = secret

    async def handle(self, request: web.Request) -> web.Response:
        """The aiohttp handler of JOIN_PATH."""
        try:
            body = await read_body(request.content, BODY_BYTES_MAX)
        except BodyTooLarge:
            return web.json_response({"code": "OTTLA-BAD-REQUEST"}, status=413)
        if not proves(request.headers.get(PROOF_HEADER, ""), self._secret, "join-request", body):
            return web.json_response({"code": "OTTLA-WRONG-SECRET"}, status=403)
        try:
            ask = msgspec.json.decode(body, type=_Ask)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return web.json_response({"code": "OTTLA-BAD-REQUEST"}, status=400)
        if self.assign is None:
            return self._proved(503, ask, b"it is starting itself")
        try:
            node_id = await self.assign(ask.cluster_id, ask.directory_id)
        except JoinDelayed as delayed:
            return self._proved(503, ask, str(delayed).encode())
        except JoinRefused as refused:
            return self._proved(409, ask, str(refused).encode())
        return self._proved(200, ask, msgspec.json.encode(_Answer(node_id)))

    def _proved(self, status: int, ask: _Ask, body: bytes) -> web.Response:
        headers = {PROOF_HEADER: prove(self._secret, "join-answer", ask.nonce, status, body)}
        return web.Response(status=status, body=body, headers=headers, content_type="application/json")


async def join_cluster(
    session: aiohttp.ClientSession,
    urls: Sequence[str],
    *,
    secret: bytes | None,
    chance: Chance,
    cluster_id: str,
    directory_id: str,
    report: Callable[[str], None],
) -> int:
    """The node id of ``directory_id`` in that cluster, new or as before, from the first node that gives it. Waits for
    as long as it takes; ``report`` gets a line whenever what it waits for changes. Raises JoinRefused."""
    said, pause_s = "", PAUSE_FIRST_S
    while True:
        problems = []
        for url in urls:
            try:
                return await _ask(session, url, secret, chance, cluster_id, directory_id)
            except JoinDelayed as delayed:
                problems.append(f"{url.removeprefix('http://')} ({delayed})")
        line = "waiting for a node id from " + ", ".join(problems)
        if line != said:
            report(line)
            said = line
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, PAUSE_MAX_S)


async def _ask(
    session: aiohttp.ClientSession, url: str, secret: bytes | None, chance: Chance, cluster_id: str, directory_id: str
) -> int:
    nonce = chance.token_bytes(16).hex()
    body = msgspec.json.encode(_Ask(nonce, cluster_id, directory_id))
    headers = {PROOF_HEADER: prove(secret, "join-request", body)}
    timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
    try:
        async with session.post(url + JOIN_PATH, data=body, headers=headers, timeout=timeout) as response:
            data = await read_body(response.content, BODY_BYTES_MAX)
            status, shown = response.status, response.headers.get(PROOF_HEADER, "")
    except (BodyTooLarge, aiohttp.ClientError, OSError, TimeoutError) as error:
        raise JoinDelayed(f"it does not answer: {type(error).__name__}") from error
    if not proves(shown, secret, "join-answer", nonce, status, data):
        raise JoinDelayed(f"it answers HTTP {status} and no proof of the cluster secret")
    if status == 409:
        raise JoinRefused(f"{url}: {data.decode('utf-8', 'replace')}")
    if status != 200:
        raise JoinDelayed(data.decode("utf-8", "replace")[:300])
    try:
        return msgspec.json.decode(data, type=_Answer).node_id
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise JoinDelayed(f"it answers {data[:100]!r}") from error
