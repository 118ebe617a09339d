"""Every Python example of the README and of docs/ runs, against a real node."""

import ast
import asyncio
import re
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import ottla.client as ottla
from ottla.client.testing import LocalCluster, cluster

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(python[^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(page.relative_to(ROOT).as_posix(), *example, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, example in enumerate(FENCE.findall(page.read_text()), 1)
]
ENDLESS_S = 0.5
"""An example that goes on for ever is looked at for so long."""
SECONDS_MAX = 60


@pytest.fixture(scope="module")
def clusters() -> Iterator[dict[str, LocalCluster]]:
    """By page: what one example leaves behind is for the ones below it."""
    with ExitStack() as stack:

        class Clusters(dict[str, LocalCluster]):
            def __missing__(self, page: str) -> LocalCluster:
                running = self[page] = stack.enter_context(cluster(kafka=True))
                asyncio.run(_prepare(running))
                return running

        yield Clusters()


async def _prepare(servers: LocalCluster) -> None:
    async with ottla.connect(servers) as client, client.producer() as producer:
        for topic in ("refunds", "orders"):
            if topic != "orders":  # the first example makes it
                await client.admin.create_topic(topic)
                await producer.send(topic, b"last", partition=0)


def test_no_example_is_passed_over() -> None:
    assert {example.values[0] for example in EXAMPLES} >= {"README.md", "docs/python.md"}
    for page in PAGES:
        fences = re.findall(r"^ *`{3,}(.*)", page.read_text(), re.MULTILINE)
        marked = [fence for fence in fences if fence.strip().lower().startswith(("py", "ipython"))]
        assert len(marked) == len(FENCE.findall(page.read_text())), page


@pytest.mark.parametrize(("page", "kind", "code"), EXAMPLES)
def test_the_example_runs(page: str, kind: str, code: str, clusters: dict[str, LocalCluster]) -> None:
    servers = clusters[page]
    code = code.replace("partitions=6, replication=3)", "partitions=6)")  # there is one node
    kafka = re.search(r"^(from|import) (confluent_kafka|aiokafka|kafka)\b", code, re.MULTILINE)
    addresses = servers.kafka_servers if kafka else servers
    code = re.sub(r'"127\.0\.0\.1:\d+[^"]*"', repr(",".join(addresses)), code)
    names: dict[str, object] = {"ottla": ottla}
    if "asyncio.run(" in code or "sync" in kind or kafka:
        exec(compile(code, page, "exec"), names)
        return
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    assert compile(code, page, "exec", flags)
    body = f"async def example(client):\n{textwrap.indent(code, '    ')}"
    exec(compile(body, page, "exec"), names)
    makes = 'create_topic("orders"' in code
    asyncio.run(_run(names["example"], servers, endless="# without end" in code, fill=not makes))


async def _run(example: object, servers: LocalCluster, *, endless: bool, fill: bool) -> None:
    async with ottla.connect(servers) as client:
        if fill:
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
