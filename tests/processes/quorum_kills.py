"""kill -9 of the quorum's leader under many proposals in flight, again and again, on real processes.

    python -m tests.processes.quorum_kills [--kills 50] [--in-flight 256]

A request that was OK is in the state of every voter, one that FAILED in none; one of UNKNOWN outcome is proposed again
under the same id until it is OK, and is there once. At the end all voters hold the same. Exits non-zero otherwise.
Before every fifth kill the leader hangs until there is another one: what it had not replicated FAILS when it wakes.
"""

import argparse
import asyncio
import random
import shutil
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .quorum_cluster import QuorumCluster, Voter

IN_FLIGHT = 256
OKS_BETWEEN_KILLS = 500
STRAY_EVERY = 50
"""Every so many requests one goes to a voter by chance, which FAILS it where it does not lead."""
HANG_EVERY = 5
"""Before every so many kills the leader is stopped instead, and goes on."""


@dataclass
class Outcomes:
    """What was promised. A request is in ``ok`` once it was OK, in ``failed`` if all its attempts FAILED."""

    ok: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)
    unknown_resolved: int = 0


class Proposers:
    """An async context: keeps ``in_flight`` proposals at whoever leads. ``outcomes`` is complete after it."""

    def __init__(self, cluster: QuorumCluster, in_flight: int = IN_FLIGHT) -> None:
        self.outcomes = Outcomes()
        self._cluster = cluster
        self._in_flight = in_flight
        self._next = 1
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Proposers":
        self._tasks = [asyncio.create_task(self._propose_on()) for _ in range(self._in_flight)]
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _propose_on(self) -> None:
        while not self._stopping:
            request, self._next = self._next, self._next + 1
            term = self._cluster.heard.term
            answer = await self._attempt(request, stray=request % STRAY_EVERY == 0)
            if answer == "failed":
                self.outcomes.failed.add(request)  # and never proposed again: it must not be there
                await self._until_it_may_help(term)
                continue
            if answer == "unknown":
                await self._resolve(request)
            self.outcomes.ok.add(request)

    async def _attempt(self, request: int, *, stray: bool = False) -> str:
        voter = random.choice(self._cluster.voters) if stray else await self._cluster.leader()
        answer = await voter.propose(request)
        self.outcomes.answers[answer] += 1
        return answer

    async def _resolve(self, request: int) -> None:
        """Under the same id until it is OK. That a later attempt FAILED says nothing about the first."""
        while True:
            term = self._cluster.heard.term
            if await self._attempt(request) == "ok":
                self.outcomes.unknown_resolved += 1
                return
            await self._until_it_may_help(term)

    async def _until_it_may_help(self, term: int) -> None:
        """The leader of ``term`` does not take proposals any more, or had no room."""
        leader = await self._cluster.leader()
        if self._cluster.heard.term == term and not leader.running:
            await self._cluster.heard.after(term)
        else:
            await asyncio.sleep(0.01)

    async def until_ok(self, count: int) -> None:
        """Until ``count`` more requests are OK."""
        target = self.outcomes.answers["ok"] + count
        async with asyncio.timeout(60):
            while self.outcomes.answers["ok"] < target:
                await asyncio.sleep(0.002)


async def kill_leaders(cluster: QuorumCluster, kills: int, in_flight: int) -> tuple[Outcomes, list[float]]:
    """The promises made meanwhile, and per kill how long nobody could decide."""
    gaps: list[float] = []
    async with Proposers(cluster, in_flight) as proposers:
        for number in range(kills):
            await proposers.until_ok(OKS_BETWEEN_KILLS)
            if number % HANG_EVERY == 0:
                await cluster.hang_leader()
                await proposers.until_ok(OKS_BETWEEN_KILLS)
            leader, seconds = await cluster.kill_leader()
            gaps.append(seconds)
            await proposers.until_ok(OKS_BETWEEN_KILLS)
            await leader.start()
    return proposers.outcomes, gaps


async def check_promises(cluster: QuorumCluster, outcomes: Outcomes) -> int:
    """Raise AssertionError for whatever is not as promised. Returns how many requests came twice and counted once."""
    known = await cluster.settled()
    assert len({(state["count"], state["digest"]) for state in known}) == 1, f"the voters differ: {known}"
    for voter in cluster:
        check_requests(voter, await voter.ask("requests"), outcomes)
    return int(known[0]["repeated"])


def check_requests(voter: Voter, requests: list[int], outcomes: Outcomes) -> None:
    """What one voter has applied against what was promised."""
    there = set(requests)
    assert len(requests) == len(there), f"voter {voter.number}: {len(requests) - len(there)} requests count twice"
    missing = outcomes.ok - there
    assert not missing, f"voter {voter.number}: {len(missing)} were OK and are not there, as {sorted(missing)[:5]}"
    ghosts = outcomes.failed & there
    assert not ghosts, f"voter {voter.number}: {len(ghosts)} FAILED and are there, as {sorted(ghosts)[:5]}"
    strangers = there - outcomes.ok
    assert not strangers, f"voter {voter.number}: nobody asked for {sorted(strangers)[:5]}"


def describe_gaps(gaps: list[float]) -> str:
    """Median, 99th percentile and worst."""
    ordered = sorted(gaps)
    p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return f"median {statistics.median(ordered):.2f} s, p99 {p99:.2f} s, max {ordered[-1]:.2f} s"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--in-flight", type=int, default=IN_FLIGHT)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="ottla-kills-"))
    began = time.monotonic()
    try:
        async with QuorumCluster(directory) as cluster:
            outcomes, gaps = await kill_leaders(cluster, options.kills, options.in_flight)
            repeated = await check_promises(cluster, outcomes)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(
        f"{options.kills} kills of the leader under {options.in_flight} proposals in flight, "
        f"{time.monotonic() - began:.0f} s: {len(outcomes.ok)} OK and there, {len(outcomes.failed)} FAILED and not, "
        f"{outcomes.unknown_resolved} UNKNOWN resolved, {repeated} of them committed twice and applied once"
    )
    print(f"  until a new leader could decide: {describe_gaps(gaps)}")


if __name__ == "__main__":
    asyncio.run(main())
