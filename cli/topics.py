"""`ottla topic`: create, ls, show, grow, rm."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .output import Output, counted, show_bytes, show_document, show_rows, show_table, talk
from .sdk import with_client
from .start import parse_pairs

if TYPE_CHECKING:
    from ottla.client.admin import PartitionDescription, TopicDescription
    from ottla.client.client import Client
    from ottla.client.protocol import ConfigEntry, TopicMetadata

LIST_COLUMNS = ("name", "partitions", "replication", "under_replicated", "leaderless")
ALWAYS_SHOWN = ("max.message.bytes", "min.insync.replicas", "retention.ms")
RM_COLUMNS = ("partition", "start", "end", "size_bytes")
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
    with_client(servers, lambda client: client.admin.delete_topic(name), is_removal=True)
    talk(f"Removed {name}.")


def preview_removal(servers: str, name: str, output: Output) -> None:
    """Show what would go, where nothing stands against it."""

    async def ask(client: "Client") -> "TopicDescription":
        await client.admin.delete_topic(name, validate_only=True)
        return await client.admin.describe_topic(name, current=True)

    topic = with_client(servers, ask, is_removal=True)
    show_rows([_partition(partition) for partition in topic.partitions], RM_COLUMNS, output)


def list_all(servers: str, output: Output, everything: bool = False) -> None:
    """Every topic, a row each; with ``everything`` those that coordinators keep too."""
    from ottla.client.group_protocol import INTERNAL_TOPICS

    topics = with_client(servers, lambda client: client.admin.list_topics())
    shown = [topic for topic in topics if everything or topic.name not in INTERNAL_TOPICS]
    show_rows([summarize(topic) for topic in shown], LIST_COLUMNS, output)


def show(servers: str, name: str, output: Output) -> None:
    """One topic, a row per partition."""

    async def ask(client: "Client") -> "tuple[TopicDescription, tuple[ConfigEntry, ...]]":
        return await client.admin.describe_topic(name), await client.admin.topic_config(name)

    topic, configs = with_client(servers, ask)
    document = describe(topic, configs)
    if output is not Output.table:
        show_document(document, output)
        return
    shown = [entry for entry in configs if entry.source != "default" or entry.name in ALWAYS_SHOWN]
    settings = ", ".join(f"{entry.name}={entry.value}" for entry in shown)
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
        "under_replicated": sum(
            any(replica not in (*state.isr, *state.adding) for replica in state.replicas) for state in topic.partitions
        ),
        "leaderless": sum(state.leader is None for state in topic.partitions),
        "configs": dict(topic.configs),
    }


def describe(topic: "TopicDescription", configs: "Sequence[ConfigEntry]") -> dict[str, Any]:
    """Everything that is known of one topic."""
    return {
        "name": topic.name,
        "topic_id": topic.topic_id,
        "configs": dict(topic.configs),
        "effective": {entry.name: _typed(entry) for entry in configs},
        "partitions": [_partition(partition) for partition in topic.partitions],
    }


def _typed(entry: "ConfigEntry") -> int | float | str:
    """A number where it is one."""
    if entry.kind in ("int", "long"):
        return int(entry.value)
    return float(entry.value) if entry.kind == "double" else entry.value


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
    return f"{counted(row['partitions'], 'partition')}, {counted(row['replication'], 'replica')} each"
