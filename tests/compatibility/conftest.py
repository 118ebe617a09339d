"""A cluster of three real nodes, and each client that is installed, for every case."""

import asyncio
import itertools
import json
import os
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.processes.harness import Cluster

from .registry import Known, installed
from .worker import Worker

T = TypeVar("T")
_numbers = itertools.count()
RESULTS = Path(os.environ["OTTLA_COMPATIBILITY_RESULTS"]) if "OTTLA_COMPATIBILITY_RESULTS" in os.environ else None
"""A file to which every case's outcome is added, for the table."""


class Target:
    """What the clients talk to."""

    def __init__(self, cluster: Cluster | None, servers: str, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.cluster = cluster
        self.servers = servers
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the loop do it that started the nodes, which alone hears of their ends."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def topic(self, what: str = "t") -> str:
        """A name that nobody else uses."""
        return f"{what}-{os.getpid()}-{next(_numbers)}"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Three nodes, or what OTTLA_COMPATIBILITY_SERVERS names: Apache Kafka."""
    other = os.environ.get("OTTLA_COMPATIBILITY_SERVERS")
    if other:
        yield Target(None, other)
        return
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), 3, kafka=True)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    target = Target(cluster, cluster.kafka_servers, loop)
    try:
        target.run(cluster.start())
        yield target
    finally:
        target.run(cluster.__aexit__())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module", params=[client.name for client in installed()] or [None])
def client(
    request: pytest.FixtureRequest, target: Target, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    if request.param is None:
        pytest.skip("no Kafka client is installed")
    [known] = [each for each in installed() if each.name == request.param]
    directory = tmp_path_factory.mktemp(known.name)
    worker = start(known, target, directory)
    yield worker
    worker.close()


def start(known: Known, target: Target, directory: Path) -> Worker:
    assert known.command is not None
    return Worker(known.name, known.command, target.servers, directory / "client.log", directory)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    client = getattr(item, "callspec", None) and item.callspec.params.get("client")  # type: ignore[attr-defined]
    if RESULTS is None or client is None or not (report.when == "call" or report.outcome != "passed"):
        return
    worker = item.funcargs.get("client")  # type: ignore[attr-defined]
    row = {
        "client": client,
        "version": getattr(worker, "version", ""),
        "case": item.originalname,  # type: ignore[attr-defined]
        "with": {k: str(v) for k, v in item.callspec.params.items() if k != "client"},  # type: ignore[attr-defined]
        "outcome": report.outcome,
        "why": str(report.longrepr)[-500:] if report.outcome != "passed" else "",
    }
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")
