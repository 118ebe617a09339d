"""Our SDK beside other Kafka clients, in turns: ``python -m tests.benchmarks.bench_clients [options]``.

aiokafka and confluent-kafka come with ``pip install .[bench]``; one that is not installed is left out, with a word.
Every client produces (acks=all, idempotent, 64 KB batches, an outcome for each record) and consumes from the beginning,
one record at a time and in batches, in turns, round after round; what is printed are medians and, of the same round,
ratios to the others. "CPU us" is what the client's process spends on a record: on a busy machine that is what to
compare.

Where nodes speak Kafka's protocol (``--kafka HOST:PORT,...`` beside ``--servers``, or ``ottla start --kafka``), all
clients talk to the same three nodes. ``--mock`` gives the other clients librdkafka's mock of brokers instead, which
store nothing, replicate nothing, and forget all but the newest 5 MB of each of their four partitions.
"""

import argparse
import asyncio
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import ottla.client as ottla
from ottla.client.errors import BufferFull
from tests.processes.harness import NODE_COMMAND, Cluster, free_ports

PARTITIONS = 6
BATCH_BYTES = 65_536
LINGER_MS = 5
YIELD_EVERY = 200
BATCH_RECORDS = 500
MOCK_BYTES = 5_000_000
"""Of a topic, with the mock: what surely fits if all goes to one partition."""
RUN_TIMEOUT_S = 120


class Speed(NamedTuple):
    """Of one run."""

    per_second: float
    cpu_us: float


class Subject(Protocol):
    """A client under measurement. Each call makes its own producer or consumer, and counts from its first record."""

    name: str

    async def produce(self, topic: str, value: bytes, count: int) -> Speed: ...
    async def consume(self, topic: str, count: int) -> Speed: ...
    async def consume_batches(self, topic: str, count: int) -> Speed: ...


class Meter:
    """Wall clock and this process's CPU, threads included."""

    def __init__(self) -> None:
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def speed(self, count: int) -> Speed:
        cpu_s = time.process_time() - self._cpu_s
        return Speed(count / (time.perf_counter() - self._wall_s), cpu_s / count * 1e6)


class Ottla:
    name = "ottla"

    def __init__(self, servers: str) -> None:
        self._servers = servers

    async def produce(self, topic: str, value: bytes, count: int) -> Speed:
        async with ottla.connect(self._servers) as client, client.producer(batch_size=BATCH_BYTES) as producer:
            await producer.send(topic, value)
            meter = Meter()
            send = producer.send_nowait
            future: Any = None
            for number in range(count):
                try:
                    future = send(topic, value)
                except BufferFull:
                    future = await producer.send(topic, value)
                if number % YIELD_EVERY == 0:
                    await asyncio.sleep(0)
            await producer.flush()
            future.result()
            return meter.speed(count)

    async def consume(self, topic: str, count: int) -> Speed:
        async with ottla.connect(self._servers) as client, client.consumer(topic) as consumer:
            await anext(consumer)
            meter, left = Meter(), count - 1
            async for _ in consumer:
                left -= 1
                if not left:
                    break
            return meter.speed(count - 1)

    async def consume_batches(self, topic: str, count: int) -> Speed:
        async with ottla.connect(self._servers) as client, client.consumer(topic) as consumer:
            await anext(consumer)
            meter, left = Meter(), count - 1
            async for batch in consumer.batches(BATCH_RECORDS):
                left -= len(batch)
                if left <= 0:
                    break
            return meter.speed(count - 1)


class Aiokafka:
    name = "aiokafka"

    def __init__(self, servers: str) -> None:
        self._servers = servers

    async def produce(self, topic: str, value: bytes, count: int) -> Speed:
        from aiokafka import AIOKafkaProducer

        producer = AIOKafkaProducer(
            bootstrap_servers=self._servers,
            acks="all",
            enable_idempotence=True,
            linger_ms=LINGER_MS,
            max_batch_size=BATCH_BYTES,
        )
        async with producer:
            await producer.send_and_wait(topic, value)
            meter = Meter()
            future: Any = None
            for _ in range(count):
                future = await producer.send(topic, value)
            await producer.flush()
            await future
            return meter.speed(count)

    def _consumer(self, topic: str) -> Any:
        from aiokafka import AIOKafkaConsumer

        return AIOKafkaConsumer(topic, bootstrap_servers=self._servers, auto_offset_reset="earliest")

    async def consume(self, topic: str, count: int) -> Speed:
        async with self._consumer(topic) as consumer:
            await anext(consumer)
            meter, left = Meter(), count - 1
            async for _ in consumer:
                left -= 1
                if not left:
                    break
            return meter.speed(count - 1)

    async def consume_batches(self, topic: str, count: int) -> Speed:
        async with self._consumer(topic) as consumer:
            await anext(consumer)
            meter, left = Meter(), count - 1
            while left > 0:
                found = await consumer.getmany(timeout_ms=200, max_records=BATCH_RECORDS)
                left -= sum(map(len, found.values()))
            return meter.speed(count - 1)


class Confluent:
    """confluent-kafka: blocking, over librdkafka's threads. Produces with a callback for each record."""

    name = "confluent"

    def __init__(self, servers: str, batch_bytes: int = BATCH_BYTES) -> None:
        self._servers = servers
        self._batch_bytes = batch_bytes

    async def produce(self, topic: str, value: bytes, count: int) -> Speed:
        return await asyncio.to_thread(self._produce, topic, value, count)

    def _produce(self, topic: str, value: bytes, count: int) -> Speed:
        from confluent_kafka import Producer

        producer = Producer(
            {
                "bootstrap.servers": self._servers,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": LINGER_MS,
                "batch.size": self._batch_bytes,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        outcomes: list[Any] = []

        def told(error: Any, _: Any) -> None:
            outcomes.append(error)

        producer.produce(topic, value, on_delivery=told)
        producer.flush(30)
        meter = Meter()
        for number in range(count):
            while True:
                try:
                    producer.produce(topic, value, on_delivery=told)
                    break
                except BufferError:
                    producer.poll(0.01)
            if number % YIELD_EVERY == 0:
                producer.poll(0)
        producer.flush(120)
        assert len(outcomes) == count + 1
        assert not any(outcomes)
        return meter.speed(count)

    async def consume(self, topic: str, count: int) -> Speed:
        return await asyncio.to_thread(self._consume, topic, count, 1)

    async def consume_batches(self, topic: str, count: int) -> Speed:
        return await asyncio.to_thread(self._consume, topic, count, BATCH_RECORDS)

    def _consume(self, topic: str, count: int, at_once: int) -> Speed:
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

        settings = {"bootstrap.servers": self._servers, "group.id": f"bench-{os.getpid()}", "enable.auto.commit": False}
        # Else its consumer stands still for a second whenever its queue is full.
        consumer = Consumer({**settings, "fetch.queue.backoff.ms": 2, "queued.min.messages": 1_000_000})
        numbers = consumer.list_topics(topic, 10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in numbers])
        assert consumer.poll(10) is not None
        meter, left = Meter(), count - 1
        if at_once == 1:
            poll = consumer.poll
            while left:
                message = poll(1)
                if message is not None and message.error() is None:
                    left -= 1
        else:
            while left > 0:
                left -= len(consumer.consume(at_once, 0.2))
        speed = meter.speed(count - 1)
        consumer.close()
        return speed


MOCK = """
import sys
from confluent_kafka import Producer
mock = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 3})
print(",".join(f"{broker.host}:{broker.port}" for broker in mock.list_topics(timeout=10).brokers.values()), flush=True)
sys.stdin.read()
"""


@asynccontextmanager
async def mock_brokers() -> AsyncIterator[str]:
    """librdkafka's mock of a cluster, in a process of its own; it keeps 5 MB of each partition."""
    process = subprocess.Popen([sys.executable, "-c", MOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(10)


def nodes_speak_kafka() -> bool:
    """Whether ``ottla start`` has a listener for other clients."""
    shown = subprocess.run([*NODE_COMMAND, "--help"], capture_output=True, text=True, check=True)
    return "--kafka" in shown.stdout


@asynccontextmanager
async def three_nodes(kafka: bool) -> AsyncIterator[tuple[str, str]]:
    """Addresses for the SDK and, where ``kafka``, for the other clients."""
    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(Path(directory), 3)
        ports = free_ports(len(cluster.nodes)) if kafka else []
        for node, port in zip(cluster.nodes, ports, strict=False):
            node._arguments += ["--kafka", f"127.0.0.1:{port}"]
        async with cluster:
            yield ",".join(cluster.servers), ",".join(f"127.0.0.1:{port}" for port in ports)


Measure = Callable[[Subject, str, bytes, int], Awaitable[Speed]]
MEASURES: dict[str, Measure] = {
    "produce": lambda subject, topic, value, count: subject.produce(topic, value, count),
    "consume": lambda subject, topic, value, count: subject.consume(topic, count),
    "consume batches": lambda subject, topic, value, count: subject.consume_batches(topic, count),
}


def topic_name(size: int, number: int, subject: Subject) -> str:
    return f"bench-{size}-{number}-{subject.name}"


async def compare(subjects: list[Subject], size: int, count: int, rounds: int) -> None:
    """Rounds, in turns, each client with a topic of its own in each."""
    results: dict[str, dict[str, list[Speed]]] = {what: {s.name: [] for s in subjects} for what in MEASURES}
    value = bytes(size)
    for number in range(rounds):
        for what, measure in MEASURES.items():
            for subject in subjects[number % len(subjects) :] + subjects[: number % len(subjects)]:
                async with asyncio.timeout(RUN_TIMEOUT_S):
                    speed = await measure(subject, topic_name(size, number, subject), value, count)
                results[what][subject.name].append(speed)
                print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for what, by_name in results.items():
        for name, speeds in by_name.items():
            show(what, size, name, speeds, by_name)


def show(what: str, size: int, name: str, speeds: list[Speed], others: dict[str, list[Speed]]) -> None:
    """A line, with the medians of the ratios of each round."""
    rate = statistics.median(speed.per_second for speed in speeds)
    cpu = statistics.median(speed.cpu_us for speed in speeds)
    ratios = ""
    if name == Ottla.name:
        for other, theirs in others.items():
            if other != name:
                pairs = list(zip(speeds, theirs, strict=True))
                wall = statistics.median(ours.per_second / its.per_second for ours, its in pairs)
                spent = statistics.median(its.cpu_us / ours.cpu_us for ours, its in pairs)
                ratios += f"   {wall:5.2f} x {other} ({spent:.2f} by CPU)"
    print(f"{what:16}{size:6} B  {name:10}{rate:12,.0f} records/s {cpu:8.2f} CPU us{ratios}", flush=True)


def installed(name: str, package: str) -> bool:
    if importlib.util.find_spec(package) is not None:
        return True
    print(f"{name} is not installed: left out. pip install '.[bench]' brings it.", file=sys.stderr)
    return False


async def run(options: argparse.Namespace) -> None:
    """All of it."""
    others: list[type[Aiokafka] | type[Confluent]] = []
    if installed("aiokafka", "aiokafka"):
        others.append(Aiokafka)
    if installed("confluent-kafka", "confluent_kafka"):
        others.append(Confluent)
    async with AsyncExitStack() as stack:
        servers, kafka = options.servers, options.kafka
        mock = options.mock or (servers and not kafka)
        if not servers:
            speak = not mock and nodes_speak_kafka()
            mock = mock or not speak
            servers, kafka = await stack.enter_async_context(three_nodes(speak))
        if mock and others:
            print("the other clients talk to librdkafka's mock brokers, ours to three nodes", file=sys.stderr)
            kafka = await stack.enter_async_context(mock_brokers())
        subjects: list[Subject] = [Ottla(servers), *(other(kafka) for other in others)]
        async with ottla.connect(servers) as client:
            for size in options.sizes:
                for number in range(options.rounds):
                    for subject in subjects[:1] if mock else subjects:
                        topic = topic_name(size, number, subject)
                        await client.admin.create_topic(topic, partitions=PARTITIONS, replication=options.replication)
        for size in options.sizes:
            count = options.count * 100 // max(size, 100)
            await compare(subjects, size, min(count, MOCK_BYTES // (size + 20)) if mock else count, options.rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", default="", help="HTTP addresses of nodes that run; else three are started")
    parser.add_argument("--kafka", default="", help="their addresses for Kafka clients")
    parser.add_argument("--mock", action="store_true", help="mock brokers for the other clients")
    parser.add_argument("--count", type=int, default=200_000, help="records of 100 bytes a run; fewer of longer ones")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--replication", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000])
    options = parser.parse_args()
    try:
        import uvloop
    except ImportError:
        asyncio.run(run(options))
    else:
        uvloop.run(run(options))


if __name__ == "__main__":
    main()
