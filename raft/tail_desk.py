"""The voter's side of tail.py."""

import asyncio
import re
from collections.abc import Callable

from aiohttp import web

from .handshake import WRONG_CLUSTER
from .http_proof import NONCE_HEADER, PROOF_HEADER, prove, proves
from .tail import ENCODE, WAIT_MS_MAX, Diverged, TailAnswer, View
from .wal import EntryId

_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_FIELDS = ("after", "term", "leader", "leader_term", "wait_ms")
WAITING_MAX = 2_000
"""Requests that are held at once; more are answered at once."""


class TailDesk:
    """Serves the committed log. ``look(after)`` is what there is to tell now: raises Diverged, None before the log is
    open. Call ``changed`` whenever that may have changed."""

    def __init__(self, look: Callable[[EntryId], TailAnswer | None], secret: bytes | None, cluster_id: str) -> None:
        self._look = look
        self._secret = secret
        self._cluster_id = cluster_id
        self._change = asyncio.Event()
        self._waiting = 0

    def changed(self) -> None:
        """Wake those who wait."""
        if self._waiting:
            self._change.set()
            self._change = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        """The aiohttp handler of TAIL_PATH."""
        if request.query.get("cluster", "") != self._cluster_id:  # without a secret nothing else would tell
            return web.json_response({"code": WRONG_CLUSTER, "detail": f"this is {self._cluster_id}"}, status=403)
        fields = [request.query.get(name, "") for name in _FIELDS]
        if not all(map(_NUMBER.fullmatch, fields)):
            return web.json_response({"code": "OTTLA-BAD-REQUEST"}, status=400)
        numbers, nonce = [int(field) for field in fields], request.headers.get(NONCE_HEADER, "")
        shown = request.headers.get(PROOF_HEADER, "")
        if not proves(shown, self._secret, "tail-request", self._cluster_id, nonce, *numbers):
            return web.json_response({"code": "OTTLA-WRONG-SECRET"}, status=403)
        index, term, leader, leader_term, wait_ms = numbers
        try:
            answer = await self._news(EntryId(index, term), View(leader, leader_term), min(wait_ms, WAIT_MS_MAX) / 1000)
        except Diverged as diverged:
            return self._proved(409, nonce, str(diverged).encode())
        if answer is None:
            return web.json_response({"code": "OTTLA-NOT-READY"}, status=503)
        return self._proved(200, nonce, ENCODE(answer))

    def _proved(self, status: int, nonce: str, body: bytes) -> web.Response:
        headers = {PROOF_HEADER: prove(self._secret, "tail-answer", nonce, status, body)}
        return web.Response(status=status, body=body, headers=headers, content_type="application/octet-stream")

    async def _news(self, after: EntryId, known: View, wait_s: float) -> TailAnswer | None:
        """What is new to one who knows this, as soon as something is; else what there is after ``wait_s``."""
        self._waiting += 1
        try:
            async with asyncio.timeout(wait_s if self._waiting <= WAITING_MAX else 0):
                while True:
                    answer = self._look(after)
                    if answer is None or answer.entries or answer.snapshot is not None or _is_newer(answer.view, known):
                        return answer
                    await self._change.wait()
        except TimeoutError:
            return self._look(after)
        finally:
            self._waiting -= 1


def _is_newer(view: View, known: View) -> bool:
    # One of an older term is no news: whoever asks has heard more than this voter.
    return view.term >= known.term and view != known
