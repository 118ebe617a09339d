"""Voters of a quorum as processes (quorum_node.py), seen from their parent."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .harness import free_ports

WAIT_S = 60.0
"""Never reached but by a hang."""
LINE_BYTES_MAX = 64 << 20
ROOT = Path(__file__).parents[2]


class Voter:
    """One process, over its restarts."""

    def __init__(self, number: int, directory: Path, addresses: list[str], heard: "Heard", topics: int) -> None:
        self.number = number
        self.directory = directory
        self._addresses = addresses
        self._heard = heard
        self._topics = topics
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._alive = False  # until the end of what it says: from then on no answer can come
        self._answers: dict[str, asyncio.Queue[Any]] = {}
        self._proposals: dict[int, asyncio.Future[str]] = {}

    @property
    def running(self) -> bool:
        return self._alive

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> float:
        """Start it and wait until it takes part; how long that took."""
        assert not self.running
        self._ready.clear()
        began = time.monotonic()
        with self.directory.with_suffix(".log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.processes.quorum_node", str(self.number), str(self.directory)),
                *(",".join(self._addresses), str(self._topics)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=LINE_BYTES_MAX,
                cwd=ROOT,
            )
        self._alive = True
        self._reading = asyncio.create_task(self._read(self._process))
        async with asyncio.timeout(WAIT_S):
            await self._ready.wait()
        return time.monotonic() - began

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            word, _, rest = line.decode().rstrip("\n").partition(" ")
            match word:
                case "ready":
                    self._ready.set()
                case "leads":
                    self._heard.leads(self, int(rest))
                case "ok" | "failed" | "unknown":
                    self._proposals.pop(int(rest.split()[0])).set_result(word)
                case _:
                    self._answers.setdefault(word, asyncio.Queue()).put_nowait(json.loads(rest))
        self._alive = False
        for future in self._proposals.values():
            future.set_result("unknown")  # it died owing an answer
        self._proposals.clear()

    def _say(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        if not self._process.stdin.is_closing():
            self._process.stdin.write(line.encode() + b"\n")

    async def ask(self, line: str, timeout_s: float = WAIT_S) -> Any:
        """Send a line whose answer begins with the same word; that answer."""
        self._say(line)
        async with asyncio.timeout(timeout_s):
            return await self._answers.setdefault(line.partition(" ")[0], asyncio.Queue()).get()

    async def propose(self, request: int) -> str:
        """`ok`, `failed` or `unknown`; the last also where it dies before it answers."""
        if not self.running:
            return "failed"
        future = self._proposals[request] = asyncio.get_running_loop().create_future()
        self._say(f"propose {request}")
        return await future

    async def kill(self) -> None:
        """kill -9, and wait until it is gone and all that it said is read."""
        assert self._process is not None
        assert self._reading is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reading

    def rss_bytes(self) -> int:
        """What it has in memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Heard:
    """Who said last that it leads."""

    def __init__(self) -> None:
        self.leader: Voter | None = None
        self.term = 0
        self._changed = asyncio.Event()

    def leads(self, voter: Voter, term: int) -> None:
        if term > self.term:
            self.leader, self.term = voter, term
            self._changed.set()

    async def after(self, term: int) -> Voter:
        """The leader of a later term than ``term``."""
        async with asyncio.timeout(WAIT_S):
            while self.term <= term:
                self._changed.clear()
                await self._changed.wait()
        assert self.leader is not None
        return self.leader


class QuorumCluster:
    """Some voters on loopback. An async context: ends whatever still runs."""

    def __init__(self, directory: Path, size: int = 3, *, topics: int = 0) -> None:
        """``topics``: how large their snapshots are (quorum_node.py)."""
        addresses = [f"127.0.0.1:{port}" for port in free_ports(size)]
        self.heard = Heard()
        self.voters = [
            Voter(number, directory / f"q{number}", addresses, self.heard, topics) for number in range(1, size + 1)
        ]

    def __iter__(self) -> Iterator[Voter]:
        return iter(self.voters)

    async def leader(self) -> Voter:
        """Who leads now."""
        return await self.heard.after(self.heard.term - 1 if self.heard.term else 0)

    async def kill_leader(self) -> tuple[Voter, float]:
        """kill -9 the leader; it, and how long there was none that may decide."""
        leader, term = await self.leader(), self.heard.term
        began = time.monotonic()
        await leader.kill()
        await self.heard.after(term)
        return leader, time.monotonic() - began

    async def hang_leader(self) -> None:
        """Stop the leader until another one may decide, then let it go on."""
        leader, term = await self.leader(), self.heard.term
        os.kill(leader.pid, signal.SIGSTOP)
        try:
            await self.heard.after(term)
        finally:
            os.kill(leader.pid, signal.SIGCONT)

    async def settled(self) -> list[dict[str, Any]]:
        """What each knows, once all have applied the same."""
        async with asyncio.timeout(WAIT_S):
            while True:
                known = [await voter.ask("status") for voter in self]
                if len({(s["applied"], s["last"]) for s in known}) == 1 and known[0]["applied"] == known[0]["last"]:
                    return known
                await asyncio.sleep(0.05)

    async def __aenter__(self) -> "QuorumCluster":
        try:
            await asyncio.gather(*(voter.start() for voter in self))
            await self.leader()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        for voter in self:
            if voter.running:
                await voter.kill()
