"""`ottla topic`: create, ls, show, grow, rm."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .output import Output, plain, show_bytes, show_document, show_rows, show_table, talk
from .sdk import with_client
from .start import parse_pairs

if TYPE_CHECKING:
    from ottla.client.admin import PartitionDescription, TopicDescription
    from ottla.client.protocol import TopicMetadata

LIST_COLUMNS = ("name", "partitions", "replication", "under_replicated", "leaderless")
SHOW_COLUMNS = ("partition", "leader", "epoch", "replicas", "isr", "start", "end", "size")


def create(servers: str, name: str, partitions: int | None, replication: int | None, configs: Sequence[str]) -> None:
    """Make a topic."""
    config = parse_pairs(configs)
    made = with_client(servers, lambda client: client.admin.create_topic(name, partitions, replication, config))
    talk(f"Created {name}: {_shape(made)}.")


def grow(servers: str, name: str, partitions: int) -> None:
    """Raise a topic's partition count."""
    grown = with_client(servers, lambda client: client.admin.grow_topic(name, partitions))
    talk(f"Grew {name}: {_shape(grown)}. Keys map to other partitions from now on.")


def remove(servers: str, name: str) -> None:
    """Delete a topic with its records."""
    with_client(servers, lambda client: client.admin.delete_topic(name))
    talk(f"Removed {name}.")


def list_all(servers: str, output: Output) -> None:
    """Every topic, a row each."""
    topics = with_client(servers, lambda client: client.admin.list_topics())
    show_rows([summarize(topic) for topic in topics], LIST_COLUMNS, output)


def show(servers: str, name: str, output: Output) -> None:
    """One topic, a row per partition."""
    topic = with_client(servers, lambda client: client.admin.describe_topic(name))
    document = describe(topic)
    if output is not Output.table:
        show_document(document, output)
        return
    shown = {**document["configs"], **document["effective"]}
    settings = ", ".join(f"{key}={value}" for key, value in sorted(shown.items()))
    print(f"{topic.name}  id {topic.topic_id}  {settings}")
    rows = [
        {**row, "size": None if row["size_bytes"] is None else show_bytes(row["size_bytes"])}
        for row in document["partitions"]
    ]
    show_table(rows, SHOW_COLUMNS)
    for row in document["partitions"]:
        if row["problem"]:
            talk(f"partition {row['partition']}: {row['problem']}")


def summarize(topic: "TopicMetadata") -> dict[str, Any]:
    """One row of the list."""
    return {
        "name": topic.name,
        "topic_id": topic.topic_id,
        "partitions": len(topic.partitions),
        "replication": max((len(state.replicas) for state in topic.partitions), default=0),
        "under_replicated": sum(len(state.isr) < len(state.replicas) for state in topic.partitions),
        "leaderless": sum(state.leader is None for state in topic.partitions),
        "configs": dict(topic.configs),
    }


def describe(topic: "TopicDescription") -> dict[str, Any]:
    """Everything that is known of one topic."""
    return {
        "name": topic.name,
        "topic_id": topic.topic_id,
        "configs": dict(topic.configs),
        "effective": effective_configs(topic),
        "partitions": [_partition(partition) for partition in topic.partitions],
    }


def effective_configs(topic: "TopicDescription") -> dict[str, int]:
    """What holds for the topic, set on it or not: min.insync.replicas is never more than its replicas."""
    from ottla.client.producer import MAX_MESSAGE_BYTES

    replicas = max((len(partition.state.replicas) for partition in topic.partitions), default=1)
    default = 2 if replicas >= 3 else 1
    minimum = int(topic.configs.get("min.insync.replicas", default))
    largest = int(topic.configs.get("max.message.bytes", MAX_MESSAGE_BYTES))
    return {"max.message.bytes": largest, "min.insync.replicas": min(minimum, replicas)}


def _partition(described: "PartitionDescription") -> dict[str, Any]:
    state = described.state
    return {
        "partition": state.partition,
        "leader": state.leader,
        "epoch": state.leader_epoch,
        "replicas": list(state.replicas),
        "isr": list(state.isr),
        "elr": list(state.elr),
        "start": described.start_offset,
        "end": described.end_offset,
        "size_bytes": described.size_bytes,
        "problem": described.problem,
    }


def _shape(topic: "TopicMetadata") -> str:
    row = summarize(topic)
    return f"{plain(row['partitions'])} partitions, {plain(row['replication'])} replicas each"
