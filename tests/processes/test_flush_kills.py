"""All nodes killed at once under each flush policy, on real processes; the loop with figures is flush_kills.py."""

import random

from .flush_kills import cluster_quarantined, kill_all
from .harness import Cluster
from .load import verify


async def test_nothing_acknowledged_is_lost_with_all_nodes_killed_at_once(tmp_path):
    async with Cluster(tmp_path) as cluster:
        reports, _ = await kill_all(cluster, 2, random.Random(1))
        for name, report in reports.items():
            await verify(cluster.servers, name, report)
            assert not report.errors
    assert not cluster_quarantined(tmp_path)
