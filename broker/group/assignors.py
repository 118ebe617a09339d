"""Who gets which partitions: the assignors that run on the coordinator (KIP-848). Pure and deterministic.

``subscriptions``: by member, the topics it wants. ``counts``: partitions by topic. ``current``: the target until now.
"""

import heapq
from collections.abc import Callable, Collection, Mapping

from ottla.log.model import TopicId, TopicIdPartition

from .records import Partitions

Subscriptions = Mapping[str, Collection[TopicId]]
Target = dict[str, Partitions]
Assignor = Callable[[Subscriptions, Mapping[TopicId, int], Mapping[str, Partitions]], Target]


def uniform(subscriptions: Subscriptions, counts: Mapping[TopicId, int], current: Mapping[str, Partitions]) -> Target:
    """As even as subscriptions allow, and moving as little as that allows (KIP-848's default)."""
    owned: dict[str, set[TopicIdPartition]] = {member: set() for member in subscriptions}
    readers: dict[TopicId, list[str]] = {}
    for member in sorted(subscriptions):
        for topic_id in subscriptions[member]:
            readers.setdefault(topic_id, []).append(member)
    free = dict.fromkeys(_partitions(readers, counts))
    for member in sorted(subscriptions):
        for partition in sorted(current.get(member, ())):
            if partition in free and partition.topic_id in subscriptions[member]:
                owned[member].add(partition)
                del free[partition]
    loads = _Loads(owned, readers)
    for partition in free:
        loads.give(partition, loads.least(partition.topic_id))
    while _level(loads):
        pass
    return {member: frozenset(partitions) for member, partitions in owned.items()}


class _Loads:
    """Who has how much, and who of a topic's readers has least: a heap for each set of readers, in which entries that
    are not true any more are passed over when they come to the top."""

    def __init__(self, owned: dict[str, set[TopicIdPartition]], readers: Mapping[TopicId, list[str]]) -> None:
        self.owned = owned
        self._heaps: dict[tuple[str, ...], list[tuple[int, str]]] = {}
        self._of_topic = {topic_id: tuple(members) for topic_id, members in readers.items()}
        self._of_member: dict[str, list[list[tuple[int, str]]]] = {member: [] for member in owned}
        for members in self._of_topic.values():
            if members not in self._heaps:
                heap = self._heaps[members] = [(len(owned[member]), member) for member in members]
                heapq.heapify(heap)
                for member in members:
                    self._of_member[member].append(heap)

    def least(self, topic_id: TopicId) -> str:
        heap = self._heaps[self._of_topic[topic_id]]
        while heap[0][0] != len(self.owned[heap[0][1]]):
            heapq.heappop(heap)
        return heap[0][1]

    def give(self, partition: TopicIdPartition, member: str) -> None:
        self.owned[member].add(partition)
        self._changed(member)

    def move(self, partition: TopicIdPartition, giver: str, taker: str) -> None:
        self.owned[giver].remove(partition)
        self._changed(giver)
        self.give(partition, taker)

    def _changed(self, member: str) -> None:
        for heap in self._of_member[member]:
            heapq.heappush(heap, (len(self.owned[member]), member))


def _level(loads: _Loads) -> bool:
    """Move partitions, one by one, from who has most to who may have them and has at least two less; whether any was.
    Each move makes the sum of the squares smaller, so this ends. Taking from whoever has most then is what keeps moves
    few: nobody gives what it would get back."""
    moved, owned = False, loads.owned
    stacks = {member: _by_topic(partitions) for member, partitions in owned.items()}
    heaviest = [(-len(partitions), member) for member, partitions in owned.items()]
    heapq.heapify(heaviest)
    while heaviest:
        size, giver = heapq.heappop(heaviest)
        topics = [topic_id for topic_id, numbers in stacks[giver].items() if numbers]
        if -size != len(owned[giver]) or not topics:
            continue
        topic_id = min(topics, key=lambda topic_id: (len(owned[loads.least(topic_id)]), topic_id))
        taker = loads.least(topic_id)
        if len(owned[giver]) - len(owned[taker]) < 2:
            continue
        partition = stacks[giver][topic_id].pop()
        loads.move(partition, giver, taker)
        stacks[taker].setdefault(topic_id, []).append(partition)
        for member in (giver, taker):
            heapq.heappush(heaviest, (-len(owned[member]), member))
        moved = True
    return moved


def _by_topic(partitions: Collection[TopicIdPartition]) -> dict[TopicId, list[TopicIdPartition]]:
    found: dict[TopicId, list[TopicIdPartition]] = {}
    for partition in sorted(partitions):
        found.setdefault(partition.topic_id, []).append(partition)
    return found


def range_(subscriptions: Subscriptions, counts: Mapping[TopicId, int], current: Mapping[str, Partitions]) -> Target:
    """Neighbouring partitions of each topic, the same numbers of every topic to the same member: for joins of topics
    that are partitioned alike. Members are ordered by their ids."""
    owned: dict[str, set[TopicIdPartition]] = {member: set() for member in subscriptions}
    for topic_id, count in counts.items():
        members = sorted(member for member, topics in subscriptions.items() if topic_id in topics)
        for place, member in enumerate(members):
            first, end = place * count // len(members), (place + 1) * count // len(members)
            owned[member].update(TopicIdPartition(topic_id, number) for number in range(first, end))
    return {member: frozenset(partitions) for member, partitions in owned.items()}


def _partitions(topics: Collection[TopicId], counts: Mapping[TopicId, int]) -> list[TopicIdPartition]:
    return [TopicIdPartition(topic_id, n) for topic_id in sorted(topics) for n in range(counts.get(topic_id, 0))]


ASSIGNORS: Mapping[str, Assignor] = {"uniform": uniform, "range": range_}
DEFAULT_ASSIGNOR = "uniform"
