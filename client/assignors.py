"""Who gets which partitions, in the classic protocol, where the group's leader decides: Kafka's four ways, and others.

An assignor is an object with ``name``, ``cooperative`` and ``assign``; all members must know it by the same name.
Given the same subscriptions, an assignor gives the same answer, whoever leads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ottla.log.model import TopicPartition

Assignment = dict[str, frozenset[TopicPartition]]


@dataclass(frozen=True, slots=True)
class MemberSubscription:
    """What a member says when it joins. ``owned``: what it had in ``generation``, None where it has been in none."""

    topics: tuple[str, ...]
    owned: frozenset[TopicPartition] = frozenset()
    generation: int | None = None
    instance_id: str | None = None


class Assignor(Protocol):
    """``cooperative``: members keep what they have while they join (KIP-429); a partition that moves is given to its
    next owner only in the rebalance after the one that took it."""

    @property
    def name(self) -> str: ...
    @property
    def cooperative(self) -> bool: ...

    def assign(self, members: Mapping[str, MemberSubscription], partitions: Mapping[str, int]) -> Assignment:
        """By member id. ``partitions``: how many each topic has; topics that are not there have none."""
        ...


def _in_order(members: Mapping[str, MemberSubscription]) -> list[str]:
    """Static members by their instance id, so that they keep their place over a restart; then the others."""
    return sorted(members, key=lambda name: (members[name].instance_id is None, members[name].instance_id or name))


@dataclass(frozen=True, slots=True)
class RangeAssignor:
    """Each topic in as many runs as it has readers: partitions of one number, of several topics, stay together."""

    name: str = "range"
    cooperative: bool = False

    def assign(self, members: Mapping[str, MemberSubscription], partitions: Mapping[str, int]) -> Assignment:
        given: dict[str, set[TopicPartition]] = {name: set() for name in members}
        for topic, count in sorted(partitions.items()):
            readers = [name for name in _in_order(members) if topic in members[name].topics]
            begin = 0
            for index, name in enumerate(readers):
                size = count // len(readers) + (index < count % len(readers))
                given[name].update(TopicPartition(topic, number) for number in range(begin, begin + size))
                begin += size
        return {name: frozenset(keys) for name, keys in given.items()}


@dataclass(frozen=True, slots=True)
class RoundRobinAssignor:
    """All partitions of all topics, in turn."""

    name: str = "roundrobin"
    cooperative: bool = False

    def assign(self, members: Mapping[str, MemberSubscription], partitions: Mapping[str, int]) -> Assignment:
        given: dict[str, set[TopicPartition]] = {name: set() for name in members}
        order = _in_order(members)
        turn = 0
        for key in _all(partitions):
            for step in range(len(order)):
                name = order[(turn + step) % len(order)]
                if key.topic in members[name].topics:
                    given[name].add(key)
                    turn += step + 1
                    break
        return {name: frozenset(keys) for name, keys in given.items()}


@dataclass(frozen=True, slots=True)
class StickyAssignor:
    """As even as can be, with as few moves as that takes (KIP-54)."""

    name: str = "sticky"
    cooperative: bool = False

    def assign(self, members: Mapping[str, MemberSubscription], partitions: Mapping[str, int]) -> Assignment:
        return {name: frozenset(keys) for name, keys in _sticky(members, partitions).items()}


@dataclass(frozen=True, slots=True)
class CooperativeStickyAssignor:
    """As sticky, in two rebalances: first what moves is taken, then it is given."""

    name: str = "cooperative-sticky"
    cooperative: bool = True

    def assign(self, members: Mapping[str, MemberSubscription], partitions: Mapping[str, int]) -> Assignment:
        target = _sticky(members, partitions)
        owners = _owners(members, partitions)
        return {name: frozenset(key for key in keys if owners.get(key, name) == name) for name, keys in target.items()}


ASSIGNORS: dict[str, Assignor] = {
    one.name: one for one in (RangeAssignor(), RoundRobinAssignor(), StickyAssignor(), CooperativeStickyAssignor())
}


def _all(partitions: Mapping[str, int]) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for topic in sorted(partitions) for number in range(partitions[topic])]


def _owners(members: Mapping[str, MemberSubscription], partitions: Mapping[str, int]) -> dict[TopicPartition, str]:
    """Who has what now. Of two that say so, who was in the later generation; of two of one generation, nobody is to be
    believed to have it alone: the first keeps it."""
    owners: dict[TopicPartition, str] = {}
    for name in _in_order(members):
        member = members[name]
        for key in member.owned:
            if key.partition >= partitions.get(key.topic, 0) or key.topic not in member.topics:
                continue
            other = owners.get(key)
            if other is None or _age(members[other]) < _age(member):
                owners[key] = name
    return owners


def _age(member: MemberSubscription) -> int:
    return -1 if member.generation is None else member.generation


def _sticky(members: Mapping[str, MemberSubscription], partitions: Mapping[str, int]) -> dict[str, set[TopicPartition]]:
    order = _in_order(members)
    readers = {topic: [name for name in order if topic in members[name].topics] for topic in partitions}
    given: dict[str, set[TopicPartition]] = {name: set() for name in order}
    owners = _owners(members, partitions)
    for key, name in owners.items():
        given[name].add(key)
    free = [key for key in _all(partitions) if key not in owners and readers[key.topic]]
    for key in sorted(free, key=lambda key: (len(readers[key.topic]), key)):
        given[min(readers[key.topic], key=lambda name: len(given[name]))].add(key)
    while (move := _move(given, readers)) is not None:
        key, source, target = move
        given[source].remove(key)
        given[target].add(key)
    return given


def _move(
    given: dict[str, set[TopicPartition]], readers: dict[str, list[str]]
) -> tuple[TopicPartition, str, str] | None:
    """One that makes it more even, from whoever has most; None where there is none."""
    for source in sorted(given, key=lambda name: -len(given[name])):
        for topic in sorted({key.topic for key in given[source]}):
            target = min(readers[topic], key=lambda name: len(given[name]))
            if len(given[target]) + 1 < len(given[source]):
                return max(key for key in given[source] if key.topic == topic), source, target
    return None
