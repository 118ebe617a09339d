"""Deciding the life of topics: created, grown, deleted."""

from ottla.log.model import BrokerId, LeaderEpoch, PartitionEpoch

from .commands import (
    MAX_REPLICAS,
    CreatePartitions,
    CreatePartitionsAssigned,
    CreateTopic,
    CreateTopicWithConfigs,
    DeleteTopic,
)
from .config_rules import TOPIC_CONFIGS, why_illegal
from .decision import Context, Decision, ordered_topics, refuse
from .events import PartitionsAdded, TopicCreated, TopicDeleted
from .image import MetadataImage, Partition, Topic
from .placement import Load, load_of, load_of_cluster, place
from .results import Done, PartitionCreation, TopicCreation
from .topic_rules import (
    DEFAULT_PARTITIONS,
    DEFAULT_REPLICATION_FACTOR,
    MAX_PARTITIONS,
    MAX_PARTITIONS_PER_TOPIC,
    why_illegal_in_version_1,
    why_illegal_name,
)

_Replicas = tuple[tuple[BrokerId, ...], ...]


def create_topic(context: Context, body: CreateTopic) -> Decision:
    """Name, configs and size are checked, replicas placed (or taken as assigned), leaders named."""
    image = context.image
    if body.topic_id in image.topic_names:
        return _again(image, body)
    if (reason := why_illegal_name(body.name)) is not None:
        return refuse("INVALID_TOPIC_EXCEPTION", reason)
    if (present := image.topics.get(body.name)) is not None:
        if body.auto_created:
            return Decision((), _creation(present, created=False))
        return refuse("TOPIC_ALREADY_EXISTS", f"topic {body.name!a} already exists")
    if (reason := _why_illegal_configs(body)) is not None:
        return refuse("INVALID_CONFIG", reason)
    replicas = _assigned(image, body) if body.assignments is not None else _placed(image, body)
    if isinstance(replicas, Decision):
        return replicas
    topic = Topic(body.name, body.topic_id, _new_partitions(image, replicas), dict(body.configs))
    return Decision([TopicCreated(topic)], _creation(topic, created=True))


def delete_topic(context: Context, body: DeleteTopic) -> Decision:
    """The topic is forgotten; its name is free for another id."""
    if body.topic_id not in context.image.topic_names:
        return refuse("UNKNOWN_TOPIC_ID", f"there is no topic with id {body.topic_id}")
    return Decision([TopicDeleted(body.topic_id)], Done())


def create_partitions(context: Context, body: CreatePartitions) -> Decision:
    """Partitions after the last one, with as many replicas as the others."""
    image = context.image
    topic = image.topic_by_id(body.topic_id)
    if topic is None:
        return refuse("UNKNOWN_TOPIC_ID", f"there is no topic with id {body.topic_id}")
    present = len(topic.partitions)
    if body.new_count <= present:
        return refuse("INVALID_PARTITIONS", f"topic {topic.name!a} has {present} partitions, it can only grow")
    if (refusal := _too_many(image, body.new_count, body.new_count - present)) is not None:
        return refusal
    if not _anyone_active(image):
        return _nobody_active()
    if isinstance(body, CreatePartitionsAssigned):
        if (refusal := _why_unassignable_more(image, topic, body)) is not None:
            return refusal
        replicas = body.assignments
    else:
        replicas = _placed_more(image, topic, body)
    added = _new_partitions(image, replicas)
    return Decision([PartitionsAdded(topic.topic_id, added)], PartitionCreation(topic.topic_id, body.new_count))


def _placed_more(image: MetadataImage, topic: Topic, body: CreatePartitions) -> _Replicas:
    present = len(topic.partitions)
    return tuple(
        place(
            image.brokers,
            body.new_count - present,
            topic.replication_factor,
            body.placement_seed,
            topic=load_of(partition.replicas for partition in topic.partitions),
            cluster=_cluster_load(image),
            first_partition=present,
        )
    )


def _why_unassignable_more(image: MetadataImage, topic: Topic, body: CreatePartitionsAssigned) -> Decision | None:
    present, given = len(topic.partitions), len(body.assignments)
    if given != body.new_count - present:
        reason = f"{body.new_count - present} partitions are new and {given} are assigned"
        return refuse("INVALID_REPLICA_ASSIGNMENT", reason)
    for number, replicas in enumerate(body.assignments, present):
        if (why := _why_unassignable(image, replicas, topic.replication_factor)) is not None:
            return refuse("INVALID_REPLICA_ASSIGNMENT", f"partition {number}: {why}")
    return None


def _why_illegal_configs(body: CreateTopic) -> str | None:
    if isinstance(body, CreateTopicWithConfigs):
        return why_illegal(body.configs, TOPIC_CONFIGS, "topic")
    return why_illegal_in_version_1(body.configs)


def _again(image: MetadataImage, body: CreateTopic) -> Decision:
    topic = image.topics[image.topic_names[body.topic_id]]
    if topic.name != body.name:
        return refuse("INVALID_REQUEST", f"topic id {body.topic_id} belongs to topic {topic.name!a}")
    return Decision((), _creation(topic, created=True))


def _placed(image: MetadataImage, body: CreateTopic) -> _Replicas | Decision:
    registered = len(image.brokers)
    count = DEFAULT_PARTITIONS if body.partition_count is None else body.partition_count
    factor = body.replication_factor
    if factor is None:
        factor = min(DEFAULT_REPLICATION_FACTOR, registered)
    if count < 1:
        return refuse("INVALID_PARTITIONS", f"a topic has at least one partition, not {count}")
    if (refusal := _too_many(image, count, count)) is not None:
        return refusal
    if not 1 <= factor <= min(registered, MAX_REPLICAS):
        return refuse(
            "INVALID_REPLICATION_FACTOR", f"replication factor {factor} is impossible with {registered} brokers"
        )
    if not _anyone_active(image):
        return _nobody_active()
    cluster = _cluster_load(image)
    return tuple(place(image.brokers, count, factor, body.placement_seed, topic=load_of(()), cluster=cluster))


def _assigned(image: MetadataImage, body: CreateTopic) -> _Replicas | Decision:
    assignments = body.assignments or ()
    if body.partition_count not in (None, len(assignments)):
        return refuse("INVALID_REQUEST", "partition count and assignments disagree; give one of them")
    if not assignments:
        return refuse("INVALID_PARTITIONS", "a topic has at least one partition")
    if (refusal := _too_many(image, len(assignments), len(assignments))) is not None:
        return refusal
    factor = len(assignments[0])
    if body.replication_factor not in (None, factor):
        return refuse("INVALID_REQUEST", "replication factor and assignments disagree; give one of them")
    for number, replicas in enumerate(assignments):
        if (reason := _why_unassignable(image, replicas, factor)) is not None:
            return refuse("INVALID_REPLICA_ASSIGNMENT", f"partition {number}: {reason}")
    return assignments


def _why_unassignable(image: MetadataImage, replicas: tuple[BrokerId, ...], factor: int) -> str | None:
    if not replicas or len(replicas) != factor:
        return "every partition needs the same number of replicas, at least one"
    if len(set(replicas)) != factor or factor > MAX_REPLICAS:
        return f"its replicas must be different brokers, at most {MAX_REPLICAS}"
    for replica in replicas:
        if replica not in image.brokers:
            return f"broker {replica} is not registered"
    if not any(image.brokers[replica].active for replica in replicas):
        return "all of its brokers are fenced or draining, so nobody could ever lead it"
    return None


def _too_many(image: MetadataImage, in_topic: int, added: int) -> Decision | None:
    if in_topic > MAX_PARTITIONS_PER_TOPIC:
        return refuse("INVALID_PARTITIONS", f"a topic has at most {MAX_PARTITIONS_PER_TOPIC} partitions")
    if sum(len(topic.partitions) for topic in image.topics.values()) + added > MAX_PARTITIONS:
        return refuse("POLICY_VIOLATION", f"a cluster has at most {MAX_PARTITIONS} partitions")
    return None


def _anyone_active(image: MetadataImage) -> bool:
    return any(broker.active for broker in image.brokers.values())


def _nobody_active() -> Decision:
    # Kafka's code for it. A partition made now would have an empty ISR and ELR, and no first leader ever.
    return refuse("INVALID_REPLICATION_FACTOR", "all brokers are fenced or draining; try again when one is back")


def _new_partitions(image: MetadataImage, assignments: _Replicas) -> tuple[Partition, ...]:
    made = []
    for replicas in assignments:
        isr = tuple(replica for replica in replicas if image.brokers[replica].active)
        assert isr
        leader = next((member for member in isr if image.brokers[member].willing), isr[0])
        made.append(Partition(replicas, isr, (), None, leader, LeaderEpoch(0), PartitionEpoch(0)))
    return tuple(made)


def _cluster_load(image: MetadataImage) -> Load:
    return load_of_cluster(topic.partitions for topic in ordered_topics(image))


def _creation(topic: Topic, *, created: bool) -> TopicCreation:
    factor = topic.replication_factor
    return TopicCreation(topic.name, topic.topic_id, len(topic.partitions), factor, topic.configs, created)
