"""What several test modules of the client begin with."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.client.fake_broker import FakeCluster

SECONDS_MAX = 20


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    """A cluster whose loop runs elsewhere."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(SECONDS_MAX)

    cluster = FakeCluster(2)
    run(cluster.__aenter__())
    yield cluster
    run(cluster.__aexit__())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
