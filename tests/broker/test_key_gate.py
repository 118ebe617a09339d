"""Compacted topics take no record without a key, and batches keep their order while one of them is looked into."""

import asyncio

import pytest

from ottla.broker.api.key_gate import ON_LOOP_BYTES_MAX, KeyGate
from ottla.broker.api.produce import PendingProduce
from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import ProducePartition, ProduceRequest
from ottla.log.compression import Compression
from ottla.log.model import Offset, ProducerEpoch, ProducerId
from ottla.log.records import BatchBuilder
from ottla.raft.commands import AlterConfigs, ConfigChange

from .small_quorum import TOPIC, A, OneBroker, SmallQuorum


def records(key: bytes | None, *, sequence: int = 0, size: int = 10, codec: Compression = Compression.NONE) -> bytes:
    builder = BatchBuilder(codec)
    builder.append(key, b"v" * size, timestamp_ms=1)
    return builder.build(ProducerId(1), ProducerEpoch(0), sequence, Offset(0), None, False)


def set_policy(broker: OneBroker, policy: str) -> None:
    broker.quorum.decide(AlterConfigs(TOPIC, "", (ConfigChange("cleanup.policy", "set", policy),)))
    broker.manager.apply_image(broker.quorum.image)


@pytest.fixture
async def broker() -> OneBroker:
    quorum = SmallQuorum(A)
    quorum.create("t", TOPIC, A)
    broker = OneBroker(quorum)
    await broker.start()
    set_policy(broker, "compact")
    return broker


class Producer:
    def __init__(self, broker: OneBroker) -> None:
        self.broker = broker
        self.gate = KeyGate(broker.manager.run_blocking)

    def send(self, data: bytes, *, acks: int = -1, timeout_ms: int = 60_000) -> PendingProduce:
        target = ProducePartition(TOPIC, 0, len(data))
        pending = PendingProduce(self.broker.manager, self.gate, ProduceRequest(acks, timeout_ms, (target,)))
        pending.append([memoryview(data)])
        return pending

    async def errors(self, *pending: PendingProduce) -> list[ErrorCode]:
        return [(await one.response()).partitions[0].error for one in pending]


BIG = ON_LOOP_BYTES_MAX + 1


@pytest.mark.parametrize(("size", "codec"), [(10, Compression.NONE), (BIG, Compression.NONE), (10, Compression.ZSTD)])
async def test_a_record_without_a_key_is_refused(broker: OneBroker, size: int, codec: Compression) -> None:
    producer = Producer(broker)
    good = producer.send(records(b"k", size=size, codec=codec))
    bad = producer.send(records(None, sequence=1, size=size, codec=codec))
    assert await producer.errors(good, bad) == [ErrorCode.NONE, ErrorCode.INVALID_RECORD]
    assert broker.replica().log.log_end_offset == 1


async def test_an_ordinary_topic_is_not_looked_into(broker: OneBroker) -> None:
    set_policy(broker, "delete")
    producer = Producer(broker)
    assert await producer.errors(producer.send(records(None, size=BIG))) == [ErrorCode.NONE]


async def test_small_batches_wait_behind_a_large_one(broker: OneBroker) -> None:
    producer = Producer(broker)
    broker.executor.free.clear()
    pending = [producer.send(records(b"k", sequence=n, size=BIG if n == 0 else 10)) for n in range(5)]
    assert broker.replica().log.log_end_offset == 0
    await broker.release()
    assert await producer.errors(*pending) == [ErrorCode.NONE] * 5, "in order, or sequences would not run on"
    assert broker.replica().log.log_end_offset == 5


@pytest.mark.parametrize("acks", [0, 1, -1])
async def test_who_gave_up_is_stored_all_the_same(broker: OneBroker, acks: int) -> None:
    producer = Producer(broker)
    broker.executor.free.clear()
    pending = producer.send(records(b"k", size=BIG), acks=acks, timeout_ms=1)
    if acks:
        assert await producer.errors(pending) == [ErrorCode.REQUEST_TIMED_OUT]
    await broker.release()
    while broker.replica().log.log_end_offset == 0:
        await asyncio.sleep(0)
    assert not len(broker.replica()._acks), "and nobody waits for it any longer"


async def test_whoever_waits_when_the_look_fails_is_told(broker: OneBroker) -> None:
    async def broken(call):  # type: ignore[no-untyped-def]
        await asyncio.sleep(0)
        raise RuntimeError("the executor is gone")

    producer = Producer(broker)
    producer.gate = KeyGate(broken)
    pending = [producer.send(records(b"k", sequence=n, size=BIG)) for n in range(3)]
    assert await producer.errors(*pending) == [ErrorCode.NOT_LEADER_OR_FOLLOWER] * 3
    for task in list(producer.gate._tasks):
        with pytest.raises(RuntimeError):
            await task
