"""What the clients talk to: our nodes, or Apache Kafka's brokers."""

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ottla.client import sync
from tests.processes.harness import Cluster

from .oracle import ApacheKafka

T = TypeVar("T")
_numbers = itertools.count()
SOON_FORGOTTEN_MS = 1_000
"""How long a broker of a target made for it remembers a silent producer."""
TRIES = 300


class Target:
    """A cluster of three, and what a case does to it."""

    ours: bool
    servers: str

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the loop do it that started the nodes, which alone hears of their ends."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def name(self, what: str = "t") -> str:
        """One that nobody else uses."""
        return f"{what}-{os.getpid()}-{next(_numbers)}"

    def topic(self, partitions: int = 2, replicas: int = 3, name: str | None = None, **configs: Any) -> str:
        """A new one, made by none of the clients that are tried."""
        name = name or self.name()
        self._make(name, partitions, replicas, {key.replace("_", "."): str(value) for key, value in configs.items()})
        return name

    def until_known(self, topic: str) -> None:
        """Wait until every broker knows of a topic that was made."""

    def leader(self, topic: str) -> int:
        """Of its first partition."""
        raise NotImplementedError

    def kill(self, number: int) -> None:
        """kill -9."""
        raise NotImplementedError

    def bring_back(self, number: int) -> None:
        """And wait until it serves: the next case needs three."""
        raise NotImplementedError

    def _make(self, topic: str, partitions: int, replicas: int, configs: dict[str, str]) -> None:
        raise NotImplementedError


class OurTarget(Target):
    """Three `ottla start`."""

    ours = True

    def __init__(self, cluster: Cluster, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.cluster = cluster
        self.servers = cluster.kafka_servers

    def leader(self, topic: str) -> int:
        alive = [node.address for node in self.cluster if node.running]
        with sync.connect(alive) as client:
            [found] = [each for each in client.admin.list_topics(current=True) if each.name == topic]
            return int(found.partitions[0].leader or 0)

    def kill(self, number: int) -> None:
        self.run(self.cluster.node(number).kill())

    def bring_back(self, number: int) -> None:
        node = self.cluster.node(number)
        self.run(node.start())
        self.run(node.until_ready())
        self._send_leaders_home()

    def _send_leaders_home(self) -> None:
        """Now, and not by themselves some seconds later, in the midst of the next case: a client may be told that its
        coordinator has moved, and not every call of every client asks again."""
        with sync.connect(self.cluster.servers) as client:
            for _ in range(TRIES):
                topics = client.admin.list_topics(current=True)
                away = [(t.name, p.partition) for t in topics for p in t.partitions if p.leader != p.replicas[0]]
                if not away:
                    return
                client.admin.elect_leaders(away)
                time.sleep(0.1)
        raise AssertionError(f"not led by their preferred replicas: {away}")

    def _make(self, topic: str, partitions: int, replicas: int, configs: dict[str, str]) -> None:
        with sync.connect(self.cluster.servers) as client:
            client.admin.create_topic(topic, partitions=partitions, replication=replicas, config=configs)


class KafkaTarget(Target):
    """Apache Kafka, administered by librdkafka."""

    ours = False

    def __init__(self, cluster: ApacheKafka, loop: asyncio.AbstractEventLoop) -> None:
        from confluent_kafka.admin import AdminClient

        super().__init__(loop)
        self.cluster = cluster
        self.servers = cluster.kafka_servers
        quiet = {"log_level": 0}
        self._admin = AdminClient({"bootstrap.servers": self.servers, **quiet})
        self._each = [AdminClient({"bootstrap.servers": server, **quiet}) for server in self.servers.split(",")]

    def until_known(self, topic: str) -> None:
        """Kafka answers when its controller has it."""
        for admin in self._each:
            while admin.list_topics(topic, timeout=30).topics[topic].error is not None:
                time.sleep(0.05)

    def leader(self, topic: str) -> int:
        return int(self._admin.list_topics(topic, timeout=30).topics[topic].partitions[0].leader)

    def kill(self, number: int) -> None:
        self.run(self.cluster.node(number).kill())

    def bring_back(self, number: int) -> None:
        self.run(self.cluster.node(number).start())
        self.run(self.cluster.node(number).until_ready())

    def _make(self, topic: str, partitions: int, replicas: int, configs: dict[str, str]) -> None:
        from confluent_kafka.admin import NewTopic

        [made] = self._admin.create_topics([NewTopic(topic, partitions, replicas, config=configs)]).values()
        made.result(60)
        self.until_known(topic)


@contextmanager
def running(directory: Path, kafka_jars: Path | None, *, forgetful: bool = False) -> Iterator[Target]:
    """Our nodes, or with a directory of its jars Apache Kafka. ``forgetful``: of producers, soon."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    cluster: Cluster | ApacheKafka
    if kafka_jars is None:
        setting = ("--set", f"producer.id.expiration.ms={SOON_FORGOTTEN_MS}")
        cluster = Cluster(directory, 3, *(setting if forgetful else ()), kafka=True)
    else:
        settings = f"producer.id.expiration.ms={SOON_FORGOTTEN_MS}\nproducer.id.expiration.check.interval.ms=500"
        cluster = ApacheKafka(directory, kafka_jars, more=settings if forgetful else "")
    try:
        asyncio.run_coroutine_threadsafe(cluster.start(), loop).result()
        yield OurTarget(cluster, loop) if isinstance(cluster, Cluster) else KafkaTarget(cluster, loop)
    finally:
        asyncio.run_coroutine_threadsafe(cluster.__aexit__(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
