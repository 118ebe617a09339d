"""A log that was damaged on disk: its node sets it aside, fetches it anew, and nothing acknowledged is missing."""

import pytest

from .failover import make_topic, until_in_sync
from .harness import Cluster
from .load import Load, verify

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("clean", [True, False])
async def test_a_damaged_log_is_quarantined_and_fetched_anew(tmp_path, clean):
    async with Cluster(tmp_path) as cluster:
        await make_topic(cluster.servers, "hurt")
        async with Load(cluster.servers, "hurt") as load:
            await load.until_acknowledged(500)
        await until_in_sync(cluster.servers, "hurt")
        node = cluster.node(1)
        if clean:
            await node.stop()
        else:
            await node.kill()
        logs = node.directory / "logs"
        segment = max(logs.glob("hurt-*/*.log"), key=lambda path: path.stat().st_size)
        content = segment.read_bytes()
        assert len(content) > 1000
        segment.write_bytes(content[: len(content) // 2] + content[len(content) // 2 + 100 :])
        await node.start()
        await node.until_ready()
        await until_in_sync(cluster.servers, "hurt")
        (set_aside,) = logs.glob(f"{segment.parent.name}.*-quarantined")
        assert (set_aside / segment.name).stat().st_size == len(content) - 100
        assert segment.read_bytes() == content
        await verify(cluster.servers, "hurt", load.report)
        assert "partition.quarantined" in node.log
