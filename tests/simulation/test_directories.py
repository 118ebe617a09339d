"""Nodes with two directories of logs: one dies, the other serves on, and others lead what was in the dead one."""

import asyncio
from pathlib import Path

import pytest

from ottla.broker.run_record import read_run_record

from .workload import Workload
from .world import Outcome, SimulatedCluster, seeded, simulate

DISKS = {"log_dirs": "/disk1,/disk2"}
SEEDS = range(4)


def a_disk_dies(seed: int, *, comes_back: bool) -> Outcome:
    """A disk of some node dies under load; later the node starts again with it, or with a new one."""

    async def story(cluster: SimulatedCluster) -> tuple[float, int]:
        workload, chance = Workload(cluster), seeded(seed, "victim")
        cluster.start_all()
        await cluster.until_ready()
        await workload.start()
        await asyncio.sleep(3)
        victim, disk = chance.choice(cluster.hosts), Path(chance.choice(("/disk1", "/disk2")))
        member = cluster.members[victim]
        member.storage.break_below(disk)
        await asyncio.sleep(6)
        node = member.node
        assert node is not None, "the node lives on"
        assert node.parts is not None
        assert node.parts.logs.failed_count == 1
        record = read_run_record(member.storage, Path(f"/{victim}"))
        assert record is not None
        assert record.failed, "what was not synced may be gone: the next start must know"
        offline = len(node.parts.manager.offline)
        image = node.parts.machine.image
        states = [state for topic in image.topics.values() for state in topic.partitions]
        assert all(state.leader is not None for state in states)
        assert sum(node.parts.node_id in state.offline for state in states) == offline > 0
        stall_s = workload.report.longest_stall_s()
        cluster.kill(victim)
        if comes_back:
            member.storage.repair(disk)
        else:
            member.storage.replace_disk(disk)
        cluster.start(victim)
        await cluster.until(cluster.in_sync, "whole again")
        await workload.finish()
        return stall_s, offline

    return simulate(seed, story, settings=DISKS)


@pytest.mark.parametrize("comes_back", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_disk_that_dies_costs_its_partitions_a_replica_and_nobody_a_record(seed: int, comes_back: bool) -> None:
    outcome = a_disk_dies(seed, comes_back=comes_back)
    assert outcome.error is None, f"{outcome.error!r}\n{outcome.loop.trace.tail()}"
    stall_s, _ = outcome.result
    assert stall_s < 6
