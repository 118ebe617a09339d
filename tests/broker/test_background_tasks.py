"""A task that nobody awaits and that fails is told to the node: nothing waits for ever for what it was to do."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ottla.broker.background_tasks import BackgroundTasks
from ottla.broker.isr_keeper import IsrKeeper
from ottla.log.partition_log import PartitionLog

from .small_quorum import TOPIC, A, B, OneBroker, SmallQuorum, a_batch
from .test_flush import a_broker, idle, produce

BUG = RuntimeError("a bug of ours")


def failing(*_: Any, **__: Any) -> Any:
    raise BUG


async def fail() -> None:
    raise BUG


async def test_a_failure_is_told_and_an_end_or_a_cancellation_is_not() -> None:
    told: list[BaseException] = []
    tasks = BackgroundTasks(told.append)
    done = tasks.begin(asyncio.sleep(0), "done")
    waits = tasks.begin(asyncio.sleep(60), "waits")
    await done
    await tasks.stop()
    assert waits.cancelled()
    assert not told
    await asyncio.wait([tasks.begin(fail(), "fails")])
    await idle()
    assert told == [BUG]


async def syncs(broker: OneBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PartitionLog, "sync", failing)
    produce(broker)


async def asks_for_an_isr(broker: OneBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        submit = staticmethod(failing)

    broker.replica().append(memoryview(a_batch()), need_all=False)
    broker.clock.seconds += 60
    IsrKeeper(broker.manager, Broken(), broker.clock, failing).check()


async def opens_a_log(broker: OneBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(broker.manager.logs), "get_or_create", failing)
    quorum: SmallQuorum = broker.quorum
    quorum.create("other", TOPIC[:-1] + "g", A)
    broker.manager.apply_image(quorum.image)


@pytest.mark.parametrize("act", [syncs, asks_for_an_isr, opens_a_log])
async def test_a_bug_behind_the_scenes_ends_the_node(
    act: Callable[[OneBroker, pytest.MonkeyPatch], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = await a_broker(A, B, flush="ack")
    told: list[BaseException] = []
    broker.manager.on_bug = told.append
    await act(broker, monkeypatch)
    await idle()
    assert told == [BUG]
