"""A cluster of three real nodes, and each client that is installed, for every case."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .registry import EVERYTHING, Known, installed
from .target import Target, running
from .worker import Worker

RESULTS = Path(os.environ["OTTLA_COMPATIBILITY_RESULTS"]) if "OTTLA_COMPATIBILITY_RESULTS" in os.environ else None
"""A file to which every case's outcome is added, for the table."""
ALWAYS = "confluent-kafka"
"""Its cases are in ``make test``; of other clients only what is marked ``every_client``."""
KAFKA = Path(os.environ["OTTLA_COMPATIBILITY_KAFKA"]) if "OTTLA_COMPATIBILITY_KAFKA" in os.environ else None
"""Jars of Apache Kafka, which is the target then."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is slow, and most of what other Python clients do too, is left to ``python -m tests.compatibility``."""
    here = Path(__file__).parent
    for item in items:  # each client's cases in one process
        name = item.callspec.params.get("client") if hasattr(item, "callspec") else None
        if name and here in item.path.parents:
            item.add_marker(pytest.mark.xdist_group(name))
    if EVERYTHING:
        return
    left = [item for item in items if here in item.path.parents and _is_left_out(item)]
    items[:] = [item for item in items if item not in left]
    config.hook.pytest_deselected(items=left)


def _is_left_out(item: pytest.Item) -> bool:
    name = item.callspec.params.get("client") if hasattr(item, "callspec") else None
    other = name is not None and name != ALWAYS and not item.get_closest_marker("every_client")
    return other or item.get_closest_marker("slow") is not None


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with running(tmp_path_factory.mktemp("cluster"), KAFKA) as target:
        yield target


@pytest.fixture(scope="session", params=[client.name for client in installed()] or [None])
def client(
    request: pytest.FixtureRequest, target: Target, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    if request.param is None:
        pytest.skip("no Kafka client is installed")
    worker = start(request.param, target, tmp_path_factory.mktemp(request.param))
    yield worker
    worker.close()


def start(name: str, target: Target, directory: Path) -> Worker:
    """Another process of that client."""
    [known] = [each for each in installed() if each.name == name]
    return start_known(known, target, directory)


def start_known(known: Known, target: Target, directory: Path) -> Worker:
    assert known.command is not None
    return Worker(known.name, known.command, target.servers, directory / "client.log", directory)


def note(**row: Any) -> None:
    """For the table."""
    if RESULTS is not None:
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    client = getattr(item, "callspec", None) and item.callspec.params.get("client")  # type: ignore[attr-defined]
    if client is None or not (report.when == "call" or report.outcome != "passed"):
        return
    worker = item.funcargs.get("client")  # type: ignore[attr-defined]
    note(
        client=client,
        version=getattr(worker, "version", ""),
        case=item.originalname,  # type: ignore[attr-defined]
        params={k: str(v) for k, v in item.callspec.params.items() if k != "client"},  # type: ignore[attr-defined]
        outcome=report.outcome,
        why=str(report.longrepr)[-500:] if report.outcome != "passed" else "",
    )
