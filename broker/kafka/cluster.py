"""What the cluster is: brokers, quorum, and topics page by page."""

from typing import Any

from ottla.client.error_codes import ErrorCode
from ottla.client.group_names import INTERNAL_TOPICS
from ottla.client.protocol import (
    DescribeNodeRequest,
    DescribeNodeResponse,
    MetadataRequest,
    MetadataResponse,
    PartitionMetadata,
    TopicMetadata,
)

from .caller import Caller
from .entities import Entity, Fields, field, uuid_of
from .header import Header
from .metadata import ALL_CLUSTER_OPERATIONS, ALL_TOPIC_OPERATIONS, UNKNOWN_OPERATIONS
from .versions import ApiKey
from .view import BrokerView

METADATA_TOPIC = "__cluster_metadata"
"""What Kafka calls its quorum's log; ours is no topic, and is told of under the same name."""
_BROKERS = 1
UNSUPPORTED_ENDPOINT_TYPE = 115
PAGE_PARTITIONS_MAX = 2_000


async def describe_cluster(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """Fenced brokers only where they are asked for."""
    response = await view.ask(MetadataRequest(()), MetadataResponse)
    if field(request, "endpoint_type", _BROKERS) != _BROKERS:
        return _cluster(UNSUPPORTED_ENDPOINT_TYPE, "there are no controllers apart from the brokers", response, [], -1)
    addresses = view.addresses(caller)
    brokers: list[Fields] = [
        {"broker_id": number, "host": host, "port": port, "rack": view.image.brokers[number].rack, "is_fenced": False}
        for number, (host, port) in addresses.items()
    ]
    if field(request, "include_fenced_brokers", False):
        brokers += (
            {
                "broker_id": broker.broker_id,
                "host": broker.kafka_host or caller.local_host,
                "port": broker.kafka_port,
                "rack": broker.rack,
                "is_fenced": True,
            }
            for broker in response.brokers
            if broker.fenced and broker.kafka_port is not None
        )
    wanted = field(request, "include_cluster_authorized_operations", False)
    operations = ALL_CLUSTER_OPERATIONS if wanted else UNKNOWN_OPERATIONS
    leader = response.quorum_leader if response.quorum_leader in addresses else -1
    return {**_cluster(ErrorCode.NONE, None, response, brokers, operations), "controller_id": leader}


def _cluster(error: int, message: str | None, response: MetadataResponse, brokers: Any, operations: int) -> Fields:
    return {
        "error_code": _Code(error),
        "error_message": message,
        "endpoint_type": _BROKERS,
        "cluster_id": response.cluster_id,
        "controller_id": -1,
        "brokers": brokers,
        "cluster_authorized_operations": operations,
    }


class _Code:
    """An error that only this protocol has."""

    def __init__(self, value: int) -> None:
        self.value = int(value)


async def describe_quorum(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """KIP-595. Only the commit index is known here of how far each voter is."""
    node = await view.ask(DescribeNodeRequest(), DescribeNodeResponse)
    topics = [
        {
            "topic_name": topic.topic_name,
            "partitions": [_quorum(view, node, topic.topic_name, p) for p in topic.partitions],
        }
        for topic in request.topics
    ]
    nodes = [
        {"node_id": number, "listeners": [{"name": "CONTROLLER", "host": host, "port": port}]}
        for number, host, port in node.voters
    ]
    return {"error_code": ErrorCode.NONE, "error_message": None, "topics": topics, "nodes": nodes}


def _quorum(view: BrokerView, node: DescribeNodeResponse, topic: str, asked: Entity) -> Fields:
    if topic != METADATA_TOPIC or asked.partition_index != 0:
        return _quorum_of(asked.partition_index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, -1, -1, -1, [], [])
    voters = [number for number, _, _ in node.voters]
    observers = [number for number in sorted(view.image.brokers) if number not in voters]
    if node.quorum_leader is None:
        return _quorum_of(0, ErrorCode.LEADER_NOT_AVAILABLE, -1, node.quorum_term, -1, [], [])
    return _quorum_of(
        0,
        ErrorCode.NONE,
        node.quorum_leader,
        node.quorum_term,
        node.commit_index,
        [_state(number, node) for number in voters],
        [_state(number, node) for number in observers],
    )


def _quorum_of(
    partition: int, error: ErrorCode, leader: int, term: int, committed: int, voters: list[Fields], others: list[Fields]
) -> Fields:
    return {
        "partition_index": partition,
        "error_code": error,
        "error_message": None,
        "leader_id": leader,
        "leader_epoch": term,
        "high_watermark": committed,
        "current_voters": voters,
        "observers": others,
    }


def _state(number: int, node: DescribeNodeResponse) -> Fields:
    return {
        "replica_id": number,
        "replica_directory_id": None,
        "log_end_offset": node.commit_index if number in (node.node_id, node.quorum_leader) else -1,
        "last_fetch_timestamp": -1,
        "last_caught_up_timestamp": -1,
    }


async def describe_topic_partitions(view: BrokerView, caller: Caller, header: Header, request: Entity) -> Fields:
    """Topics in the order of their names, some partitions at a time (KIP-966)."""
    names = sorted({topic.name for topic in request.topics} or view.image.topics.keys())
    limit = min(max(1, request.response_partition_limit), PAGE_PARTITIONS_MAX)
    first, skipped = ("", 0) if request.cursor is None else (request.cursor.topic_name, request.cursor.partition_index)
    names = [name for name in names if name >= first]
    response = await view.ask(MetadataRequest(tuple(names[: limit + 1])), MetadataResponse)
    reachable = view.addresses(caller)
    topics: list[Fields] = []
    cursor: Fields | None = None
    for topic in response.topics:
        start = skipped if topic.name == first else 0
        shown = topic.partitions[start : start + limit]
        if limit == 0 or (topic.partitions and not shown and start < len(topic.partitions)):
            cursor = {"topic_name": topic.name, "partition_index": start}
            break
        topics.append(_page(topic, shown, reachable))
        limit -= len(shown)
        if start + len(shown) < len(topic.partitions):
            cursor = {"topic_name": topic.name, "partition_index": start + len(shown)}
            break
    else:
        if len(names) > len(response.topics):
            cursor = {"topic_name": names[len(response.topics)], "partition_index": 0}
    return {"topics": topics, "next_cursor": cursor}


def _page(topic: TopicMetadata, partitions: tuple[PartitionMetadata, ...], reachable: Any) -> Fields:
    return {
        "error_code": topic.error,
        "name": topic.name,
        "topic_id": uuid_of(topic.topic_id),
        "is_internal": topic.name in INTERNAL_TOPICS,
        "partitions": [_partition(partition, reachable) for partition in partitions],
        "topic_authorized_operations": ALL_TOPIC_OPERATIONS,
    }


def _partition(partition: PartitionMetadata, reachable: Any) -> Fields:
    leader = partition.leader
    return {
        "error_code": ErrorCode.LEADER_NOT_AVAILABLE if leader is None else ErrorCode.NONE,
        "partition_index": partition.partition,
        "leader_id": -1 if leader is None else leader,
        "leader_epoch": partition.leader_epoch,
        "replica_nodes": partition.replicas,
        "isr_nodes": partition.isr,
        "eligible_leader_replicas": partition.elr,
        "last_known_elr": () if partition.last_known_leader is None else (partition.last_known_leader,),
        "offline_replicas": tuple(each for each in partition.replicas if each not in reachable),
    }


HANDLERS = {
    ApiKey.DESCRIBE_CLUSTER: describe_cluster,
    ApiKey.DESCRIBE_QUORUM: describe_quorum,
    ApiKey.DESCRIBE_TOPIC_PARTITIONS: describe_topic_partitions,
}
