"""What the cluster agrees on, as one immutable value (the idea is Kafka's MetadataImage).

A reader holds one image for the whole of a request; ``replay`` makes the next one and leaves this one true.
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, NamedTuple

import msgspec

from ottla.log.model import BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, PartitionEpoch, TopicId

RESULT_WINDOW = 256
"""How many of a broker's latest request sequences keep their result."""

CHANGES_KEPT = 1_000
"""How many clients' changes keep their result: a retry that comes later than so many others is a new change."""

MIN_INSYNC_REPLICAS = "min.insync.replicas"
UNCLEAN_RECOVERY = "unclean.recovery"
"""Of a topic: ``manual`` forbids that its last known leader leads again unasked."""

ALL_BROKERS = ""
"""In place of a broker's number: the configs of every broker that does not set its own."""


KAFKA = "KAFKA"
"""The listener for Kafka's protocol."""


class Listener(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where clients of another protocol than HTTP find a broker."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]  # the protocol, as KAFKA
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    host: Annotated[str, msgspec.Meta(max_length=255)] = ""  # "": the host by which the client reached whom it asks


class Broker(msgspec.Struct, frozen=True, omit_defaults=True):
    """One registered node."""

    broker_id: BrokerId
    broker_epoch: BrokerEpoch  # quorum index of its registration
    incarnation_id: str  # one per process start; makes registration idempotent
    directory_id: DirectoryId
    host: str
    port: int
    rack: str | None
    fenced: bool  # leads nothing and is in no ISR
    draining: bool  # enters no ISR until it registers anew
    fenced_index: int  # quorum index of the command that fenced it last, registration included
    drained: bool = False  # by an operator's word, over restarts: it follows, and leads only what nobody else can
    listeners: tuple[Listener, ...] = ()
    disk_epochs: tuple[
        BrokerEpoch, ...
    ] = ()  # that its disk may still name: the last it was unfenced in, and later ones

    @property
    def active(self) -> bool:
        """Whether it may enter an ISR."""
        return not (self.fenced or self.draining)

    @property
    def never_served(self) -> bool:
        """Whether this incarnation was not unfenced yet: it was in no ISR, and led nothing."""
        return self.fenced and self.fenced_index == self.broker_epoch

    def listener(self, name: str) -> Listener | None:
        """Where this protocol is served, or None."""
        return next((listener for listener in self.listeners if listener.name == name), None)

    @property
    def willing(self) -> bool:
        """Whether it may lead while others can too, and is given replicas."""
        return self.active and not self.drained


class Rules(NamedTuple):
    """What a partition's elections and in-sync replicas are held to."""

    minimum: int  # how large the ISR must be before the high watermark may advance
    goal: int = 0  # the same once its reassignment is over
    last_known: bool = True  # where ISR and ELR are empty, the last known leader may lead again


class Partition(msgspec.Struct, frozen=True, omit_defaults=True):
    """One partition's replicas and who leads them."""

    replicas: tuple[BrokerId, ...]  # the first is the preferred leader; those that will go are the last
    isr: tuple[BrokerId, ...]  # in the order of replicas; every member is unfenced
    elr: tuple[BrokerId, ...]  # eligible though not in sync (KIP-966), in the order of replicas
    last_known_leader: BrokerId | None  # who led last; None while there is a leader
    leader: BrokerId | None
    leader_epoch: LeaderEpoch  # rises when leader changes, also to None, and when a replica goes
    partition_epoch: PartitionEpoch  # rises with every change
    adding: tuple[BrokerId, ...] = ()  # of the replicas, those that a reassignment brings (KIP-455)
    removing: tuple[BrokerId, ...] = ()  # and those that go when it is over
    offline: tuple[BrokerId, ...] = ()  # of the replicas, those whose broker runs and cannot serve them (KIP-112)
    # Invariants: leader is None or in isr; isr and elr are disjoint and within replicas;
    # elr is empty when isr has min.insync members; adding and removing are disjoint and within replicas;
    # nobody offline is in isr or elr.

    @property
    def target(self) -> tuple[BrokerId, ...]:
        """The replicas once no reassignment is under way."""
        return tuple(replica for replica in self.replicas if replica not in self.removing)

    @property
    def settled(self) -> tuple[BrokerId, ...]:
        """The replicas if the reassignment under way had not been asked for."""
        return tuple(replica for replica in self.replicas if replica not in self.adding)

    @property
    def reassigning(self) -> bool:
        """Whether replicas come or go."""
        return bool(self.adding or self.removing)


class Topic(msgspec.Struct, frozen=True):
    """One topic; every partition has the same number of replicas when made."""

    name: str
    topic_id: TopicId
    partitions: tuple[Partition, ...]
    configs: dict[str, str]  # only what was set explicitly; never changed in place

    @property
    def replication_factor(self) -> int:
        """How many replicas each partition has."""
        return len(self.partitions[0].target)


class ResultWindow(msgspec.Struct, frozen=True):
    """The results of one broker epoch's latest requests, so that a retry is answered and not executed."""

    broker_epoch: BrokerEpoch
    highest: int  # highest sequence executed
    results: Mapping[int, bytes]  # by sequence, each in (highest - RESULT_WINDOW, highest]


class MetadataImage(msgspec.Struct, frozen=True):
    """All metadata after the command at quorum index ``index``. Its mappings are never changed in place."""

    index: int = 0
    cluster_id: str | None = None
    feature_level: int = 1
    brokers: Mapping[BrokerId, Broker] = MappingProxyType({})
    topics: Mapping[str, Topic] = MappingProxyType({})
    topic_names: Mapping[TopicId, str] = MappingProxyType({})
    next_producer_id: int = 0
    results: Mapping[BrokerId, ResultWindow] = MappingProxyType({})
    node_ids: Mapping[DirectoryId, BrokerId] = MappingProxyType({})  # of observers; never given to another
    changes: Mapping[str, bytes] = MappingProxyType({})  # results by the ids of clients' changes, the oldest first
    broker_configs: Mapping[str, dict[str, str]] = MappingProxyType({})  # by number, or ALL_BROKERS; only what was set

    def topic_by_id(self, topic_id: TopicId) -> Topic | None:
        """The topic with this identity, or None."""
        name = self.topic_names.get(topic_id)
        return None if name is None else self.topics[name]

    def partition(self, topic_id: TopicId, partition: int) -> Partition | None:
        """The partition numbered from 0, or None where topic or partition is unknown."""
        topic = self.topic_by_id(topic_id)
        if topic is None or not 0 <= partition < len(topic.partitions):
            return None
        return topic.partitions[partition]

    def min_insync(self, topic: Topic, partition: Partition | None = None) -> int:
        """How large the ISR must be before the high watermark may advance: min.insync.replicas, at most RF."""
        if partition is not None:
            return self.rules(topic, partition).minimum
        return min_insync(topic.configs, topic.replication_factor, self.broker_configs.get(ALL_BROKERS, {}))

    def rules(self, topic: Topic, partition: Partition) -> Rules:
        """What this partition's elections are held to."""
        return rules_of(partition, topic.configs, self.broker_configs.get(ALL_BROKERS, {}))

    def digest(self) -> bytes:
        """32 bytes that are equal exactly when two images are (however their mappings are ordered)."""
        return hashlib.blake2b(msgspec.msgpack.encode(_canonical(self)), digest_size=32).digest()


def min_insync(configs: Mapping[str, str], replication_factor: int, defaults: Mapping[str, str]) -> int:
    """The effective min.insync.replicas of a topic: its own, else the cluster's, else 2 where RF >= 3 and 1 below;
    never above RF."""
    configured = configs.get(MIN_INSYNC_REPLICAS, defaults.get(MIN_INSYNC_REPLICAS))
    wanted = int(configured) if configured is not None else (2 if replication_factor >= 3 else 1)
    return min(wanted, replication_factor)


def rules_of(partition: Partition, configs: Mapping[str, str], defaults: Mapping[str, str]) -> Rules:
    """A partition's rules under its topic's configs and those of all brokers.

    While a reassignment changes the number of replicas the smaller number counts: to ask for more replicas must not
    stop who writes to those there are.
    """
    goal = min_insync(configs, len(partition.target), defaults)
    factor = min(len(partition.target), len(partition.settled)) if partition.reassigning else 0
    minimum = min_insync(configs, factor, defaults) if factor else goal
    return Rules(minimum, goal, configs.get(UNCLEAN_RECOVERY, defaults.get(UNCLEAN_RECOVERY)) != "manual")


def empty_image(cluster_id: str | None = None) -> MetadataImage:
    """The image before the first command of a cluster."""
    return MetadataImage(cluster_id=cluster_id)


def _canonical(image: MetadataImage) -> list[object]:
    """Every field as lists in a fixed order: mapping order differs between nodes that replay and nodes that load."""
    topics = [
        (topic.name, topic.topic_id, topic.partitions, sorted(topic.configs.items()))
        for _, topic in sorted(image.topics.items())
    ]
    results = [
        (broker, window.broker_epoch, window.highest, sorted(window.results.items()))
        for broker, window in sorted(image.results.items())
    ]
    later = [  # a part that came with a later format is there only where it, or one after it, says something
        sorted(image.node_ids.items()),
        list(image.changes.items()),
        sorted((name, sorted(configs.items())) for name, configs in image.broker_configs.items()),
    ]
    while later and not later[-1]:
        later.pop()
    return [
        image.index,
        image.cluster_id,
        image.feature_level,
        [broker for _, broker in sorted(image.brokers.items())],
        topics,
        sorted(image.topic_names.items()),
        image.next_producer_id,
        results,
        *later,
    ]
