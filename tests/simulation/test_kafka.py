"""The Kafka port on virtual time: what it acknowledged is there, under the offset it told, whatever happened since."""

import asyncio

import pytest

from ottla.client.client import connect

from .kafka_client import RETRY_S, KafkaClient, Lost
from .nemesis import Nemesis
from .world import Outcome, SimulatedCluster, Violation, simulate

TOPIC = "t"
FAULTY_S = 12.0
WRITERS = 3
ACKNOWLEDGED_MIN = 30


def run_seed(seed: int) -> Outcome:
    return simulate(seed, _story, kafka=True)


async def _story(cluster: SimulatedCluster) -> int:
    cluster.start_all()
    await cluster.until_ready()
    async with connect(cluster.servers) as sdk:
        await sdk.admin.create_topic(TOPIC, partitions=1, replication=3)
    acknowledged: dict[int, bytes] = {}
    stop = asyncio.Event()
    writers = [asyncio.create_task(_write(cluster, number, acknowledged, stop)) for number in range(WRITERS)]
    await Nemesis(cluster).run(cluster.loop.now + FAULTY_S)
    cluster.mend()
    await cluster.until(cluster.in_sync, "whole again")
    await asyncio.sleep(1)
    stop.set()
    await asyncio.gather(*writers)
    if len(acknowledged) < ACKNOWLEDGED_MIN:
        raise AssertionError(f"only {len(acknowledged)} acknowledged: the run says nothing")
    found = await _read(cluster, max(acknowledged) + 1)
    wrong = {offset: value for offset, value in acknowledged.items() if found.get(offset) != value}
    if wrong:
        raise Violation(f"{len(wrong)} of {len(acknowledged)} are lost or moved: {sorted(wrong.items())[:3]}")
    return len(acknowledged)


async def _write(cluster: SimulatedCluster, number: int, acknowledged: dict[int, bytes], stop: asyncio.Event) -> None:
    client, count = KafkaClient(cluster.kafka_servers, TOPIC), 0
    while not stop.is_set():
        value = b"%d-%d" % (number, count)
        count += 1  # a value whose fate is not known is never sent again
        try:
            offset = await client.write(value, int(cluster.loop.now * 1000))
        except Lost:
            await asyncio.sleep(RETRY_S)
            continue
        if offset in acknowledged:
            raise Violation(f"offset {offset} was given to {acknowledged[offset]!r} and to {value!r}")
        acknowledged[offset] = value
        await asyncio.sleep(RETRY_S / 2)


async def _read(cluster: SimulatedCluster, end: int) -> dict[int, bytes]:
    client = KafkaClient(cluster.kafka_servers, TOPIC)
    for _ in range(50):
        try:
            return await client.read_all(end)
        except Lost:
            await asyncio.sleep(RETRY_S)
    raise AssertionError("nobody serves it")


@pytest.mark.parametrize("seed", range(4))
def test_what_a_kafka_client_was_told_holds(seed: int) -> None:
    outcome = run_seed(seed)
    assert outcome.error is None, f"{outcome.error!r}\n{outcome.loop.trace.tail()}"


def test_one_seed_is_one_history() -> None:
    assert run_seed(1).digest == run_seed(1).digest
