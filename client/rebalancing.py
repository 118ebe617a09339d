"""Which replicas should move so that brokers hold and lead evenly, and racks are kept apart (pure).

Greedy, one replica at a time, from who holds too much to who holds too little: an even cluster gives an empty plan, and
no move is made that a later one undoes. Leaders are then evened by order alone, which moves no data, along paths:
a broker hands one partition to a second, which hands another to a third.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ottla.log.model import BrokerId

Replicas = tuple[BrokerId, ...]
Place = tuple[str, int]
"""Topic and partition."""
Racks = Mapping[BrokerId, str | None]
"""The brokers that may hold replicas, and where each is."""


class Move(NamedTuple):
    """One partition's replicas as they are and as they should be, the preferred leader first."""

    place: Place
    before: Replicas
    after: Replicas

    @property
    def adds(self) -> Replicas:
        """Who has to copy the partition; empty where only the order changes."""
        return tuple(broker for broker in self.after if broker not in self.before)


class DoesNotFit(ValueError):
    """A partition has more replicas than there are brokers to hold them; the text says which."""


def plan(partitions: Mapping[Place, Replicas], racks: Racks) -> list[Move]:
    """Moves after which brokers hold and lead evenly, in the order of places. Replicas on brokers that are not in
    ``racks`` go elsewhere; racks are as far apart as they can be, never nearer than they were. Raises DoesNotFit."""
    after = _Layout(partitions, racks)
    after.vacate()
    after.part_racks()
    after.even_replicas()
    after.even_leaders()
    return [
        Move(place, before, after.replicas[place])
        for place, before in sorted(partitions.items())
        if after.replicas[place] != before
    ]


def vacate(partitions: Mapping[Place, Replicas], racks: Racks, leaving: BrokerId) -> list[Move]:
    """Only the moves that leave nothing on one broker; others that are not in ``racks`` keep what they hold, and get
    nothing. Raises DoesNotFit."""
    after = _Layout(partitions, racks)
    after.vacate(leaving)
    return [
        Move(place, before, after.replicas[place])
        for place, before in sorted(partitions.items())
        if after.replicas[place] != before
    ]


class _Layout:
    """Who holds what, while it is being changed."""

    def __init__(self, partitions: Mapping[Place, Replicas], racks: Racks) -> None:
        self.racks = racks
        self.replicas = dict(sorted(partitions.items()))
        self.held: Counter[BrokerId] = Counter(dict.fromkeys(racks, 0))
        for replicas in self.replicas.values():
            self.held.update(broker for broker in replicas if broker in racks)

    def vacate(self, leaving: BrokerId | None = None) -> None:
        """Who leaves, or else everybody that is not there, holds nothing."""
        for place, replicas in self.replicas.items():
            for broker in replicas:
                if broker not in self.racks if leaving is None else broker == leaving:
                    target = self._least_held(place, broker)
                    if target is None:
                        raise DoesNotFit(
                            f"{place[0]}-{place[1]} has {len(replicas)} replicas, and only {len(self.racks)} nodes "
                            "are there to hold them"
                        )
                    self._replace(place, broker, target)

    def part_racks(self) -> None:
        """Two replicas in one rack are parted where another rack has none, in the fewest moves."""
        for place in self.replicas:
            while (step := self._parting(place)) is not None:
                self._replace(place, *step)

    def even_replicas(self) -> None:
        """Until no broker holds two more than another that could take one of them."""
        while (step := self._evening()) is not None:
            self._replace(*step)

    def even_leaders(self) -> None:
        """Until no broker is preferred for two more partitions than another that can be reached."""
        while path := self._path():
            for place, leader in path:
                others = tuple(broker for broker in self.replicas[place] if broker != leader)
                self.replicas[place] = (leader, *others)

    def _least_held(self, place: Place, instead_of: BrokerId) -> BrokerId | None:
        """The best broker to take a replica over: in a rack of its own, and holding little."""
        replicas = self.replicas[place]
        rest = {self.racks.get(broker) for broker in replicas if broker != instead_of}
        free = [broker for broker in self.racks if broker not in replicas]

        def cost(broker: BrokerId) -> tuple[bool, int, int]:
            rack = self.racks[broker]
            return rack is not None and rack in rest, self.held[broker], broker

        return min(free, key=cost, default=None)

    def _parting(self, place: Place) -> tuple[BrokerId, BrokerId] | None:
        replicas = self.replicas[place]
        crowd = Counter(self.racks[broker] for broker in replicas)
        crowded = [broker for broker in replicas if self.racks[broker] is not None and crowd[self.racks[broker]] > 1]
        fresh = [broker for broker in self.racks if self.racks[broker] is not None and not crowd[self.racks[broker]]]
        if not crowded or not fresh:
            return None
        source = max(crowded, key=lambda broker: (crowd[self.racks[broker]], self.held[broker], -broker))
        return source, min(fresh, key=lambda broker: (self.held[broker], broker))

    def _evening(self) -> tuple[Place, BrokerId, BrokerId] | None:
        order = sorted(self.held, key=lambda broker: (self.held[broker], broker))
        for source in reversed(order):
            for target in order:
                if self.held[source] - self.held[target] < 2:
                    break
                for place, replicas in self.replicas.items():
                    if source in replicas and target not in replicas and self._may_replace(replicas, source, target):
                        return place, source, target
        return None

    def _may_replace(self, replicas: Replicas, source: BrokerId, target: BrokerId) -> bool:
        """Whether racks are no nearer afterwards."""
        rack = self.racks[target]
        if rack is None or rack == self.racks[source]:
            return True
        rest = [self.racks[broker] for broker in replicas if broker != source]
        return rack not in rest or self.racks[source] in rest

    def _path(self) -> list[tuple[Place, BrokerId]]:
        """Whom to make the preferred leader of which partitions, so that one who leads too many leads one less and
        one who leads too few one more."""
        leads: Counter[BrokerId] = Counter(dict.fromkeys(self.racks, 0))
        by_leader: dict[BrokerId, list[Place]] = {}
        for place, replicas in self.replicas.items():
            leads[replicas[0]] += 1
            by_leader.setdefault(replicas[0], []).append(place)
        for start in sorted(leads, key=lambda broker: (-leads[broker], broker)):
            found = self._search(start, leads, by_leader)
            if found:
                return found
        return []

    def _search(
        self, start: BrokerId, leads: Counter[BrokerId], by_leader: Mapping[BrokerId, Sequence[Place]]
    ) -> list[tuple[Place, BrokerId]]:
        came: dict[BrokerId, tuple[Place, BrokerId] | None] = {start: None}
        waiting = deque([start])
        while waiting:
            broker = waiting.popleft()
            if leads[start] - leads[broker] >= 2:
                return _walk_back(came, broker)
            for place in by_leader.get(broker, ()):
                for other in self.replicas[place][1:]:
                    if other not in came:
                        came[other] = (place, broker)
                        waiting.append(other)
        return []

    def _replace(self, place: Place, source: BrokerId, target: BrokerId) -> None:
        self.replicas[place] = tuple(target if broker == source else broker for broker in self.replicas[place])
        if source in self.held:
            self.held[source] -= 1
        self.held[target] += 1


def _walk_back(
    came: Mapping[BrokerId, tuple[Place, BrokerId] | None], broker: BrokerId
) -> list[tuple[Place, BrokerId]]:
    path: list[tuple[Place, BrokerId]] = []
    while (step := came[broker]) is not None:
        path.append((step[0], broker))
        broker = step[1]
    return path


def spread(values: Iterable[int]) -> int:
    """How much the largest is above the smallest; 0 where there are none."""
    numbers = list(values)
    return max(numbers) - min(numbers) if numbers else 0
