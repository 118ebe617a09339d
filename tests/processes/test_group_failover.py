"""A group whose coordinator is killed goes on, and what it has committed stays."""

import pytest

from .group_failover import check_handled, kill_coordinators
from .harness import Cluster

pytestmark = pytest.mark.processes


async def test_no_acknowledged_commit_is_lost_with_its_coordinator(tmp_path):
    async with Cluster(tmp_path) as cluster:
        _, load, readers = await kill_coordinators(cluster, 1)
        assert await check_handled(readers) >= load.report.total
    assert not load.report.errors
