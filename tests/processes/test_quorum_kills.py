"""Real voters: the leader is killed under proposals in flight, and every promise is kept."""

import pytest

from .quorum_cluster import QuorumCluster
from .quorum_kills import check_promises, kill_leaders

pytestmark = pytest.mark.processes


async def test_every_outcome_is_true_after_kill_nine_of_the_leader(tmp_path):
    async with QuorumCluster(tmp_path) as cluster:
        outcomes, _ = await kill_leaders(cluster, kills=3, in_flight=256)
        await check_promises(cluster, outcomes)
    assert outcomes.failed, "nothing FAILED: the history tested less than it should"
    assert outcomes.unknown_resolved, "nothing was UNKNOWN: likewise"
