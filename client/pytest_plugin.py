"""The fixture ``ottla_cluster``, for every test of a project that has this package installed.

    async def test_orders(ottla_cluster): ...                # one node

    @pytest.mark.ottla_cluster(nodes=3, num_partitions=1)
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


@pytest.fixture
def ottla_cluster(request: pytest.FixtureRequest) -> "Iterator[LocalCluster]":
    """A cluster of its own for this test: ``connect(ottla_cluster)``, ``ottla_cluster.kill(1)``."""
    from .testing import cluster

    marker = request.node.get_closest_marker(MARKER)
    with cluster(**(marker.kwargs if marker is not None else {})) as running:
        yield running
