"""Groups on a real node, by the command line and by HTTP; and after a kill -9."""

import asyncio
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from ottla.client.client import connect
from ottla.client.errors import OttlaError, RequestFailed

from .harness import Cluster, NodeProcess

pytestmark = pytest.mark.processes


async def ottla(node: NodeProcess, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "ottla.cli.main",
        *arguments,
        "--servers",
        node.address,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, (out or err).decode()


def get(node: NodeProcess, path: str) -> dict:
    with urllib.request.urlopen(f"http://{node.address}{path}", timeout=20) as answer:
        return json.load(answer)


async def test_a_group_is_set_shown_kept_and_removed(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 1) as cluster:
        node = cluster.node(1)
        async with connect(cluster.servers) as client:
            await client.admin.create_topic("orders", partitions=2)
            async with client.producer() as producer:
                for number in range(5):
                    await producer.send("orders", b"%d" % number, partition=0)
        code, said = await ottla(node, "group", "show", "billing")
        assert (code, said.partition(":")[0]) == (3, "OTTLA-NOT-FOUND")
        code, said = await ottla(node, "group", "seek", "billing", "--to", "start", "-y")
        assert code == 3, "it has committed nothing, so nobody knows where to"
        code, said = await ottla(node, "group", "seek", "billing", "--to", "3", "-y")
        assert code == 2
        seek = ("group", "seek", "billing", "--to", "orders:0:2", "--to", "orders:1:0", "-o", "json")
        code, said = await ottla(node, *seek, "--dry-run")
        assert [row["lag"] for row in json.loads(said)] == [3, 0]
        assert (await ottla(node, *seek, "-y"))[0] == 0
        await node.kill()
        await node.start()
        await node.until_ready()
        code, said = await ottla(node, "group", "show", "billing", "-o", "json")
        shown = json.loads(said)
        assert (code, shown["lag"], shown["state"], shown["members"]) == (0, 3, "Empty", [])
        assert [(p["partition"], p["committed"], p["end"]) for p in shown["partitions"]] == [(0, 2, 5), (1, 0, 0)]
        assert (await ottla(node, "group", "ls"))[1].split("\n")[1].split() == ["billing", "classic", "Empty", "0"]
        assert await asyncio.to_thread(get, node, "/v1/groups") == {
            "groups": [{"group": "billing", "type": "classic", "state": "Empty", "members": 0, "protocol_type": ""}],
            "unanswered": [],
        }
        assert (await asyncio.to_thread(get, node, "/v1/groups/billing"))["lag"] == 3
        with pytest.raises(urllib.error.HTTPError) as missing:
            await asyncio.to_thread(get, node, "/v1/groups/nobody")
        assert missing.value.code == 404
        assert (await ottla(node, "group", "seek", "billing", "--to", "end", "-y"))[0] == 0
        assert (await ottla(node, "group", "show", "billing"))[1].startswith("billing  lag 0  ")
        assert (await ottla(node, "group", "rm", "billing", "-y"))[0] == 0
        assert (await ottla(node, "group", "rm", "billing", "-y"))[0] == 3


async def test_topics_are_consumed_by_pattern(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 1) as cluster:
        node = cluster.node(1)
        async with connect(cluster.servers) as client, client.producer() as producer:
            for topic in ("orders-a", "orders-b", "borders"):
                await client.admin.create_topic(topic, partitions=2)
                await producer.send(topic, topic.encode())
        for more in ((), ("-g", "readers"), ("-f", "-n", "2")):
            code, said = await ottla(node, "consume", "--pattern", "orders-.", *more)
            assert (code, sorted(said.split())) == (0, ["orders-a", "orders-b"])
        assert (await ottla(node, "consume", "--pattern", "orders-.", "-g", "readers", "--from", "end"))[1] == ""
        code, said = await ottla(node, "consume", "--pattern", "nothing")
        assert (code, said.partition(":")[0]) == (3, "OTTLA-UNKNOWN-TOPIC-OR-PARTITION")
        for group in ((), ("-g", "others")):
            code, said = await ottla(node, "consume", "--pattern", "(", *group)
            assert (code, said.partition(":")[0]) == (1, "OTTLA-CONFIG"), said


async def test_the_clusters_own_topic_is_its_own(tmp_path: Path) -> None:
    async with Cluster(tmp_path, 1) as cluster:
        node = cluster.node(1)
        async with connect(cluster.servers) as client:
            with pytest.raises(OttlaError, match="made by the brokers"):
                await client.admin.create_topic("__consumer_offsets")
            await client.admin.create_topic("orders")
            await client.admin.set_offsets("billing", {("orders", 0): 0})
            with pytest.raises(RequestFailed, match="written by coordinators"):
                async with client.producer(delivery_timeout_s=5) as producer:
                    await producer.send("__consumer_offsets", b"v", b"k")
            with pytest.raises(RequestFailed):
                await client.admin.delete_topic("__consumer_offsets")
            with pytest.raises(RequestFailed):
                await client.admin.grow_topic("__consumer_offsets", 12)
        assert "__consumer_offsets" not in (await ottla(node, "topic", "ls"))[1]
        assert "__consumer_offsets" in (await ottla(node, "topic", "ls", "-a"))[1]
