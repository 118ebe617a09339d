"""Processes that die while they start, when much depends on them."""

import asyncio
from typing import Any

import pytest

from ottla.broker import run_registration

from .invariants import Invariants
from .loop import PROCESS
from .workload import Workload
from .world import SimulatedCluster, host_of, simulate

CHECK_EVERY_S = 0.05


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Hosts whose next start dies once the quorum has given it an epoch, before that is on the disk, so many times."""
    plan: dict[str, Any] = {"cluster": None, "left": {}}
    write = run_registration.write_run_record

    def write_or_die(*arguments: Any) -> None:
        host = host_of(PROCESS.get())
        if plan["left"].get(host, 0):
            plan["left"][host] -= 1
            plan["cluster"].kill(host)
            raise OSError("the process is gone")
        write(*arguments)

    monkeypatch.setattr(run_registration, "write_run_record", write_or_die)
    return plan


@pytest.mark.parametrize("seed", range(3))
def test_the_one_replica_that_has_everything_may_die_while_it_starts(seed: int, dying: dict[str, Any]) -> None:
    """One node is cut off, so that two hold what is acknowledged; one of them loses power, the other is killed, and
    killed again twice when it comes back. Nothing that was acknowledged may be lost: one power loss is allowed for."""

    async def story(cluster: SimulatedCluster) -> int:
        dying["cluster"], dying["left"] = cluster, {}
        cluster.loop.every(CHECK_EVERY_S, Invariants(cluster).check)
        workload = Workload(cluster)
        cluster.start_all()
        await cluster.until_ready()
        await workload.start()
        await asyncio.sleep(2)
        cluster.isolate("b2")
        cluster.slow_disk("b1", 3.0)  # what b1 has is in its page cache alone
        await asyncio.sleep(6)
        cluster.power_loss("b1")
        cluster.kill("b3")
        cluster.heal()
        cluster.start("b1")
        dying["left"] = {"b3": 2}
        for _ in range(3):
            cluster.start("b3")
            await asyncio.sleep(4)
            if cluster.members["b3"].process is not None:
                break
        assert dying["left"] == {"b3": 0}, "it was to die twice"
        cluster.mend()
        await cluster.until(cluster.in_sync, "whole again", 60)
        await workload.finish()
        return workload.report.total

    outcome = simulate(seed, story)
    assert outcome.error is None, f"{outcome.error!r}\n{outcome.loop.trace.tail(60)}"
    assert outcome.result > 20
