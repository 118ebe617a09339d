"""One fault in a healthy cluster: how long producers wait (3 s after a death, 6 s after a hang or a cut)."""

import asyncio
from collections.abc import Callable

import pytest

from .workload import Workload
from .world import Outcome, SimulatedCluster, seeded, simulate

SEEDS = range(2)


def stall_after(fault: Callable[[SimulatedCluster, str], object], seed: int) -> Outcome:
    """The longest that any producer waits once ``fault`` has struck a node that the seed chooses."""

    async def story(cluster: SimulatedCluster) -> float:
        workload = Workload(cluster)
        cluster.start_all()
        await cluster.until_ready()
        await workload.start()
        await asyncio.sleep(3)
        fault(cluster, seeded(seed, "victim").choice(cluster.hosts))
        await asyncio.sleep(12)
        cluster.mend()
        await cluster.until(cluster.in_sync, "whole again")
        await workload.finish()
        return workload.report.longest_stall_s()

    return simulate(seed, story)


def hold(outcome: Outcome, seconds: float) -> None:
    assert outcome.error is None, f"{outcome.error!r}\n{outcome.loop.trace.tail()}"
    assert outcome.result < seconds, outcome.loop.trace.tail(200)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_death_stalls_no_producer_for_long(seed: int) -> None:
    hold(stall_after(SimulatedCluster.kill, seed), 3)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_hang_stalls_no_producer_for_long(seed: int) -> None:
    hold(stall_after(SimulatedCluster.pause, seed), 6)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_power_loss_stalls_no_producer_for_long(seed: int) -> None:
    hold(stall_after(SimulatedCluster.power_loss, seed), 6)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cut_off_node_stalls_no_producer_for_long(seed: int) -> None:
    hold(stall_after(lambda cluster, host: cluster.isolate(host, clients_too=seed % 2 == 0), seed), 6)
