"""`ottla partition`: ls, show, move, elect."""

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .options import confirm
from .output import Output, show_bytes, show_document, show_rows, show_table, talk
from .problems import NotFound, UsageProblem
from .progress import Bar, progress
from .sdk import with_client
from .status import CLEAR, REDRAW_S

if TYPE_CHECKING:
    from ottla.client.client import Client
    from ottla.client.moves import Changed, ReplicaState
    from ottla.client.protocol import PartitionMetadata, TopicMetadata

COLUMNS = ("topic", "partition", "leader", "epoch", "replicas", "isr", "adding", "removing", "left")
REPLICA_COLUMNS = ("node", "role", "in_sync", "log_end", "lag", "left")
POLL_S = 0.5

Place = tuple[str, int]


def list_partitions(servers: str, topic: str | None, reassigning: bool, watch: bool, output: Output) -> None:
    """A row per partition; what is left to copy for those that are being added."""

    async def ask(client: "Client") -> list[dict[str, Any]]:
        topics = [known for known in await client.admin.list_topics() if topic in (None, known.name)]
        if topic is not None and not topics:
            raise NotFound(f"there is no topic {topic}", hint="List what there is: ottla topic ls")
        states = await client.admin.replica_states(topics)
        rows = [
            _row(known.name, state, states[known.name, state.partition])
            for known in topics
            for state in known.partitions
        ]
        return [row for row in rows if row["adding"] or row["removing"] or not reassigning]

    while True:
        rows = with_client(servers, ask)
        if watch and sys.stdout.isatty():
            sys.stdout.write(CLEAR)
        shown = [{**row, "left": _left(row)} for row in rows] if output is Output.table else rows
        if reassigning and not rows and output is Output.table:
            talk("Nothing moves.")
        else:
            show_rows(shown, COLUMNS, output)
        if not watch:
            return
        sys.stdout.flush()
        time.sleep(REDRAW_S)


def show_partition(servers: str, topic: str, number: int, output: Output) -> None:
    """A row per replica."""

    async def ask(client: "Client") -> tuple["PartitionMetadata", list["ReplicaState"]]:
        known = await find_topic(client, topic)
        state = _partition_of(known, number)
        return state, (await client.admin.replica_states([known]))[topic, number]

    state, replicas = with_client(servers, ask)
    document = {**_row(topic, state, replicas), "replicas": [_replica(state, replica) for replica in replicas]}
    if output is not Output.table:
        show_document(document, output)
        return
    eligible = "".join(f", eligible {','.join(map(str, state.elr))}" for _ in state.elr[:1])
    last = f", last led by {state.last_known_leader}" if state.last_known_leader is not None else ""
    leader = "no leader" if state.leader is None else f"leader {state.leader}"
    print(f"{topic}-{number}  {leader}, epoch {state.leader_epoch}{eligible}{last}")
    show_table(
        [
            {**row, "left": None if row["lag_bytes"] is None else show_bytes(row["lag_bytes"])}
            for row in document["replicas"]
        ],
        REPLICA_COLUMNS,
    )


def move_partitions(
    servers: str, topic: str, numbers: Sequence[int], to: str | None, *, cancel: bool, watch: bool, dry_run: bool
) -> None:
    """Ask for it; with ``watch``, until it is there."""
    if cancel == (to is not None):
        raise UsageProblem("say where: --to N,N,..., or --cancel")
    target = None if to is None else parse_nodes(to)

    async def work(client: "Client") -> None:
        known = await find_topic(client, topic)
        chosen = [_partition_of(known, number) for number in numbers] if numbers else list(known.partitions)
        for state in chosen:
            before = ",".join(map(str, state.replicas))
            after = "as it was" if target is None else ",".join(map(str, target))
            talk(f"{'Would move' if dry_run else 'Moving'} {topic}-{state.partition}: {before} -> {after}")
        if dry_run:
            return
        moves = {(topic, state.partition): target for state in chosen}
        report(await client.admin.move_partitions(moves))
        if watch:
            await until_moved(client, moves)

    with_client(servers, work)


def elect(
    servers: str,
    topic: str,
    numbers: Sequence[int],
    *,
    unclean: bool,
    leader: int | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Preferred leaders where they are not, or any leader where there is none."""
    if leader is not None and not unclean:
        raise UsageProblem("--to goes with --unclean; the preferred leader is the first of the replicas")

    async def choose(client: "Client") -> list["PartitionMetadata"]:
        known = await find_topic(client, topic)
        chosen = [_partition_of(known, number) for number in numbers] if numbers else list(known.partitions)
        return [state for state in chosen if numbers or _needs(state, unclean)]

    chosen = with_client(servers, choose)
    if not chosen:
        talk("Every partition has a leader." if unclean else "Every partition is led by its preferred replica.")
        return
    names = ", ".join(f"{topic}-{state.partition}" for state in chosen)
    if dry_run:
        talk(f"Would elect leaders of {names}.")
        return
    if unclean:
        confirm(
            f"{names}: a replica that may lack acknowledged records will lead, and what only others have is LOST for "
            "ever. Go on?",
            yes,
        )
    places = [(topic, state.partition) for state in chosen]
    changed = with_client(servers, lambda client: client.admin.elect_leaders(places, unclean=unclean, leader=leader))
    report(changed)
    talk(f"{changed.changed} leaders elected.")


def report(changed: "Changed") -> None:
    """Name what could not be. Raises the last of it."""
    from ottla.client.moves import failure_of

    problems = [failure_of(failure) for failure in changed.failed]
    for problem in problems[:-1]:
        talk(str(problem))
    if problems:
        raise problems[-1]


async def find_topic(client: "Client", name: str) -> "TopicMetadata":
    """Raises NotFound."""
    for topic in await client.admin.list_topics(current=True):
        if topic.name == name:
            return topic
    raise NotFound(f"there is no topic {name}", hint="List what there is: ottla topic ls")


async def until_moved(client: "Client", moves: Mapping[Place, Sequence[int] | None]) -> None:
    """Say how much is left until nothing of it moves any more, be it there or called off meanwhile."""
    with progress("copying", None, in_bytes=True) as bar:
        await _watch_moves(client, moves, bar)
    talk("Done.")


async def _watch_moves(client: "Client", moves: Mapping[Place, Sequence[int] | None], bar: Bar) -> None:
    said = ""
    most = 0
    while True:
        topics = [topic for topic in await client.admin.list_topics() if topic.name in {name for name, _ in moves}]
        pending = {
            (topic.name, state.partition): state
            for topic in topics
            for state in topic.partitions
            if (topic.name, state.partition) in moves and (state.adding or state.removing)
        }
        if not pending:
            return
        states = await client.admin.replica_states(topics)
        known = [r.lag_bytes for place, state in pending.items() for r in _added(state, states[place])]
        left = sum(size for size in known if size is not None)
        more = "" if None not in known else " and more"
        line = f"{len(pending)} of {len(moves)} partitions move; about {show_bytes(left)}{more} left to copy."
        most = max(most, left)
        if bar.drawn:
            bar.to(most - left, total=most, note=f"{len(pending)} of {len(moves)} partitions move{more}")
        elif line != said:
            talk(line)
            said = line
        await asyncio.sleep(POLL_S)


def parse_nodes(text: str) -> list[int]:
    """``1,2,3``. Raises UsageProblem."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise UsageProblem(f"{text!r} is not a list of node numbers like 1,2,3")
    return [int(part) for part in parts]


def _needs(state: "PartitionMetadata", unclean: bool) -> bool:
    return state.leader is None if unclean else state.leader != state.replicas[0]


def _partition_of(topic: "TopicMetadata", number: int) -> "PartitionMetadata":
    if not 0 <= number < len(topic.partitions):
        raise NotFound(f"{topic.name} has partitions 0 to {len(topic.partitions) - 1}, not {number}")
    return topic.partitions[number]


def _added(state: "PartitionMetadata", replicas: Sequence["ReplicaState"]) -> list["ReplicaState"]:
    return [replica for replica in replicas if replica.broker in state.adding and not replica.in_sync]


def _row(topic: str, state: "PartitionMetadata", replicas: Sequence["ReplicaState"]) -> dict[str, Any]:
    return {
        "topic": topic,
        "partition": state.partition,
        "leader": state.leader,
        "epoch": state.leader_epoch,
        "replicas": list(state.replicas),
        "isr": list(state.isr),
        "elr": list(state.elr),
        "adding": list(state.adding),
        "removing": list(state.removing),
        "progress": [
            {"node": replica.broker, "lag": replica.lag, "lag_bytes": replica.lag_bytes}
            for replica in _added(state, replicas)
        ],
    }


def _left(row: Mapping[str, Any]) -> str | None:
    """Of each replica that is being added: ``4: 1.5 MiB``."""
    parts = [
        f"{one['node']}: {'?' if one['lag_bytes'] is None else show_bytes(one['lag_bytes'])}" for one in row["progress"]
    ]
    return " ".join(parts) or None


def _replica(state: "PartitionMetadata", replica: "ReplicaState") -> dict[str, Any]:
    broker = replica.broker
    role = "adding" if broker in state.adding else "removing" if broker in state.removing else "replica"
    return {
        "node": broker,
        "role": "leader" if broker == state.leader else role,
        "in_sync": replica.in_sync,
        "log_end": replica.log_end,
        "lag": replica.lag,
        "lag_bytes": replica.lag_bytes,
    }
