"""`ottla rebalance`: propose moves that make nodes hold and lead evenly, and carry them out."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ottla.client.errors import OttlaError

from .options import confirm
from .output import Output, counted, show_rows, talk
from .partitions import report, until_moved
from .sdk import with_client

if TYPE_CHECKING:
    from ottla.client.client import Client
    from ottla.client.protocol import BrokerEndpoint, PartitionMetadata, TopicMetadata
    from ottla.client.rebalancing import Move, Place, Racks, Replicas

COLUMNS = ("topic", "partition", "before", "after", "copies")


def rebalance(servers: str, *, watch: bool, dry_run: bool, yes: bool, output: Output) -> None:
    """Show the plan, ask, and have it done."""
    from ottla.client.rebalancing import plan

    async def ask(client: "Client") -> "list[Move]":
        topics = await client.admin.list_topics(current=True)
        cluster = await client.admin.describe_cluster()
        partitions, racks = replicas_of(topics), racks_of(node.endpoint for node in cluster.nodes)
        away = sorted({broker for replicas in partitions.values() for broker in replicas if broker not in racks})
        if away:
            raise OttlaError(
                f"n{away[0]} holds replicas, and is drained or not there.",
                code="OTTLA-NODE-AWAY",
                hint=f"Bring it back (ottla node undrain {away[0]}), or else: ottla node decommission {away[0]}.",
            )
        return plan(partitions, racks)

    moves = with_client(servers, ask)
    if not moves:
        talk("All is even; nothing to move.")
        return
    show_rows([row_of(move) for move in moves], COLUMNS, output)
    copies = sum(len(move.adds) for move in moves)
    summary = f"{counted(len(moves), 'partition')} to change, {counted(copies, 'replica')} to copy"
    if dry_run:
        talk(f"{summary}. Nothing was done.")
        return
    confirm(f"{summary}. Go on?", yes)
    with_client(servers, lambda client: carry_out(client, moves, watch=watch))


async def carry_out(client: "Client", moves: "Sequence[Move]", *, watch: bool) -> None:
    """Ask for all of it; leaderships follow by themselves, at once where nothing is copied."""
    asked = {move.place: list(move.after) for move in moves}
    report(await client.admin.move_partitions(asked))
    in_place = [move.place for move in moves if not move.adds]
    if in_place:
        await client.admin.elect_leaders(in_place)
    if watch:
        await until_moved(client, asked)
        await client.admin.elect_leaders(list(asked))
    else:
        talk("It goes on by itself: ottla partition ls --reassigning")


def racks_of(endpoints: "Iterable[BrokerEndpoint]") -> "Racks":
    """Nodes that live and may be given replicas."""
    return {node.broker_id: node.rack for node in endpoints if not (node.fenced or node.draining or node.drained)}


def replicas_of(topics: "Iterable[TopicMetadata]") -> "dict[Place, Replicas]":
    """Where partitions are, or will be where they move."""
    return {(topic.name, state.partition): target_of(state) for topic in topics for state in topic.partitions}


def target_of(state: "PartitionMetadata") -> "Replicas":
    """The replicas once nothing moves."""
    return tuple(broker for broker in state.replicas if broker not in state.removing)


def row_of(move: "Move") -> dict[str, Any]:
    """One line of a plan."""
    return {
        "topic": move.place[0],
        "partition": move.place[1],
        "before": list(move.before),
        "after": list(move.after),
        "copies": list(move.adds),
    }
