"""Forming over HTTP: nodes ask each other ``POST /internal/forming`` until forming_rules.py has decided. One
that has no vote in what it finds formed joins it (joining.py).

    request   {"nonce": ..., "asker": ...}      X-Ottla-Proof: HMAC-SHA256(secret, "request" | body), as hex
    answer    FormingAnswer as JSON             X-Ottla-Proof: HMAC-SHA256(secret, "answer" | nonce | body)

The request changes nothing, so an old one may be repeated; the answer is bound to the nonce that asked for it.
Without a secret there are no proofs, and a node without one does not speak with a node that has one.
"""

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import aiohttp
import msgspec
from aiohttp import web

from ottla.log.chance import Chance

from .forming_rules import (
    JOIN_MISMATCH,
    AdoptVoters,
    Decision,
    FormingAnswer,
    Local,
    Observe,
    Refuse,
    Wait,
    WriteVoters,
    decide_forming,
    normalize_join,
    split_address,
    split_text,
)
from .group_commit import RunBlocking
from .http_body import BodyTooLarge, read_body
from .identity import DataDirectory, Identity, Voter, cluster_id_of
from .joining import JoinRefused, join_cluster

log = logging.getLogger(__name__)

FORMING_PATH = "/internal/forming"
JOIN_REFUSED = "OTTLA-JOIN-REFUSED"
PROOF_HEADER = "X-Ottla-Proof"
ASK_TIMEOUT_S = 2.0
POLL_FIRST_S = 0.05
POLL_MAX_S = 1.0
BODY_BYTES_MAX = 64 << 10
OTHER_SECRET = "it has another cluster secret, or none; give each node the same --secret-file"


class FormingRefused(Exception):
    """This node cannot become part of the cluster it was pointed at. ``code`` and message are for the operator."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Formed:
    """What this node is part of. ``voter`` is None for an observer; else its position is the node id."""

    cluster_id: str
    node_id: int
    voters: tuple[Voter, ...]

    @property
    def voter(self) -> Voter | None:
        return next((voter for voter in self.voters if voter.position == self.node_id), None)


class _Ask(msgspec.Struct, frozen=True):
    nonce: str  # fresh for each request
    asker: str  # the asking node's own nonce


class FormingDesk:
    """What this node answers to those who ask, before and after it is formed. Register its route before ``form``."""

    def __init__(self, directory: DataDirectory, join: Sequence[str], secret: bytes | None, chance: Chance) -> None:
        """``join``: host:port of every voter, this one included; empty for a node alone. Raises ValueError."""
        self.directory = directory
        self.secret = secret
        self.chance = chance
        self.local = Local(chance.token_bytes(16).hex(), directory.identity.directory_id, normalize_join(list(join)))
        self.asked = asyncio.Event()  # somebody not heard of before has come up
        self.found_itself = False  # some address of the list has led to this very node
        self._askers: set[str] = set()

    def add_routes(self, app: web.Application) -> None:
        app.router.add_post(FORMING_PATH, self.handle)

    async def handle(self, request: web.Request) -> web.Response:
        """The aiohttp handler of FORMING_PATH."""
        try:
            body = await read_body(request.content, BODY_BYTES_MAX)
        except BodyTooLarge:
            return web.json_response({"code": "OTTLA-BAD-REQUEST"}, status=413)
        if not _proved(self.secret, request.headers.get(PROOF_HEADER, ""), b"request", body):
            return web.json_response({"code": "OTTLA-WRONG-SECRET"}, status=403)
        try:
            ask = msgspec.json.decode(body, type=_Ask)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return web.json_response({"code": "OTTLA-BAD-REQUEST"}, status=400)
        self._note(ask.asker)
        answer = msgspec.json.encode(self.answer())
        proof = _prove(self.secret, b"answer", ask.nonce.encode(), answer)
        return web.Response(body=answer, content_type="application/json", headers={PROOF_HEADER: proof})

    def answer(self) -> FormingAnswer:
        """What this node says of itself now."""
        identity = self.directory.identity
        return FormingAnswer(
            node_nonce=self.local.node_nonce,
            directory_id=identity.directory_id,
            state=identity.state,
            join=self.local.join,
            cluster_id=identity.cluster_id,
            voters=identity.voters,
        )

    def _note(self, asker: str) -> None:
        # A new face wakes the poll out of its back-off, so that forming follows the last node's start at once.
        if asker not in self._askers and len(self._askers) < 1000:
            self._askers.add(asker)
            self.asked.set()


async def form(
    desk: FormingDesk,
    *,
    host: str,
    port: int,
    session: aiohttp.ClientSession,
    run_blocking: RunBlocking,
    report: Callable[[str], None],
) -> Formed:
    """Become part of a cluster, or find in the data directory that this node is. Waits for as long as it takes.

    ``host`` and ``port`` are where a node alone is reached. ``report`` gets a line whenever what it waits for changes.
    Raises FormingRefused.
    """
    identity = desk.directory.identity
    if identity.state == "formed":
        return _remembered(desk.local, identity)
    if not desk.local.join:
        alone = (Voter(1, host, port, identity.directory_id),)
        return await _become(desk, WriteVoters(alone, 1), run_blocking)
    desk.local = replace(desk.local, address=f"{host.lower()}:{port}")
    said: tuple[str, ...] = ()
    poll_s = POLL_FIRST_S
    while True:
        match await _ask_all(desk, session):
            case Observe(voters):
                return await _become(desk, await _join(desk, voters, session, report), run_blocking)
            case Refuse(code, message):
                raise FormingRefused(code, message)
            case (WriteVoters() | AdoptVoters()) as decision:
                return await _become(desk, decision, run_blocking)
            case Wait(waiting_for):
                if waiting_for != said:
                    report("waiting for " + ", ".join(waiting_for) + _absence(desk, host, port))
                    said, poll_s = waiting_for, POLL_FIRST_S
        poll_s = await _pause(desk, poll_s)


def _absence(desk: FormingDesk, host: str, port: int) -> str:
    """A word of warning where no address of the list looks like this node, nor has led to it."""
    if desk.found_itself or (host.lower(), port) in map(split_address, desk.local.join):
        return ""
    return (
        f"; this node listens on {host}:{port}, which --join does not name: it joins as an observer, once there is a "
        "cluster. To make it a voter, put the address at which others reach it into every node's --join"
    )


async def _pause(desk: FormingDesk, poll_s: float) -> float:
    """Wait before asking again, less if somebody came up; how long to wait the next time."""
    await asyncio.sleep(POLL_FIRST_S)
    desk.asked.clear()
    try:
        async with asyncio.timeout(poll_s - POLL_FIRST_S):
            await desk.asked.wait()
        return POLL_FIRST_S
    except TimeoutError:
        return min(poll_s * 1.5, POLL_MAX_S)


def _remembered(local: Local, identity: Identity) -> Formed:
    assert identity.cluster_id is not None
    assert identity.node_id is not None
    if not _is_of(identity, local.join):
        raise FormingRefused(
            JOIN_MISMATCH,
            f"this node's cluster was formed by {','.join(voter.address for voter in identity.voters)}, and it was "
            f"started with --join {','.join(local.join)}. Give it the former list, or none; changing voters is not "
            "there yet in this release.",
        )
    return Formed(identity.cluster_id, identity.node_id, identity.voters)


def _is_of(identity: Identity, join: tuple[str, ...]) -> bool:
    """Whether that list can be of the cluster that this directory belongs to: a voter's is the voters', an observer's
    leads to some of them, or is the one it joined by."""
    voters = {split_text(voter.address) for voter in identity.voters}
    named = {split_text(address) for address in join}
    if not named or named == voters:
        return True
    return not identity.is_voter and (join == identity.joined_by or bool(named & voters))


async def _join(
    desk: FormingDesk, voters: tuple[Voter, ...], session: aiohttp.ClientSession, report: Callable[[str], None]
) -> AdoptVoters:
    """Be given a node id by whichever node answers."""
    addresses = dict.fromkeys((*desk.local.join, *(voter.address for voter in voters)))
    try:
        node_id = await join_cluster(
            session,
            [url_of(address) for address in addresses],
            secret=desk.secret,
            chance=desk.chance,
            cluster_id=cluster_id_of(voters),
            directory_id=desk.local.directory_id,
            report=report,
        )
    except JoinRefused as refused:
        raise FormingRefused(JOIN_REFUSED, str(refused)) from refused
    return AdoptVoters(voters, node_id)


async def _become(desk: FormingDesk, decision: WriteVoters | AdoptVoters, run_blocking: RunBlocking) -> Formed:
    # Durable first, visible to those who ask after: nobody adopts what could still be forgotten.
    cluster_id = cluster_id_of(decision.voters)
    identity = Identity(
        directory_id=desk.directory.identity.directory_id,
        state="formed",
        node_id=decision.node_id,
        cluster_id=cluster_id,
        voters=decision.voters,
        joined_by=() if decision.node_id <= len(decision.voters) else desk.local.join,
    )
    await run_blocking(lambda: desk.directory.save(identity))
    return Formed(cluster_id, decision.node_id, decision.voters)


async def _ask_all(desk: FormingDesk, session: aiohttp.ClientSession) -> Decision:
    answers = await asyncio.gather(*(_ask(desk, session, address) for address in desk.local.join))
    told = [answer for answer in answers if isinstance(answer, FormingAnswer)]
    desk.found_itself = desk.found_itself or any(answer.node_nonce == desk.local.node_nonce for answer in told)
    return decide_forming(desk.local, dict(zip(desk.local.join, answers, strict=True)))


async def _ask(desk: FormingDesk, session: aiohttp.ClientSession, address: str) -> FormingAnswer | str:
    nonce = desk.chance.token_bytes(16).hex()
    body = msgspec.json.encode(_Ask(nonce, desk.local.node_nonce))
    headers = {PROOF_HEADER: _prove(desk.secret, b"request", body)}
    url = url_of(address)
    timeout = aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)
    try:
        async with session.post(url + FORMING_PATH, data=body, headers=headers, timeout=timeout) as response:
            data = await read_body(response.content, BODY_BYTES_MAX)
            if response.status == 403:
                return OTHER_SECRET
            if response.status != 200:
                return f"it answers HTTP {response.status}"
            if not _proved(desk.secret, response.headers.get(PROOF_HEADER, ""), b"answer", nonce.encode(), data):
                return OTHER_SECRET
            return msgspec.json.decode(data, type=FormingAnswer)
    except (aiohttp.ClientError, OSError, TimeoutError):
        return ""
    except (BodyTooLarge, msgspec.MsgspecError, UnicodeDecodeError):
        return "it does not answer as an Ottla node"


def url_of(address: str) -> str:
    """The base URL of ``host:port``."""
    host, _, port = address.rpartition(":")
    return f"http://[{host}]:{port}" if ":" in host else f"http://{address}"


def _prove(secret: bytes | None, *parts: bytes) -> str:
    if secret is None:
        return ""
    transcript = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.new(secret, transcript, hashlib.sha256).hexdigest()


def _proved(secret: bytes | None, proof: str, *parts: bytes) -> bool:
    return hmac.compare_digest(_prove(secret, *parts).encode(), proof.encode("utf-8", "replace"))
