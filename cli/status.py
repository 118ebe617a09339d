"""`ottla status` and `ottla node ls`: what is there, and what is wrong with it."""

import sys
import time
from typing import TYPE_CHECKING, Any

from .output import Output, show_bytes, show_document, show_rows, show_table
from .sdk import with_client
from .topics import summarize

if TYPE_CHECKING:
    from ottla.client.admin import ClusterDescription, NodeDescription
    from ottla.client.client import Client
    from ottla.client.protocol import TopicMetadata

NODE_COLUMNS = ("node", "address", "kafka", "state", "quorum", "leads", "holds", "rack", "log", "free", "version")
REDRAW_S = 1.0
CLEAR = "\x1b[H\x1b[2J"


def show_status(servers: str, output: Output, watch: bool) -> None:
    """Once, or again every second until Ctrl-C."""
    while True:
        document = with_client(servers, _ask)
        if watch and sys.stdout.isatty():
            sys.stdout.write(CLEAR)
        _show(document, output)
        if not watch:
            return
        sys.stdout.flush()
        time.sleep(REDRAW_S)


def list_nodes(servers: str, output: Output) -> None:
    """A row per node."""
    cluster = with_client(servers, lambda client: client.admin.describe_cluster())
    rows = [describe_node(node, cluster) for node in cluster.nodes]
    show_rows(_readable(rows) if output is Output.table else rows, NODE_COLUMNS, output)


async def _ask(client: "Client") -> dict[str, Any]:
    return describe_all(await client.admin.describe_cluster(), await client.admin.list_topics())


def describe_all(cluster: "ClusterDescription", topics: "tuple[TopicMetadata, ...]") -> dict[str, Any]:
    """The whole state as one document."""
    summaries = [summarize(topic) for topic in topics]
    return {
        "cluster_id": cluster.cluster_id,
        "quorum_leader": cluster.quorum_leader,
        "quorum_term": cluster.quorum_term,
        "metadata_index": cluster.metadata_index,
        "topics": len(topics),
        "partitions": sum(row["partitions"] for row in summaries),
        "under_replicated": sum(row["under_replicated"] for row in summaries),
        "leaderless": sum(row["leaderless"] for row in summaries),
        "nodes": [describe_node(node, cluster) for node in cluster.nodes],
        "problems": lost_voters(cluster),
    }


def voters_of(cluster: "ClusterDescription") -> dict[int, str]:
    """The voters' addresses by node id, as any node that answers knows them; they never change."""
    told = [node.details.voters for node in cluster.nodes if node.details is not None]
    return {number: f"{host}:{port}" for number, host, port in told[0]} if told else {}


def lost_voters(cluster: "ClusterDescription") -> list[str]:
    """A sentence for each voter in whose place another data directory runs: it has no vote there. Registrations
    outlive their nodes, so only what answers there now is believed."""
    voters = voters_of(cluster)
    places = {address: number for number, address in voters.items()}
    problems = []
    for node in cluster.nodes:
        number, address = node.endpoint.broker_id, f"{node.endpoint.host}:{node.endpoint.port}"
        runs_there = node.details is not None and node.details.node_id == number
        if runs_there and number not in voters and address in places:
            problems.append(
                f"n{number} runs at {address}, where voter n{places[address]} belongs, on another data directory: it "
                f"has no vote, and the quorum has lost one of its {len(voters)} voters. docs/operations.md says what "
                "to do."
            )
    return problems


def _quorum_role(number: int, cluster: "ClusterDescription") -> str | None:
    if number == cluster.quorum_leader:
        return "leader"
    voters = voters_of(cluster)
    return None if not voters else "voter" if number in voters else "observer"


def describe_node(node: "NodeDescription", cluster: "ClusterDescription") -> dict[str, Any]:
    """One node: as registered, and as it says itself if it answers."""
    endpoint, details = node.endpoint, node.details
    if details is not None and details.node_id != endpoint.broker_id:
        details = None  # another one answers where it was
    fenced = (
        "fenced" if endpoint.fenced else "draining" if endpoint.draining else "drained" if endpoint.drained else None
    )
    return {
        "node": endpoint.broker_id,
        "address": f"{endpoint.host}:{endpoint.port}",
        "kafka": None if endpoint.kafka_port is None else f"{endpoint.kafka_host or '*'}:{endpoint.kafka_port}",
        "state": fenced or (details.state if details is not None else "unreachable"),
        "quorum": _quorum_role(endpoint.broker_id, cluster),
        "leads": details.partitions_led if details is not None else None,
        "holds": details.partitions_held if details is not None else None,
        "rack": endpoint.rack,
        "log_bytes": details.log_bytes if details is not None else None,
        "free_bytes": details.free_bytes if details is not None else None,
        "version": details.version if details is not None else None,
        "uptime_s": round(details.uptime_s, 3) if details is not None else None,
        "problem": node.problem,
    }


def _readable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            **row,
            "log": None if row["log_bytes"] is None else show_bytes(row["log_bytes"]),
            "free": None if row["free_bytes"] is None else show_bytes(row["free_bytes"]),
        }
        for row in rows
    ]


def _show(document: dict[str, Any], output: Output) -> None:
    if output is not Output.table:
        show_document(document, output)
        return
    leader = document["quorum_leader"]
    print(f"cluster     {document['cluster_id']}")
    print(f"quorum      {'no leader' if leader is None else f'leader n{leader}'}, term {document['quorum_term']}")
    print(f"topics      {document['topics']}, partitions {document['partitions']}")
    print(f"partitions  under-replicated {document['under_replicated']}, leaderless {document['leaderless']}")
    print()
    show_table(_readable(document["nodes"]), NODE_COLUMNS)
    for problem in document["problems"]:
        print(f"\nproblem     {problem}")
