"""Who gets which partitions: the assignors that run on the coordinator (KIP-848). Pure and deterministic.

``subscriptions``: by member, the topics it wants. ``counts``: partitions by topic. ``current``: the target until now.
"""

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
    for partition in free:
        owned[_least(readers[partition.topic_id], owned)].add(partition)
    while _level(owned, readers):
        pass
    return {member: frozenset(partitions) for member, partitions in owned.items()}


def _least(members: Collection[str], owned: Mapping[str, Collection[TopicIdPartition]]) -> str:
    return min(members, key=lambda member: (len(owned[member]), member))


def _level(owned: dict[str, set[TopicIdPartition]], readers: Mapping[TopicId, list[str]]) -> bool:
    """Move partitions from who has more to who may have them and has at least two less; whether any was. Each move
    makes the sum of the squares smaller, so this ends."""
    moved = False
    for giver in sorted(owned, key=lambda member: (-len(owned[member]), member)):
        for topic_id in sorted({partition.topic_id for partition in owned[giver]}):
            mine = sorted(partition for partition in owned[giver] if partition.topic_id == topic_id)
            while mine:
                taker = _least(readers[topic_id], owned)
                if len(owned[giver]) - len(owned[taker]) < 2:
                    break
                partition = mine.pop()
                owned[giver].remove(partition)
                owned[taker].add(partition)
                moved = True
    return moved


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
