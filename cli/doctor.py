"""`ottla doctor`: what is wrong with a cluster, and what to do about it. The examination is pure; the look is not."""

import ipaddress
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from .output import Output, show_document
from .problems import EXIT_DONE, EXIT_FAILED
from .sdk import with_client
from .status import lost_voters, voters_of

if TYPE_CHECKING:
    from ottla.client.admin import ClusterDescription, NodeDescription
    from ottla.client.client import Client
    from ottla.client.protocol import BrokerEndpoint, PartitionMetadata, TopicMetadata

ERROR, WARNING, ADVICE = "error", "warning", "advice"
FREE_BYTES_LOW = 1 << 30
NAMES_MAX = 5


class Finding(NamedTuple):
    """``what`` is wrong and ``then`` what to do. ``severity``: ``error`` stops somebody now, ``warning`` will when one
    more thing happens, ``advice`` could be better."""

    severity: str
    what: str
    then: str


def show_doctor(servers: str, output: Output) -> int:
    """Print the findings, the worst first; the exit code is 1 where there is an error."""
    findings = with_client(servers, _look)
    order = (ERROR, WARNING, ADVICE)
    findings.sort(key=lambda finding: order.index(finding.severity))
    if output is not Output.table:
        show_document([finding._asdict() for finding in findings], output)
    elif not findings:
        print("Nothing is wrong that can be seen from here.")
    for finding in findings if output is Output.table else ():
        print(f"{finding.severity:<8} {finding.what}\n{'':<8} {finding.then}")
    return EXIT_FAILED if any(finding.severity == ERROR for finding in findings) else EXIT_DONE


async def _look(client: "Client") -> list[Finding]:
    import asyncio

    from .kafka_probe import probe_kafka

    cluster, topics = await client.admin.describe_cluster(), await client.admin.list_topics()
    tried = [
        node.endpoint for node in cluster.nodes if node.endpoint.kafka_port is not None and node.details is not None
    ]
    problems = await asyncio.gather(*(probe_kafka(endpoint, cluster.cluster_id) for endpoint in tried))
    told = {int(endpoint.broker_id): problem for endpoint, problem in zip(tried, problems, strict=True)}
    return examine(cluster, topics, told)


def examine(
    cluster: "ClusterDescription", topics: "tuple[TopicMetadata, ...]", kafka: Mapping[int, str | None]
) -> list[Finding]:
    """All findings. ``kafka``: of the nodes whose Kafka port was tried, what went wrong there, or None."""
    return [
        *_nodes(cluster),
        *_quorum(cluster),
        *_partitions(cluster, topics),
        *_topics(cluster, topics),
        *_kafka(cluster, kafka),
    ]


# --- nodes and quorum ------------------------------------------------------------------------------------------------


def _nodes(cluster: "ClusterDescription") -> Iterator[Finding]:
    for node in cluster.nodes:
        yield from _node(node)
    versions = sorted({node.details.version for node in cluster.nodes if node.details is not None})
    if len(versions) > 1:
        yield Finding(WARNING, f"Nodes run different releases: {', '.join(versions)}.", "Bring all to the newest one.")


def _node(node: "NodeDescription") -> Iterator[Finding]:
    name, endpoint, details = f"n{node.endpoint.broker_id}", node.endpoint, node.details
    address = f"{endpoint.host}:{endpoint.port}"
    if details is None:
        why = f": {node.problem.rstrip('.')}" if node.problem else ""
        yield Finding(ERROR, f"{name} at {address} does not answer{why}.", "Start it, or look into its log.")
    elif endpoint.fenced:
        then = "It leads nothing until its heartbeats reach the controller: look into its log and the network between."
        yield Finding(ERROR, f"{name} is fenced though it answers.", then)
    if endpoint.drained:
        yield Finding(
            ADVICE, f"{name} is drained: it leads nothing that another can.", f"ottla node undrain {name[1:]}"
        )
    if details is not None and details.free_bytes < FREE_BYTES_LOW:
        what = f"{name} has {details.free_bytes >> 20} MiB of disk left above its reserve."
        yield Finding(WARNING, what, "Shorten retention.ms or retention.bytes, delete topics, or add disk.")


def _quorum(cluster: "ClusterDescription") -> Iterator[Finding]:
    if cluster.quorum_leader is None:
        then = "A majority of the voters must run and reach each other; until then no topic can be made or moved."
        yield Finding(ERROR, "The metadata quorum has no leader.", then)
    for problem in lost_voters(cluster):
        yield Finding(WARNING, problem, "See docs/operations.md: a lost disk.")
    voters = voters_of(cluster)
    if len(voters) > 1 and len(voters) % 2 == 0:
        what = f"The quorum has {len(voters)} voters, which survive no more failures than {len(voters) - 1} would."
        yield Finding(ADVICE, what, "Voters are static: form the next cluster with an odd number.")


# --- partitions and topics -------------------------------------------------------------------------------------------


def _partitions(cluster: "ClusterDescription", topics: "tuple[TopicMetadata, ...]") -> Iterator[Finding]:
    places = [(f"{topic.name}-{p.partition}", topic, p) for topic in topics for p in topic.partitions]
    leaderless = [name for name, _, p in places if p.leader is None]
    if leaderless:
        then = "Start the nodes that hold their replicas; if these are lost for good: ottla partition elect --unclean."
        yield Finding(ERROR, f"{_few(leaderless)} have no leader.", then)
    starved = [name for name, topic, p in places if p.leader is not None and len(p.isr) < _min_insync(topic, p)]
    if starved:
        then = "Writes with acks=all are refused there. Start the nodes that are down, or lower min.insync.replicas."
        yield Finding(ERROR, f"{_few(starved)} have fewer in-sync replicas than min.insync.replicas.", then)
    behind = [
        name for name, _, p in places if p.leader is not None and len(p.isr) < len(p.replicas) and name not in starved
    ]
    if behind:
        then = "They catch up by themselves once their nodes run; ottla partition ls shows which replicas are missing."
        yield Finding(WARNING, f"{_few(behind)} are under-replicated.", then)
    moved = sum(p.leader is not None and p.leader != p.replicas[0] for _, _, p in places if p.replicas)
    if moved and moved * 4 > len(places) and not behind and not starved:
        what = f"{moved} of {len(places)} partitions are not led by their preferred replica."
        yield Finding(ADVICE, what, "They go back by themselves; at once with: ottla partition elect")


def _min_insync(topic: "TopicMetadata", partition: "PartitionMetadata") -> int:
    factor = len(partition.replicas)
    configured = topic.configs.get("min.insync.replicas")
    return min(factor, int(configured) if configured is not None else (2 if factor >= 3 else 1))


def _topics(cluster: "ClusterDescription", topics: "tuple[TopicMetadata, ...]") -> Iterator[Finding]:
    single = [topic.name for topic in topics if topic.partitions and len(topic.partitions[0].replicas) == 1]
    if single and len(cluster.nodes) > 1:
        then = "One disk lost is all of it lost. ottla partition move gives them replicas."
        yield Finding(WARNING, f"{_few(single)} have one replica in a cluster of {len(cluster.nodes)} nodes.", then)
    risky = [topic.name for topic in topics if topic.partitions and _acknowledges_alone(topic)]
    if risky:
        then = "An acknowledged record may be on one disk only. ottla topic set NAME min.insync.replicas=2"
        yield Finding(ADVICE, f"{_few(risky)} have replicas and min.insync.replicas=1.", then)


def _acknowledges_alone(topic: "TopicMetadata") -> bool:
    partition = topic.partitions[0]
    return len(partition.replicas) >= 3 and _min_insync(topic, partition) == 1


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:NAMES_MAX])
    return shown if len(names) <= NAMES_MAX else f"{shown} and {len(names) - NAMES_MAX} more"


# --- the Kafka port --------------------------------------------------------------------------------------------------


def _kafka(cluster: "ClusterDescription", kafka: Mapping[int, str | None]) -> Iterator[Finding]:
    endpoints = [node.endpoint for node in cluster.nodes]
    without = [f"n{each.broker_id}" for each in endpoints if each.kafka_port is None]
    if without and len(without) < len(endpoints):
        then = "Kafka clients see no leader for what these lead. Give all nodes --kafka HOST:PORT, or all --kafka off."
        yield Finding(ERROR, f"{_few(without)} have no Kafka port, others have.", then)
    yield from _shared_addresses([each for each in endpoints if each.kafka_port is not None])
    for endpoint in endpoints:
        yield from _kafka_of(endpoint, kafka.get(endpoint.broker_id))


def _told(endpoint: "BrokerEndpoint") -> str:
    host = endpoint.kafka_host or endpoint.host
    return f"[{host}]:{endpoint.kafka_port}" if ":" in host else f"{host}:{endpoint.kafka_port}"


def _shared_addresses(endpoints: "list[BrokerEndpoint]") -> Iterator[Finding]:
    """A balancer in front of all of them, or one setting copied to every node."""
    for address in sorted({_told(each) for each in endpoints}):
        names = [f"n{each.broker_id}" for each in endpoints if _told(each) == address]
        if len(names) > 1:
            then = (
                "A client must reach the very node it is sent to: give each its own kafka.advertise, or its own port."
            )
            yield Finding(ERROR, f"{_few(names)} all send Kafka clients to {address}.", then)


def _kafka_of(endpoint: "BrokerEndpoint", problem: str | None) -> Iterator[Finding]:
    name, told = f"n{endpoint.broker_id}", _told(endpoint)
    if endpoint.kafka_port is None:
        return
    if _is_loopback(endpoint.kafka_host) and not _is_loopback(endpoint.host):
        what = f"{name} sends Kafka clients to {told}, which is themselves if they are on another machine."
        yield Finding(ERROR, what, "Set advertise or kafka.advertise to a name that clients reach.")
    if problem is not None:
        then = "Kafka clients are sent there: set advertise or kafka.advertise, or open the way to that port."
        yield Finding(ERROR, f"{name} sends Kafka clients to {told}: {problem}.", then)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
