"""Flush policies: what counts only once it is durable, who waits for that, and the word that survives a power cut."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from ottla.broker.api.key_gate import KeyGate
from ottla.broker.api.produce import PendingProduce
from ottla.broker.replica_fetcher import ReplicaFetcher
from ottla.broker.replica_session import ReplicaSession
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import FetchPartition, FetchResult, ProducePartition, ProduceRequest, ReplicaFetchRequest
from ottla.log.flush_promise import PROMISE_FILE
from ottla.log.model import LeaderEpoch
from ottla.raft.commands import AlterConfigs, ConfigChange

from ..simulation.crashing_storage import CrashingStorage
from .small_quorum import TOPIC, A, B, OneBroker, SmallQuorum, a_batch
from .test_replica_fetcher import FakeLink, leaders_batch, named

PROMISE = Path("/data/logs/t-0") / PROMISE_FILE


def set_config(broker: OneBroker, **configs: str | None) -> None:
    changes = tuple(
        ConfigChange(key.replace("_", "."), "set" if value else "delete", value or "") for key, value in configs.items()
    )
    broker.quorum.decide(AlterConfigs(TOPIC, "", changes))
    broker.manager.apply_image(broker.quorum.image)


async def a_broker(*replicas, **configs: str) -> OneBroker:  # type: ignore[no-untyped-def]
    quorum = SmallQuorum(*(replicas or (A,)))
    quorum.create("t", TOPIC, *(replicas or (A,)))
    broker = OneBroker(quorum)
    await broker.start()
    set_config(broker, **configs)
    await idle()
    return broker


async def idle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def produce(broker: OneBroker, acks: int = -1) -> asyncio.Task:
    data = a_batch()
    request = ProduceRequest(acks, 60_000, (ProducePartition(TOPIC, 0, len(data)),))
    pending = PendingProduce(broker.manager, KeyGate(broker.manager.run_blocking), request)
    pending.append([memoryview(data)])
    return asyncio.create_task(pending.response())


@pytest.mark.parametrize("config", [{"flush": "ack"}, {"flush_messages": "1"}])
@pytest.mark.parametrize("acks", [1, -1])
async def test_an_acknowledgement_waits_for_the_sync(config: dict[str, str], acks: int) -> None:
    broker = await a_broker(**config)
    broker.executor.free.clear()
    task = produce(broker, acks)
    await idle()
    assert not task.done()
    assert broker.replica().high_watermark == 0, "nor does a consumer see it"
    await broker.release()
    (result,) = (await task).partitions
    assert result.error is ErrorCode.NONE
    assert broker.replica().log.recovery_point == 1
    assert broker.replica().high_watermark == 1


@pytest.mark.parametrize("acks", [1, -1])
async def test_by_default_nobody_waits(acks: int) -> None:
    broker = await a_broker()
    broker.executor.free.clear()
    (result,) = (await produce(broker, acks)).partitions
    assert (result.error, broker.replica().log.recovery_point) == (ErrorCode.NONE, 0)


async def test_what_comes_during_a_sync_shares_the_next() -> None:
    broker = await a_broker(flush="ack")
    broker.executor.free.clear()
    calls = 0
    sync = broker.replica().log.sync

    def counted() -> int:
        nonlocal calls
        calls += 1
        return sync()

    broker.replica().log.sync = counted  # type: ignore[method-assign]
    tasks = [produce(broker)]
    await idle()
    tasks += [produce(broker) for _ in range(10)]
    await broker.release()
    await asyncio.gather(*tasks)
    assert calls == 2


async def test_the_leaders_own_copy_counts_once_durable_as_the_followers_do() -> None:
    broker = await a_broker(A, B, flush="ack")
    broker.executor.free.clear()
    task = produce(broker)
    session = ReplicaSession(B, broker.quorum.epochs[B], broker.manager.find, broker.clock)
    epoch = broker.replica().leader_epoch
    for offset in (0, 1):
        session.receive(ReplicaFetchRequest(0, 1, (FetchPartition(TOPIC, 0, offset, epoch),)))
    await idle()
    assert not task.done(), "the follower has it, and our disk has not"
    await broker.release()
    assert (await task).partitions[0].error is ErrorCode.NONE


async def test_a_follower_acknowledges_once_durable() -> None:
    quorum = SmallQuorum(A, B)
    quorum.create("t", TOPIC, B, A)
    broker = OneBroker(quorum)
    link = FakeLink()

    async def connect() -> FakeLink:
        return link

    await broker.start()
    set_config(broker, flush="ack")
    fetcher = ReplicaFetcher(B, connect, wait_s_max=60, partition_bytes_max=1 << 20)  # type: ignore[arg-type]
    fetcher.follow(broker.replica())
    assert named(await link.next()) == {"T": 0}
    await idle()
    broker.executor.free.clear()
    data = leaders_batch(0)
    link.answer(
        FetchResult(TOPIC, 0, ErrorCode.NONE, size=len(data), high_watermark=0, leader_epoch=LeaderEpoch(0)), body=data
    )
    assert named(await link.next()) == {}, "the session goes on for the other partitions"
    assert broker.replica().log.log_end_offset == 1
    await broker.release()
    assert named(await link.next()) == {"T": 1}
    await fetcher.stop()


async def test_records_and_time_are_limits_too() -> None:
    broker = await a_broker(flush_messages="3")
    for expected in (0, 0, 3, 3, 3, 6):
        await produce(broker)
        await idle()
        assert broker.replica().log.recovery_point == expected
    set_config(broker, flush_messages=None, flush_ms="1")
    await produce(broker)
    while broker.replica().log.recovery_point < 7:
        await asyncio.sleep(0.001)


async def test_the_word_is_given_after_a_sync_and_taken_back_before_it_is_broken() -> None:
    broker = await a_broker()
    await produce(broker)
    assert not broker.storage.exists(PROMISE)
    broker.executor.free.clear()
    set_config(broker, flush="ack")
    await idle()
    assert not broker.storage.exists(PROMISE), "the record from before is not durable"
    await broker.release()
    await idle()
    assert broker.replica().log.recovery_point == 1
    assert broker.storage.exists(PROMISE)
    broker.executor.free.clear()
    set_config(broker, flush="os")
    task = produce(broker)
    await idle()
    assert not task.done(), "the word still stands"
    await broker.release()
    assert (await task).partitions[0].error is ErrorCode.NONE
    await idle()
    assert not broker.storage.exists(PROMISE)


@pytest.mark.parametrize("seed", range(30))
async def test_a_power_cut_takes_nothing_that_was_acknowledged(seed: int) -> None:
    quorum = SmallQuorum(A)
    quorum.create("t", TOPIC, A)
    storage = CrashingStorage(seed, holes=True)
    storage.mkdir(Path("/data"))
    storage.sync_directory(Path("/"))  # as a node does when it formats its directory
    broker = OneBroker(quorum, storage)
    await broker.start()
    await asyncio.gather(*(produce(broker) for _ in range(seed % 3)))
    set_config(broker, flush="ack")
    await idle()
    done = [produce(broker) for _ in range(1 + seed % 5)]
    if seed % 2:
        await asyncio.gather(*done)
    else:
        await asyncio.sleep(0)
    acknowledged = seed % 3 + sum(task.done() for task in done)
    broker.manager.deactivate()
    again = OneBroker(quorum, broker.storage.crash(seed))
    await again.start()
    assert again.replica().log.survives_power_loss
    assert again.replica().log.log_end_offset >= acknowledged
    for task in done:
        task.cancel()


async def test_a_failed_sync_acknowledges_nobody_and_is_noticed_at_once() -> None:
    broker = await a_broker(flush="ack")
    flusher = asyncio.create_task(broker.logs.run_flusher(broker.executor))
    await idle()
    broker.storage.fail("sync")
    task = produce(broker)
    await flusher
    assert broker.logs.failed is not None
    assert not task.done()
    assert broker.replica().high_watermark == 0
    task.cancel()


async def test_a_sync_that_began_before_the_change_gives_no_word() -> None:
    broker = await a_broker()
    log = broker.replica().log
    await produce(broker)
    log.sync()
    await produce(broker)  # acknowledged, and not durable
    log.config = msgspec.structs.replace(log.config, flush="ack")
    log.settle_flush()
    assert not log.survives_power_loss
    log.sync()
    log.settle_flush()
    assert log.survives_power_loss
