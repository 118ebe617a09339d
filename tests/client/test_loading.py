"""What a node does not load, by name: it is what keeps a start short and an idle node small (decision 0021)."""

import gc
import importlib
import subprocess
import sys

import pytest

from ottla.client.loading import without_collector

NEVER = {"pydantic", "re2", "kio", "tomllib", "sqlite3", "xml"}
OF_COMMANDS = {"typer", "click", "ottla.cli", "uvloop"}
OF_PEOPLE = {f"ottla.broker.http.{name}" for name in ("records", "groups", "events")}
OF_KAFKA = {f"ottla.broker.kafka.{name}" for name in ("door", "connection", "view")}
OF_COLD_REQUESTS = {f"ottla.broker.kafka.{name}" for name in ("groups", "commits", "topics", "configs")}
OF_CLIENTS = {
    f"ottla.client.{name}"
    for name in ("client", "admin", "cluster", "connection", "producer", "consumer", "fetcher", "group_consumer")
}
OF_OBSERVERS = {"ottla.raft.observer"}

FIRST_CLUSTER = """
import sys
from ottla.client.testing import cluster
with cluster():
    print(*sys.modules)
"""
WITH_KAFKA = FIRST_CLUSTER.replace("cluster()", "cluster(kafka=True)")
COMMAND = """
import sys
from ottla.cli.main import run
assert run(["start", "--set", "nonsense"]) == 2  # told once all is loaded
print(*sys.modules)
"""


def loaded_by(program: str) -> set[str]:
    """Modules in memory, and the packages they are of."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = done.stdout.split()
    assert "ottla.broker.node" in modules
    return {*modules, *(module.split(".")[0] for module in modules)}


def test_the_first_cluster_of_a_process_loads_no_more_than_its_node_needs() -> None:
    unwanted = NEVER | OF_COMMANDS | OF_PEOPLE | OF_KAFKA | OF_COLD_REQUESTS | OF_CLIENTS | OF_OBSERVERS
    assert not loaded_by(FIRST_CLUSTER) & unwanted


def test_the_kafka_door_loads_schemas_only_for_who_asks() -> None:
    found = loaded_by(WITH_KAFKA)
    assert found >= OF_KAFKA
    assert not found & (NEVER | OF_COMMANDS | OF_PEOPLE | OF_COLD_REQUESTS | OF_CLIENTS)


def test_a_started_node_has_no_libraries_of_other_commands() -> None:
    assert not loaded_by(COMMAND) & (NEVER | OF_PEOPLE | OF_KAFKA | OF_COLD_REQUESTS | OF_CLIENTS | OF_OBSERVERS)


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_is_afterwards_as_it_was(was_on: bool) -> None:
    (gc.enable if was_on else gc.disable)()
    try:
        with pytest.raises(ModuleNotFoundError), without_collector():
            importlib.import_module("ottla.no_such_module" if not gc.isenabled() else "gc")
        assert gc.isenabled() == was_on
    finally:
        gc.enable()


def test_what_a_program_has_frozen_stays_so() -> None:
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        with without_collector():
            pass
        assert gc.get_freeze_count() == frozen
    finally:
        gc.unfreeze()
