"""`ottla node`: drain, undrain, decommission."""

from typing import TYPE_CHECKING

from ottla.client.errors import OttlaError

from .options import confirm
from .output import Output, counted, show_rows, talk
from .partitions import report, until_moved
from .problems import NotFound
from .rebalance import COLUMNS, racks_of, replicas_of, row_of
from .sdk import with_client
from .status import voters_of

if TYPE_CHECKING:
    from ottla.client.admin import ClusterDescription
    from ottla.client.client import Client
    from ottla.client.rebalancing import Move


def drain(servers: str, node: int, dry_run: bool) -> None:
    """Its leaderships go away and stay away."""

    async def work(client: "Client") -> None:
        cluster = await _cluster_with(client, node)
        leads = sum(state.leader == node for topic in await client.admin.list_topics() for state in topic.partitions)
        if dry_run:
            talk(f"Would drain n{node}: {counted(leads, 'partition')} would be led by others.")
            return
        await client.admin.drain_node(node)
        left = [
            f"{topic.name}-{state.partition}"
            for topic in await client.admin.list_topics()
            for state in topic.partitions
            if state.leader == node
        ]
        talk(f"n{node} is drained until: ottla node undrain {node}")
        if left:
            talk(f"It still leads {', '.join(left)}: no other replica is in sync; it hands over when one is.")
        if node == cluster.quorum_leader:
            talk(f"n{node} leads the metadata quorum too; that moves by itself when the node stops.")

    with_client(servers, work)


def undrain(servers: str, node: int, dry_run: bool) -> None:
    """It may lead again."""

    async def work(client: "Client") -> None:
        await _cluster_with(client, node)
        if dry_run:
            talk(f"Would undrain n{node}.")
            return
        await client.admin.undrain_node(node)
        talk(f"n{node} may lead again; the partitions that prefer it come back in ten seconds.")

    with_client(servers, work)


def decommission(servers: str, node: int, *, watch: bool, dry_run: bool, yes: bool, output: Output) -> None:
    """Drain it and move all its replicas off. Raises OttlaError where they would not fit elsewhere."""
    cluster, moves = with_client(servers, lambda client: _plan(client, node))
    if moves:
        show_rows([row_of(move) for move in moves], COLUMNS, output)
    if dry_run:
        talk(f"{counted(len(moves), 'replica')} would leave n{node}. Nothing was done.")
        return
    confirm(f"n{node} gives up {counted(len(moves), 'replica')}, and leads nothing any more. Go on?", yes)
    with_client(servers, lambda client: _carry_out(client, node, moves, watch))
    if node in voters_of(cluster):
        talk(
            f"n{node} is one of the {len(voters_of(cluster))} voters of the metadata quorum, and voters are static: "
            "its vote stays with it. Keep the node running; it holds metadata only. Stopped for good, the quorum "
            "has one vote less to lose."
        )
    elif watch:
        talk(f"n{node} holds nothing any more. Stop it when you like.")


async def _plan(client: "Client", node: int) -> "tuple[ClusterDescription, list[Move]]":
    from ottla.client.rebalancing import DoesNotFit, vacate
    from ottla.log.model import BrokerId

    cluster = await _cluster_with(client, node)
    racks = racks_of(known.endpoint for known in cluster.nodes if known.endpoint.broker_id != node)
    partitions = replicas_of(await client.admin.list_topics(current=True))
    try:
        moves = vacate(partitions, racks, BrokerId(node))
    except DoesNotFit as reason:
        raise OttlaError(
            f"n{node} cannot go: {reason}.",
            code="OTTLA-DOES-NOT-FIT",
            hint="Add a node, or lower the replication of these topics with ottla partition move.",
        ) from reason
    return cluster, moves


async def _carry_out(client: "Client", node: int, moves: "list[Move]", watch: bool) -> None:
    await client.admin.drain_node(node)
    if not moves:
        talk(f"n{node} is drained, and holds nothing.")
        return
    asked = {move.place: list(move.after) for move in moves}
    report(await client.admin.move_partitions(asked))
    if watch:
        await until_moved(client, asked)
    else:
        talk("It goes on by itself: ottla partition ls --reassigning")


async def _cluster_with(client: "Client", node: int) -> "ClusterDescription":
    cluster = await client.admin.describe_cluster()
    if node not in {known.endpoint.broker_id for known in cluster.nodes}:
        raise NotFound(f"there is no node {node}", hint="List what there is: ottla node ls")
    return cluster
