"""What idle Kafka clients cost a node: ``python -m tests.benchmarks.bench_kafka_idle [connections]``.

Each has asked for versions and metadata once, as a client does, and then says nothing. Must: 1,000 of them at most
50 MB and 1 % of a core more than none.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from ottla.broker.kafka.versions import ApiKey
from tests.broker.kafka.kio_bytes import frame_of, on_the_wire, request_class
from tests.processes.harness import Cluster, NodeProcess

WATCH_S = 20.0


async def connect(port: int) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    metadata = request_class(ApiKey.METADATA, 4)(topics=(), allow_auto_topic_creation=False)
    for entity in (request_class(ApiKey.API_VERSIONS, 0)(), metadata):
        writer.write(on_the_wire(frame_of(entity)))
        await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
    return writer


async def cpu_share(node: NodeProcess) -> float:
    before = node.cpu_seconds()
    await asyncio.sleep(WATCH_S)
    return (node.cpu_seconds() - before) / WATCH_S * 100


async def main() -> None:
    """Print memory and CPU with none, and with all."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    with tempfile.TemporaryDirectory() as directory:
        async with Cluster(Path(directory), 1, "--set", f"connections.max={count + 10}", kafka=True) as cluster:
            node = cluster.node(1)
            assert node.kafka_port is not None
            first = await connect(node.kafka_port)  # loads what the first client needs
            rss, cpu = node.rss_bytes(), await cpu_share(node)
            writers = [await connect(node.kafka_port) for _ in range(count)]
            more_rss, more_cpu = node.rss_bytes(), await cpu_share(node)
            print(f"none           {rss / 1e6:7.1f} MB   {cpu:5.2f} % of a core")
            print(f"{count:6} idle    {more_rss / 1e6:7.1f} MB   {more_cpu:5.2f} % of a core")
            print(f"difference     {(more_rss - rss) / 1e6:7.1f} MB   {more_cpu - cpu:5.2f} %     must <= 50 MB, 1 %")
            for writer in (first, *writers):
                writer.close()


if __name__ == "__main__":
    asyncio.run(main())
