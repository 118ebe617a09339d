"""A snapshot over HTTP, from the leader that offered it: ``GET /internal/raft/snapshot`` in pieces (D16).

    request   ?index=...   Range: bytes=<offset>-   X-Ottla-Nonce   X-Ottla-Proof: HMAC-SHA256(secret,
              "snapshot-request" | cluster id | nonce | index | offset), as hex
    answer    206 and at most PIECE_BYTES, Content-Range, X-Ottla-Proof: HMAC-SHA256(secret,
              "snapshot-piece" | nonce | index | offset | length of the whole | piece); 404 once it was replaced

Each piece is proved by itself and bound to the nonce that asked for it; the whole is held against the size and the
CRC of the offer, and then against its own format, before it becomes a file. What has come stays when a request fails,
and the next one goes on from there, also to another leader, for equal states are equal bytes.
"""

import re

import aiohttp
from aiohttp import web

from ottla.log.chance import Chance

from .group_commit import RunBlocking
from .http_body import BodyTooLarge, read_body
from .http_proof import NONCE_HEADER, PROOF_HEADER, prove, proves
from .snapshot import MAX_SNAPSHOT_BYTES, SnapshotId, SnapshotStore

SNAPSHOT_PATH = "/internal/raft/snapshot"
PIECE_BYTES = 1 << 20
PIECE_TIMEOUT_S = 10.0

_RANGE = re.compile(r"bytes=([0-9]{1,18})-", re.ASCII)
_INDEX = re.compile(r"[0-9]{1,19}", re.ASCII)


class TransferFailed(Exception):
    """No piece came this time; the message says why."""


class SnapshotDesk:
    """Serves this node's snapshots to the other nodes."""

    def __init__(self, store: SnapshotStore, secret: bytes | None, cluster_id: str, run_blocking: RunBlocking) -> None:
        self._store = store
        self._secret = secret
        self._cluster_id = cluster_id
        self._run_blocking = run_blocking

    async def handle(self, request: web.Request) -> web.Response:
        """The aiohttp handler of SNAPSHOT_PATH."""
        index, nonce = request.query.get("index", ""), request.headers.get(NONCE_HEADER, "")
        wanted = _RANGE.fullmatch(request.headers.get("Range", ""))
        if wanted is None or _INDEX.fullmatch(index) is None:
            return web.json_response({"code": "OTTLA-BAD-REQUEST"}, status=400)
        offset = int(wanted[1])
        asked = ("snapshot-request", self._cluster_id, nonce, int(index), offset)
        if not proves(request.headers.get(PROOF_HEADER, ""), self._secret, *asked):
            return web.json_response({"code": "OTTLA-WRONG-SECRET"}, status=403)
        found = await self._run_blocking(lambda: self._store.read(int(index), offset, PIECE_BYTES))
        if found is None:
            return web.json_response({"code": "OTTLA-NO-SUCH-SNAPSHOT"}, status=404)
        piece, length = found
        if not piece:
            return web.json_response({"code": "OTTLA-BAD-REQUEST"}, status=416)
        headers = {
            "Content-Range": f"bytes {offset}-{offset + len(piece) - 1}/{length}",
            PROOF_HEADER: prove(self._secret, "snapshot-piece", nonce, int(index), offset, length, piece),
        }
        return web.Response(status=206, body=piece, headers=headers, content_type="application/octet-stream")


class SnapshotFetcher:
    """Fetches what was offered, and remembers how far it came."""

    session: aiohttp.ClientSession  # set before the first fetch

    def __init__(self, secret: bytes | None, cluster_id: str, chance: Chance) -> None:
        self._secret = secret
        self._cluster_id = cluster_id
        self._chance = chance
        self._wanted: SnapshotId | None = None
        self._data = bytearray()

    async def fetch(self, url: str, wanted: SnapshotId) -> bytes:
        """The file's bytes, of the size and with the CRC at their end that were offered; nothing else of them was
        checked. Raises TransferFailed."""
        if wanted != self._wanted:
            self._wanted, self._data = wanted, bytearray()
        if wanted.size > MAX_SNAPSHOT_BYTES:
            raise TransferFailed(f"a snapshot of {wanted.size} bytes; at most {MAX_SNAPSHOT_BYTES} are taken")
        while len(self._data) < wanted.size:
            self._data += await self._piece(url, wanted, len(self._data))
        data = bytes(self._data)
        self._wanted, self._data = None, bytearray()
        if len(data) != wanted.size or data[-4:] != wanted.crc.to_bytes(4, "big"):
            raise TransferFailed("the bytes are not those of the snapshot that was offered")
        return data

    async def _piece(self, url: str, wanted: SnapshotId, offset: int) -> bytes:
        nonce = self._chance.token_bytes(16).hex()
        proof = prove(self._secret, "snapshot-request", self._cluster_id, nonce, wanted.index, offset)
        headers = {"Range": f"bytes={offset}-", NONCE_HEADER: nonce, PROOF_HEADER: proof}
        try:
            async with self.session.get(
                f"{url}{SNAPSHOT_PATH}?index={wanted.index}",
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=PIECE_TIMEOUT_S),
            ) as response:
                if response.status != 206:
                    raise TransferFailed(f"{url} answers HTTP {response.status}")
                piece = await read_body(response.content, PIECE_BYTES)
                shown = response.headers.get(PROOF_HEADER, "")
        except (BodyTooLarge, aiohttp.ClientError, OSError, TimeoutError) as error:
            raise TransferFailed(f"{url}: {type(error).__name__} {error}") from error
        answered = ("snapshot-piece", nonce, wanted.index, offset, wanted.size, piece)
        if not piece or not proves(shown, self._secret, *answered):
            raise TransferFailed(f"{url} did not prove its answer, or has another snapshot of that index")
        return piece
