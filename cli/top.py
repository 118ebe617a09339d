"""`ottla top`: what the cluster does, looked at again and again."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from .output import Output, show_document
from .sdk import with_client
from .status import describe_all
from .top_figures import GroupFigures, Look, NodeFigures, TopicFigures, compare, read_figures
from .top_view import paint, show_plain

if TYPE_CHECKING:
    import aiohttp

    from ottla.client.admin import Admin, ClusterDescription
    from ottla.client.client import Client
    from ottla.client.protocol import TopicMetadata

TOPICS_MAX = 200
GROUPS_MAX = 50
"""Asked at each look; of more than these the first by name."""
AT_ONCE = 8
SCRAPE_TIMEOUT_S = 2.0
OFFSETS_TIMEOUT_S = 2.0

T = TypeVar("T")
R = TypeVar("R")


def top(servers: str, interval_s: float, iterations: int | None, output: Output) -> None:
    """Until Ctrl-C or so many times: drawn over itself on a terminal, one after another elsewhere. As a document once,
    after an interval, unless told how often."""
    if output is not Output.table and iterations is None:
        iterations = 1

    async def work(client: "Client") -> None:
        documents = _documents(client, interval_s, at_once=output is Output.table)
        shown = 0
        async with contextlib.aclosing(documents), _screen(output) as show:
            async for document in documents:
                show(document)
                shown += 1
                if shown == iterations:
                    return

    with_client(servers, work)


@contextlib.asynccontextmanager
async def _screen(output: Output) -> AsyncIterator[Callable[[dict[str, Any]], None]]:
    """How a document is shown. A terminal is as it was when the block is left, however that is."""
    if output is not Output.table:
        yield lambda document: _show_at_once(document, output)
    elif not sys.stdout.isatty():
        yield show_plain
    else:
        from rich.console import Console
        from rich.live import Live

        console = Console(markup=False, highlight=False, emoji=False)
        with Live(console=console, screen=True, auto_refresh=False) as live:
            yield lambda document: live.update(paint(document, console.height), refresh=True)


def _show_at_once(document: dict[str, Any], output: Output) -> None:
    show_document(document, output)
    sys.stdout.flush()


async def _documents(client: "Client", interval_s: float, *, at_once: bool) -> AsyncGenerator[dict[str, Any], None]:
    """``at_once``: begin with what is there, before there is anything to compare it with."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=SCRAPE_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        before = await _look(client, session)
        if at_once:
            yield compare(None, before)
        while True:
            await asyncio.sleep(interval_s)
            now = await _look(client, session)
            yield compare(before, now)
            before = now


async def _look(client: "Client", session: "aiohttp.ClientSession") -> Look:
    """Raises OttlaError where no node answers; what single nodes do not tell is missing."""
    cluster, topics = await asyncio.gather(client.admin.describe_cluster(), client.admin.list_topics())
    named = sorted((topic for topic in topics if not topic.name.startswith("__")), key=lambda topic: topic.name)
    figures, ends, (groups, unseen) = await asyncio.gather(
        _scrape_all(session, cluster), _ends(client, named[:TOPICS_MAX]), _groups(client.admin)
    )
    return Look(
        client.cluster.clock.monotonic(),
        describe_all(cluster, topics),
        figures,
        ends,
        groups,
        unseen + max(0, len(named) - TOPICS_MAX),
    )


async def _scrape_all(session: "aiohttp.ClientSession", cluster: "ClusterDescription") -> dict[int, NodeFigures]:
    nodes = [node.endpoint for node in cluster.nodes if node.details is not None]
    pages = await _few_at_once(nodes, lambda node: _scrape(session, f"http://{node.host}:{node.port}/metrics"))
    return {node.broker_id: figures for node, figures in zip(nodes, pages, strict=True) if figures is not None}


async def _scrape(session: "aiohttp.ClientSession", url: str) -> NodeFigures | None:
    import aiohttp

    try:
        async with session.get(url) as response:
            return read_figures(await response.text()) if response.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError):
        return None


async def _ends(client: "Client", topics: "list[TopicMetadata]") -> dict[str, TopicFigures]:
    """What of a topic some leader does not tell is not known of the topic."""
    from ottla.client.offsets import list_offsets
    from ottla.client.protocol import LATEST, OffsetResult

    await client.cluster.refresh(topic.name for topic in topics)

    async def ask(topic: "TopicMetadata") -> TopicFigures:
        numbers = [state.partition for state in topic.partitions]
        assert topic.topic_id is not None
        answers = await list_offsets(client.cluster, topic.topic_id, numbers, LATEST, timeout_s=OFFSETS_TIMEOUT_S)
        told = [answer.offset for answer in answers.values() if isinstance(answer, OffsetResult)]
        known = [offset for offset in told if offset is not None]
        return TopicFigures(len(numbers), sum(known) if len(known) == len(numbers) else None)

    return dict(zip([topic.name for topic in topics], await _few_at_once(topics, ask), strict=True))


async def _groups(admin: "Admin") -> tuple[dict[str, GroupFigures], int]:
    """Those that can be asked now: a coordinator that moves is no reason to show nothing."""
    from ottla.client.errors import OttlaError

    try:
        listed = (await admin.list_groups()).groups
    except OttlaError:
        return {}, 0

    async def ask(group: str) -> int | None:
        try:
            return (await admin.describe_group(group)).lag
        except OttlaError:
            return None

    asked = listed[:GROUPS_MAX]
    lags = await _few_at_once([group.group_id for group in asked], ask)
    figures = {
        group.group_id: GroupFigures(group.state, group.members, lag) for group, lag in zip(asked, lags, strict=True)
    }
    return figures, len(listed) - len(asked)


async def _few_at_once(of: Iterable[T], ask: "Callable[[T], Awaitable[R]]") -> list[R]:
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(each: T) -> R:
        async with turn:
            return await ask(each)

    return await asyncio.gather(*(one(each) for each in of))
