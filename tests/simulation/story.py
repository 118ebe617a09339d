"""The story of one seed: a cluster forms, is loaded, suffers, is mended, and must have kept its promises."""

import asyncio
from dataclasses import dataclass

from .invariants import Invariants, check_equal_logs
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
    stall_s: float


def run_seed(seed: int, virtual_s: float = 30.0) -> Outcome:
    """One run. In every third the faults begin before the cluster has formed."""
    return simulate(seed, lambda cluster: _story(cluster, virtual_s))


async def _story(cluster: SimulatedCluster, virtual_s: float) -> Summary:
    nemesis, workload = Nemesis(cluster), Workload(cluster)
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
    await cluster.until(cluster.in_sync, "whole again")
    await asyncio.sleep(2)
    stored = await workload.finish()
    await cluster.until(cluster.in_sync, "whole at the end")
    await asyncio.sleep(1.5)  # a follower learns of the last high watermark with its next fetch
    check_equal_logs(cluster)
    report = workload.report
    summary = Summary(
        report.total,
        len(stored.records),
        len(workload.seen.records),
        len(report.errors),
        cluster.faults,
        round(report.longest_stall_s(), 1),
    )
    if report.total < ACKNOWLEDGED_MIN or not cluster.faults:
        raise InvalidRun(str(summary))
    return summary
