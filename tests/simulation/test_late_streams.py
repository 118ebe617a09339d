"""What a stream carried may come after what its successor carried: it must count for nothing then."""

import asyncio

from .workload import Workload
from .world import SimulatedCluster, simulate


def test_a_followers_old_stream_does_not_speak_for_it_once_it_has_a_new_one() -> None:
    async def story(cluster: SimulatedCluster) -> None:
        workload = Workload(cluster)
        cluster.start_all()
        await cluster.until_ready()
        await workload.start()
        await asyncio.sleep(1)
        for follower in cluster.hosts:
            for leader in cluster.hosts:
                if leader != follower:
                    cluster.slow_link(follower, leader, 2.0)
                    await asyncio.sleep(1)
                    cluster.strand(follower, leader)
                    await asyncio.sleep(1.5)
                    cluster.heal()
        await workload.finish()
        await asyncio.sleep(6)  # longer than a follower may lag
        await cluster.until(cluster.in_sync, "whole again", 10)

    for seed in range(1):
        outcome = simulate(seed, story)
        assert outcome.error is None, f"{outcome.error!r}\n{outcome.loop.trace.tail()}"
