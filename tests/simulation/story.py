"""The story of one seed: a cluster forms, is loaded, suffers, is mended, and must have kept its promises."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from .invariants import Invariants, check_equal_logs, check_producers
from .nemesis import Nemesis
from .workload import Workload
from .world import Outcome, SimulatedCluster, simulate

CHECK_EVERY_S = 0.05
ACKNOWLEDGED_MIN = 50


class InvalidRun(Exception):
    """Too little happened for the run to say anything."""


@dataclass(frozen=True)
class Summary:
    """What a run that held was made of."""

    acknowledged: int
    stored: int
    seen: int
    refused: int
    faults: int
    stall_s: float  # the longest any producer waited for an acknowledgement
    resumed_s: float  # from the last mending until every producer had an acknowledgement
    whole_s: float  # from there until every ISR was full
    topics: int


def run_seed(seed: int, virtual_s: float = 30.0, only: Collection[str] = ()) -> Outcome:
    """One run. In every third the faults begin before the cluster has formed; every fourth has five voters, so that
    a partition can lose what the quorum keeps; every fifth has an observer besides."""
    return simulate(
        seed,
        lambda cluster: _story(cluster, virtual_s, only),
        brokers=5 if seed % 4 == 3 else 3,
        observers=1 if seed % 5 == 4 else 0,
    )


async def _story(cluster: SimulatedCluster, virtual_s: float, only: Collection[str]) -> Summary:
    nemesis, workload = Nemesis(cluster, only), Workload(cluster)
    cluster.loop.every(CHECK_EVERY_S, Invariants(cluster).check)
    cluster.start_all()
    if cluster.seed % 3 == 2:
        await nemesis.run(cluster.loop.now + 8)
        cluster.mend()
    await cluster.until_ready()
    await workload.start()
    await asyncio.sleep(1)
    await nemesis.run(cluster.loop.now + virtual_s)
    cluster.mend()
    mended_at, before = cluster.loop.now, {n: len(acked) for n, acked in workload.report.acknowledged.items()}
    await cluster.until(lambda: workload.progressed(before), "acknowledging again", 10)
    resumed_s = cluster.loop.now - mended_at
    await cluster.until(cluster.in_sync, "whole again")
    whole_s = cluster.loop.now - mended_at
    await asyncio.sleep(2)
    stored = await workload.finish()
    await cluster.until(cluster.in_sync, "whole at the end")
    await asyncio.sleep(1.5)  # a follower learns of the last high watermark with its next fetch
    check_equal_logs(cluster)
    check_producers(cluster)
    report = workload.report
    for refusal in report.errors:
        cluster.loop.trace.note("client", "REFUSED", refusal)
    summary = Summary(
        report.total,
        len(stored.records),
        len(workload.seen.records),
        len(report.errors),
        cluster.faults,
        round(report.longest_stall_s(), 1),
        round(resumed_s, 1),
        round(whole_s, 1),
        len(workload.made),
    )
    if report.total < ACKNOWLEDGED_MIN or not cluster.faults:
        raise InvalidRun(str(summary))
    return summary
