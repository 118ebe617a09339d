"""How a cluster forms: the decision as a table, the identity on disk, and real nodes over HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession, web
from hypothesis import given, strategies as st

from ottla.log.chance import SystemChance
from ottla.log.storage import SystemStorage
from ottla.raft.forming import PROOF_HEADER, Formed, FormingDesk, FormingRefused, form
from ottla.raft.forming_rules import (
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
)
from ottla.raft.identity import DataDirectory, Identity, IdentityRefused, Voter, cluster_id_of, open_directory
from ottla.raft.joining import JOIN_PATH, JoinDelayed, JoinDesk, JoinRefused

from .cluster import CrashingStorage, PowerCut, SeededChance

A, B, C = JOIN = ("a:1", "b:1", "c:1")
VOTERS = (Voter(1, "a", 1, "da"), Voter(2, "b", 1, "db"), Voter(3, "c", 1, "dc"))
CLUSTER = cluster_id_of(VOTERS)


def says(name: str, join: tuple[str, ...] = JOIN, directory: str | None = None) -> FormingAnswer:
    return FormingAnswer(node_nonce=f"n{name}", directory_id=directory or f"d{name}", state="forming", join=join)


def says_formed(name: str, voters: tuple[Voter, ...] = VOTERS, cluster_id: str | None = None) -> FormingAnswer:
    return FormingAnswer(
        node_nonce=f"n{name}",
        directory_id=f"d{name}",
        state="formed",
        cluster_id=cluster_id or cluster_id_of(voters),
        voters=voters,
    )


def local(name: str, join: tuple[str, ...] = JOIN, directory: str | None = None) -> Local:
    return Local(f"n{name}", directory or f"d{name}", join)


NOT_YET = tuple(f"{address} (not a cluster yet)" for address in JOIN)
OTHERS = (Voter(1, "a", 1, "dx"), *VOTERS[1:])


@pytest.mark.parametrize(
    ("me", "answers", "decision"),
    [
        (local("a"), {}, Wait((A, B, C))),
        (local("a"), {A: says("a"), B: "", C: says("c")}, Wait((B,))),
        (local("a"), {A: says("a"), B: "no", C: says("c")}, Wait(("b:1 (no)",))),
        (local("a"), {A: says("a"), B: says("b"), C: says("c")}, WriteVoters(VOTERS, 1)),
        (local("b"), {A: says("a"), B: says("b"), C: says("c")}, Wait(("a:1 (it decides)",))),
        (local("b"), {A: says_formed("a"), B: says("b"), C: ""}, AdoptVoters(VOTERS, 2)),
        (local("c"), {A: "", B: says_formed("b"), C: says("c")}, AdoptVoters(VOTERS, 3)),
        (local("a"), {A: says("a"), B: says_formed("b"), C: ""}, AdoptVoters(VOTERS, 1)),
        # Wiped, or never listed: no vote.
        (local("a", directory="new"), {A: says("a", directory="new"), B: says_formed("b")}, Observe(VOTERS)),
        (local("d"), {A: says_formed("a"), B: says_formed("b"), C: ""}, Observe(VOTERS)),
        (local("d", (A,)), {A: says_formed("a")}, Observe(VOTERS)),
        (local("d"), {A: says("a"), B: says("b"), C: says("c")}, Wait(NOT_YET)),
        (local("d", (A, B)), {A: says("a", (A, B)), B: says("b", (A, B))}, Wait(NOT_YET[:2])),
    ],
)
def test_decisions(me: Local, answers: dict[str, Any], decision: Decision) -> None:
    assert decide_forming(me, answers) == decision


@pytest.mark.parametrize(
    ("me", "answers", "code"),
    [
        (local("d", ("a:1", "d:1")), {A: says_formed("a"), "d:1": says("d")}, "OTTLA-JOIN-MISMATCH"),
        (local("b"), {A: says_formed("a"), C: says_formed("c", OTHERS)}, "OTTLA-JOIN-MISMATCH"),
        (local("b"), {A: says_formed("a", cluster_id="forged")}, "OTTLA-JOIN-MISMATCH"),
        (local("a"), {A: says("a"), B: says("a")}, "OTTLA-JOIN-MISMATCH"),
        (local("a"), {A: says("a"), B: says("b", directory="da")}, "OTTLA-JOIN-MISMATCH"),
        (Local("nd", "dd", ("a:1", "d:1"), "d:1"), {A: says_formed("a")}, "OTTLA-JOIN-MISMATCH"),
        (local("a", JOIN[:2]), {A: says("a", JOIN[:2]), B: says_formed("b")}, "OTTLA-JOIN-MISMATCH"),
    ],
)
def test_refusals(me: Local, answers: dict[str, Any], code: str) -> None:
    decision = decide_forming(me, answers)
    assert isinstance(decision, Refuse)
    assert decision.code == code


def test_another_list_is_waited_for_and_named() -> None:
    decision = decide_forming(local("a"), {A: says("a"), B: says("b", ("a:1", "b:1")), C: says("c")})
    assert decision == Wait(("b:1 (it was started with another list: a:1,b:1)",))


@given(st.sets(st.sampled_from("abc")), st.booleans(), st.sampled_from("abc"))
def test_only_the_first_ever_writes_and_only_when_all_have_spoken(up: set[str], same: bool, me: str) -> None:
    answers = {f"{name}:1": says(name, JOIN if same or name == "a" else (A,)) for name in up}
    decision = decide_forming(local(me), answers)
    assert isinstance(decision, WriteVoters) == (up == {"a", "b", "c"} and same and me == "a")


def test_lists_are_compared_in_one_form() -> None:
    assert normalize_join([" B:2 ", "a:10", "a:9", "b:2", "[::1]:7"]) == ("::1:7", "a:9", "a:10", "b:2")
    for bad in (["a"], ["a:"], [":1"], ["a:0"], ["a:70000"], ["a:x"], [f"h{i}:1" for i in range(8)]):
        with pytest.raises(ValueError):
            normalize_join(bad)


def test_a_cluster_id_names_its_voters() -> None:
    assert len(CLUSTER) == 22
    assert cluster_id_of(tuple(reversed(VOTERS))) == CLUSTER
    assert cluster_id_of(OTHERS) != CLUSTER
    assert not any(cluster_id_of((Voter(1, "h", i, "d"),)).startswith("-") for i in range(300))


# The identity on disk

HOME = Path("/data")


def test_an_identity_is_made_once_and_kept() -> None:
    storage = CrashingStorage()
    with open_directory(HOME, storage, SeededChance(1)) as directory:
        first = directory.identity
        assert first.state == "forming"
        with (
            pytest.raises(IdentityRefused, match="OTTLA-DIRECTORY-LOCKED"),
            open_directory(HOME, storage, SeededChance(2)),
        ):
            pass
    with open_directory(HOME, storage.crash(1), SeededChance(3)) as directory:
        assert directory.identity == first


def test_saving_is_all_or_nothing_at_every_cut() -> None:
    for cut in range(1, 12):
        storage = CrashingStorage(seed=cut, holes=True)
        with open_directory(HOME, storage, SeededChance(1)) as directory:
            before = directory.identity
        formed = Identity(directory_id=before.directory_id, state="formed", node_id=1, cluster_id="c", voters=VOTERS)
        storage.cut_power_at(cut)
        done = False
        with contextlib.suppress(PowerCut):
            DataDirectory(HOME, storage, before).save(formed)
            done = True
        with open_directory(HOME, storage.crash(cut), SeededChance(2)) as directory:
            assert directory.identity == formed if done else directory.identity in (before, formed)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{", "OTTLA-IDENTITY-DAMAGED"),
        (b"\xff\xfe", "OTTLA-IDENTITY-DAMAGED"),
        (b'{"directory_id":"d","state":"formed"}', "OTTLA-IDENTITY-DAMAGED"),
        (b'{"directory_id":"d","format_version":2}', "OTTLA-FORMAT-UNKNOWN"),
    ],
)
def test_an_identity_that_cannot_be_trusted_is_refused(content: bytes, code: str) -> None:
    storage = CrashingStorage()
    storage.mkdir(HOME)
    storage.open(HOME / "identity.json", create=True).append(content)
    with pytest.raises(IdentityRefused, match=code), open_directory(HOME, storage, SeededChance(1)):
        pass


def test_a_log_without_an_identity_is_not_formatted_anew() -> None:
    storage = CrashingStorage()
    storage.mkdir(HOME / "wal")
    with pytest.raises(IdentityRefused, match="OTTLA-IDENTITY-LOST"), open_directory(HOME, storage, SeededChance(1)):
        pass


# Over HTTP


class Starting:
    """A node that is not formed yet."""

    def __init__(self, path: Path, secret: bytes | None) -> None:
        self.path = path
        self.secret = secret
        self.port = 0
        self.desk: FormingDesk | None = None
        self.lines: list[str] = []
        self.given: int | str | None = None  # the node id it gives to those who join, or why it refuses
        self.asked: list[tuple[str, str]] = []
        self._runner: web.AppRunner | None = None

    async def assign(self, cluster_id: str, directory_id: str) -> int:
        if self.given is None:
            raise JoinDelayed("it is starting itself")
        self.asked.append((cluster_id, directory_id))
        if isinstance(self.given, str):
            raise JoinRefused(self.given)
        return self.given

    async def listen(self) -> None:
        async def relay(request: web.Request) -> web.Response:
            if self.desk is None:
                raise web.HTTPServiceUnavailable
            return await self.desk.handle(request)

        app = web.Application()
        joining = JoinDesk(self.secret)
        joining.assign = self.assign
        app.router.add_post("/internal/forming", relay)
        app.router.add_post(JOIN_PATH, joining.handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def form(self, join: list[str], session: ClientSession) -> Formed:
        async def in_place(function: Callable[[], Any]) -> Any:
            return function()

        with open_directory(self.path, SystemStorage(), SystemChance()) as directory:
            self.desk = FormingDesk(directory, join, self.secret, SystemChance())
            return await form(
                self.desk,
                host="127.0.0.1",
                port=self.port,
                session=session,
                run_blocking=in_place,
                report=self.lines.append,
            )

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


@contextlib.asynccontextmanager
async def starting(path: Path, *secrets: bytes | None) -> AsyncIterator[tuple[list[Starting], ClientSession]]:
    nodes = [Starting(path / str(number), secret) for number, secret in enumerate(secrets)]
    async with ClientSession() as session, asyncio.timeout(20):
        for node in nodes:
            await node.listen()
        nodes.sort(key=lambda node: node.port)
        try:
            yield nodes, session
        finally:
            for node in nodes:
                await node.close()


async def test_three_nodes_form_one_cluster_and_remember_it(tmp_path: Path) -> None:
    async with starting(tmp_path, b"s", b"s", b"s") as (nodes, session):
        join = [node.address for node in nodes]
        formed = await asyncio.gather(*(node.form(join, session) for node in nodes))
        assert {one.cluster_id for one in formed} == {cluster_id_of(formed[0].voters)}
        assert [one.node_id for one in formed] == [1, 2, 3]
        assert [voter.address for voter in formed[0].voters] == join
        for node, one in zip(nodes, formed, strict=True):
            assert await node.form(list(reversed(join)), session) == one
            assert await node.form([], session) == one
            with pytest.raises(FormingRefused, match="OTTLA-JOIN-MISMATCH"):
                await node.form(join[:2], session)

        wiped = Starting(tmp_path / "wiped", b"s")
        wiped.port = nodes[2].port
        nodes[2].desk = None
        await nodes[2].close()
        await wiped.listen()
        nodes[0].given = 7
        observer = await wiped.form(join, session)
        assert (observer.node_id, observer.voter, observer.voters) == (7, None, formed[0].voters)
        assert await wiped.form(join[:1], session) == observer, "it is remembered"
        with pytest.raises(FormingRefused, match="OTTLA-JOIN-MISMATCH"):
            await wiped.form(["elsewhere:1"], session)
        await wiped.close()


async def test_a_node_that_is_not_listed_waits_for_the_cluster_and_is_given_an_id(tmp_path: Path) -> None:
    async with starting(tmp_path, b"s", b"s", b"s") as (nodes, session):
        join = [node.address for node in nodes[:2]]
        late, said = nodes[2], asyncio.Event()
        late.lines = Noticed(said)
        joining = asyncio.create_task(late.form(join, session))
        while not any("joins as an observer" in line for line in late.lines):
            await said.wait()
            said.clear()
        formed = await asyncio.gather(*(node.form(join, session) for node in nodes[:2]))
        while not any("it is starting itself" in line for line in late.lines):
            await said.wait()
            said.clear()
        nodes[1].given = 3
        observer = await joining
        assert (observer.node_id, observer.voter, observer.cluster_id) == (3, None, formed[0].cluster_id)
        assert nodes[1].asked == [(observer.cluster_id, late.desk.local.directory_id)]


async def test_a_node_whose_id_is_refused_stops(tmp_path: Path) -> None:
    async with starting(tmp_path, None, None) as (nodes, session):
        await nodes[0].form([nodes[0].address], session)
        nodes[0].given = "there are 1000 already"
        with pytest.raises(FormingRefused, match=r"OTTLA-JOIN-REFUSED.*1000 already"):
            await nodes[1].form([nodes[0].address], session)


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"\xff", b'{"nonce": 1}', bytes(4000)])
async def test_a_request_to_join_that_is_none_gets_a_clear_answer(tmp_path: Path, body: bytes) -> None:
    async with starting(tmp_path, None, b"s") as (nodes, session):
        for node in nodes:
            node.given = 9
            async with session.post(f"http://{node.address}{JOIN_PATH}", data=body) as response:
                assert response.status == (400 if node.secret is None else 403)
            assert node.asked == []


async def test_a_node_alone_forms_alone(tmp_path: Path) -> None:
    async with starting(tmp_path, None) as ([node], session):
        formed = await node.form([], session)
        assert (formed.node_id, [voter.address for voter in formed.voters]) == (1, [node.address])


async def test_what_is_waited_for_is_reported_and_another_secret_does_not_join(tmp_path: Path) -> None:
    async with starting(tmp_path, b"s", b"other") as (nodes, session):
        join = [node.address for node in nodes]
        said = asyncio.Event()
        tasks = []
        for node in nodes:
            node.lines = Noticed(said)
            tasks.append(asyncio.create_task(node.form(join, session)))
        while not any("another cluster secret" in line for node in nodes for line in node.lines):
            await said.wait()
            said.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for node in nodes:
            with open_directory(node.path, SystemStorage(), SystemChance()) as directory:
                assert directory.identity.state == "forming"


class Noticed(list[str]):
    """Says when something was added."""

    def __init__(self, event: asyncio.Event) -> None:
        super().__init__()
        self._event = event

    def append(self, line: str) -> None:
        super().append(line)
        self._event.set()


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"\xff", b'{"nonce": 1}', bytes(60_000)])
async def test_any_request_gets_a_clear_answer(tmp_path: Path, body: bytes) -> None:
    async with starting(tmp_path, None) as ([node], session):
        await node.form([], session)
        url = f"http://{node.address}/internal/forming"
        async with session.post(url, data=body) as response:
            assert response.status == 400
        async with session.post(url, data=body, headers={PROOF_HEADER: "é"}) as response:
            assert response.status == 403
        ask = msgspec.json.encode({"nonce": "n", "asker": "a"})
        async with session.post(url, data=ask) as response:
            assert (await response.json())["state"] == "formed"


async def test_a_request_may_come_in_pieces_and_not_without_end(tmp_path: Path) -> None:
    async def pieces(*data: bytes) -> AsyncIterator[bytes]:
        for piece in data:
            yield piece
            await asyncio.sleep(0)

    async with starting(tmp_path, None) as ([node], session):
        await node.form([], session)
        url = f"http://{node.address}/internal/forming"
        async with session.post(url, data=pieces(b'{"nonce": "n",', b'"asker"', b': "a"}')) as response:
            assert (await response.json())["state"] == "formed"
        for path in ("/internal/forming", JOIN_PATH):
            async with session.post(f"http://{node.address}{path}", data=pieces(*[bytes(10_000)] * 9)) as response:
                assert response.status == 413
