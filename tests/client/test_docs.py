"""Every example of docs/python.md runs, against a real node."""

import ast
import asyncio
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import ottla.client as ottla
from ottla.client.testing import LocalCluster, cluster

TEXT = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
EXAMPLES = re.findall(r"^```(python[^\n]*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
ENDLESS_S = 0.5
"""An example that goes on for ever is looked at for so long."""
SECONDS_MAX = 60


@pytest.fixture(scope="module")
def servers() -> Iterator[LocalCluster]:
    with cluster() as running:
        asyncio.run(_prepare(running))
        yield running


async def _prepare(servers: LocalCluster) -> None:
    async with ottla.connect(servers) as client, client.producer() as producer:
        for topic in ("refunds", "orders"):
            if topic != "orders":  # the first example makes it
                await client.admin.create_topic(topic)
                await producer.send(topic, b"last", partition=0)


@pytest.mark.parametrize(("kind", "code"), EXAMPLES, ids=[f"example-{n}" for n, _ in enumerate(EXAMPLES, 1)])
def test_the_example_runs(kind: str, code: str, servers: LocalCluster) -> None:
    code = re.sub(r'"127\.0\.0\.1:\d+[^"]*"', repr(",".join(servers)), code)
    names: dict[str, object] = {"ottla": ottla}
    if "asyncio.run(" in code or "sync" in kind:
        code = code.replace(
            'create_topic("orders", partitions=6, replication=3)', 'create_topic("orders", partitions=6)'
        )
        exec(compile(code, "docs/python.md", "exec"), names)
        return
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    assert compile(code, "docs/python.md", "exec", flags)
    body = f"async def example(client):\n{textwrap.indent(code, '    ')}"
    exec(compile(body, "docs/python.md", "exec"), names)
    asyncio.run(_run(names["example"], servers, endless="# without end" in code))


async def _run(example: object, servers: LocalCluster, *, endless: bool) -> None:
    async with ottla.connect(servers) as client:
        async with client.producer() as producer:
            await producer.send("orders", b"last", partition=0)
        task = asyncio.create_task(example(client))  # type: ignore[operator]
        done, _ = await asyncio.wait([task], timeout=ENDLESS_S if endless else SECONDS_MAX)
        if endless and not done:
            task.cancel()
            await asyncio.wait([task])
            return
        assert done
        task.result()
