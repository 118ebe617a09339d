"""Events into the next image: the only code that changes one, on leader, follower and at start alike."""

from collections.abc import Iterable

from msgspec.structs import replace

from ottla.log.model import BrokerId, DirectoryId, TopicId

from .events import (
    BrokerChanged,
    BrokerRegistered,
    ChangeRecorded,
    ConfigsChanged,
    Event,
    NodeIdGiven,
    PartitionChanged,
    PartitionsAdded,
    ProducerIdsAllocated,
    ResultRecorded,
    TopicCreated,
    TopicDeleted,
)
from .image import CHANGES_KEPT, RESULT_WINDOW, Broker, MetadataImage, Partition, ResultWindow, Topic


def replay(image: MetadataImage, event: Event) -> MetadataImage:
    """The image after one event; the given one stays true for whoever holds it."""
    return replay_all(image, (event,))


def replay_all(image: MetadataImage, events: Iterable[Event]) -> MetadataImage:
    """The image after these events, copying each mapping and each topic's partitions at most once."""
    delta = _Delta(image)
    for event in events:
        delta.replay(event)
    return delta.freeze()


class _Delta:
    """An image being changed. Only what is touched is copied: a fence may change thousands of partitions."""

    def __init__(self, image: MetadataImage) -> None:
        self._base = image
        self._brokers: dict[BrokerId, Broker] | None = None
        self._topics: dict[str, Topic] | None = None
        self._topic_names: dict[TopicId, str] | None = None
        self._results: dict[BrokerId, ResultWindow] | None = None
        self._partitions: dict[str, list[Partition]] = {}  # by topic name
        self._node_ids: dict[DirectoryId, BrokerId] | None = None
        self._changes: dict[str, bytes] | None = None
        self._broker_configs: dict[str, dict[str, str]] | None = None
        self._next_producer_id = image.next_producer_id

    def replay(self, event: Event) -> None:
        match event:
            case BrokerRegistered(broker=broker):
                self._writable_brokers()[broker.broker_id] = broker
                self._writable_results().pop(broker.broker_id, None)
            case BrokerChanged(broker=broker):
                self._writable_brokers()[broker.broker_id] = broker
            case NodeIdGiven(directory_id=directory_id, node_id=node_id):
                self._node_ids = {**(self._node_ids or self._base.node_ids), directory_id: node_id}
            case TopicCreated(topic=topic):
                self._writable_topics()[topic.name] = topic
                self._writable_names()[topic.topic_id] = topic.name
            case TopicDeleted(topic_id=topic_id):
                name = self._writable_names().pop(topic_id)
                del self._writable_topics()[name]
                self._partitions.pop(name, None)
            case ConfigsChanged():
                self._change_configs(event)
            case PartitionsAdded(topic_id=topic_id, partitions=partitions):
                self._partitions_of(topic_id).extend(partitions)
            case PartitionChanged(topic_id=topic_id, partition=partition, state=state):
                self._partitions_of(topic_id)[partition] = state
            case ProducerIdsAllocated(next_producer_id=next_producer_id):
                self._next_producer_id = next_producer_id
            case ResultRecorded():
                self._record(event)
            case ChangeRecorded(change_id=change_id, result=result):
                changes = self._changes = {**(self._changes or self._base.changes), change_id: result}
                if len(changes) > CHANGES_KEPT:
                    del changes[next(iter(changes))]

    def freeze(self) -> MetadataImage:
        if self._partitions:
            topics = self._writable_topics()
            for name, partitions in self._partitions.items():
                topics[name] = replace(topics[name], partitions=tuple(partitions))
        base = self._base
        return replace(
            base,
            brokers=base.brokers if self._brokers is None else self._brokers,
            topics=base.topics if self._topics is None else self._topics,
            topic_names=base.topic_names if self._topic_names is None else self._topic_names,
            results=base.results if self._results is None else self._results,
            node_ids=base.node_ids if self._node_ids is None else self._node_ids,
            changes=base.changes if self._changes is None else self._changes,
            broker_configs=base.broker_configs if self._broker_configs is None else self._broker_configs,
            next_producer_id=self._next_producer_id,
        )

    def _record(self, event: ResultRecorded) -> None:
        results = self._writable_results()
        window = results.get(event.broker_id)
        if window is None or window.broker_epoch != event.broker_epoch:
            window = ResultWindow(event.broker_epoch, event.sequence, {})
        highest = max(window.highest, event.sequence)
        kept = {sequence: result for sequence, result in window.results.items() if sequence > highest - RESULT_WINDOW}
        kept[event.sequence] = event.result
        results[event.broker_id] = ResultWindow(event.broker_epoch, highest, kept)

    def _change_configs(self, event: ConfigsChanged) -> None:
        if event.topic_id is None:
            configs = {**(self._broker_configs or self._base.broker_configs), event.broker: event.configs}
            self._broker_configs = {broker: texts for broker, texts in configs.items() if texts}
            return
        topics = self._writable_topics()
        name = (self._base.topic_names if self._topic_names is None else self._topic_names)[event.topic_id]
        topics[name] = replace(topics[name], configs=event.configs)

    def _partitions_of(self, topic_id: TopicId) -> list[Partition]:
        names = self._base.topic_names if self._topic_names is None else self._topic_names
        name = names[topic_id]
        if name not in self._partitions:
            topics = self._base.topics if self._topics is None else self._topics
            self._partitions[name] = list(topics[name].partitions)
        return self._partitions[name]

    def _writable_brokers(self) -> dict[BrokerId, Broker]:
        if self._brokers is None:
            self._brokers = dict(self._base.brokers)
        return self._brokers

    def _writable_topics(self) -> dict[str, Topic]:
        if self._topics is None:
            self._topics = dict(self._base.topics)
        return self._topics

    def _writable_names(self) -> dict[TopicId, str]:
        if self._topic_names is None:
            self._topic_names = dict(self._base.topic_names)
        return self._topic_names

    def _writable_results(self) -> dict[BrokerId, ResultWindow]:
        if self._results is None:
            self._results = dict(self._base.results)
        return self._results
