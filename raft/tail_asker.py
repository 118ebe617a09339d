"""The observer's side of tail.py: one question to one voter."""

import aiohttp
import msgspec

from ottla.log.chance import Chance

from .http_body import BodyTooLarge, read_body
from .http_proof import NONCE_HEADER, PROOF_HEADER, prove, proves
from .tail import DECODE, TAIL_BYTES, TAIL_PATH, Diverged, TailAnswer, View
from .wal import EntryId
from .wal_format import MAX_COMMAND_BYTES

WAIT_MS = 500
ANSWER_TIMEOUT_S = 1.5
"""WAIT_MS, and as long for the way there and back as tells a voter that hangs from one that is busy."""
ANSWER_BYTES_MAX = 2 * (TAIL_BYTES + MAX_COMMAND_BYTES)


class TailFailed(Exception):
    """This voter brings us no further; the message says why."""


class TailAsker:
    """Asks through ``session``, which stays the caller's."""

    def __init__(self, session: aiohttp.ClientSession, secret: bytes | None, cluster_id: str, chance: Chance) -> None:
        self._session = session
        self._secret = secret
        self._cluster_id = cluster_id
        self._chance = chance

    async def ask(self, url: str, after: EntryId, known: View) -> TailAnswer:
        """What follows ``after``, as soon as there is any; nothing, after WAIT_MS. Raises TailFailed, Diverged."""
        numbers = (after.index, after.term, known.leader_id, known.term, WAIT_MS)
        nonce = self._chance.token_bytes(16).hex()
        query = dict(zip(("after", "term", "leader", "leader_term", "wait_ms"), map(str, numbers), strict=True))
        query["cluster"] = self._cluster_id
        proof = prove(self._secret, "tail-request", self._cluster_id, nonce, *numbers)
        try:
            async with self._session.get(
                url + TAIL_PATH,
                params=query,
                headers={NONCE_HEADER: nonce, PROOF_HEADER: proof},
                timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S),
            ) as response:
                body = await read_body(response.content, ANSWER_BYTES_MAX)
                shown = response.headers.get(PROOF_HEADER, "")
        except (BodyTooLarge, aiohttp.ClientError, OSError, TimeoutError) as error:
            raise TailFailed(f"{url}: {type(error).__name__} {error}") from error
        if response.status not in (200, 409):
            raise TailFailed(f"{url} answers HTTP {response.status}: {body[:100]!r}")
        if not proves(shown, self._secret, "tail-answer", nonce, response.status, body):
            raise TailFailed(f"{url} did not prove its answer: is it of another cluster, or has it another secret?")
        if response.status == 409:
            raise Diverged(f"{url}: {body.decode('utf-8', 'replace')[:300]}")
        try:
            return DECODE(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise TailFailed(f"{url} answers what is no answer: {error}") from error
