"""The fixture ``ottla_cluster``, for every test of a project that has this package installed.

    async def test_orders(ottla_cluster): ...                # one node

    @pytest.mark.ottla_cluster(3, num_partitions=1)          # or nodes=3
    async def test_failover(ottla_cluster): ...

Loads nothing of ours before a test asks for it.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import LocalCluster

MARKER = "ottla_cluster"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", f"{MARKER}(nodes=1, **settings): the size and settings of the cluster")


def cluster_for(marker: pytest.Mark | None) -> "LocalCluster":
    """What the marker says, or one node. Raises pytest.UsageError, ConfigError."""
    from .testing import cluster

    if marker is None:
        return cluster()
    if len(marker.args) > 1 or (marker.args and "nodes" in marker.kwargs):
        raise pytest.UsageError(f"@pytest.mark.{MARKER} takes the number of nodes, once, and settings by their names")
    return cluster(*marker.args, **marker.kwargs)


@pytest.fixture
def ottla_cluster(request: pytest.FixtureRequest) -> "Iterator[LocalCluster]":
    """A cluster of its own for this test: ``connect(ottla_cluster)``, ``ottla_cluster.kill(1)``."""
    with cluster_for(request.node.get_closest_marker(MARKER)) as running:
        yield running
