"""Who was stopped while it asked where to begin does not begin: its session may be over."""

from types import SimpleNamespace
from typing import Any

from ottla.client.commits import Place
from ottla.client.group_options import GroupOptions
from ottla.client.group_partitions import LATE_S, GroupPartitions
from ottla.client.reader import Decoding
from ottla.client.reading import ConsumerOptions
from ottla.log.chance import SystemChance
from ottla.log.model import TopicPartition

MINE = frozenset({TopicPartition("t", 0)})


class HandClock:
    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


class Stopped:
    """Commits whose answers are read ``late_s`` after the question, once."""

    def __init__(self, clock: HandClock, late_s: float) -> None:
        self.clock, self.late_s = clock, late_s
        self.stored: dict[TopicPartition, int] = {}

    async def fetch(self, keys: frozenset[TopicPartition]) -> dict[TopicPartition, Any]:
        self.clock.now_s, self.late_s = self.clock.now_s + self.late_s, 0.0
        return {key: Place(7) for key in keys}


async def test_an_answer_that_comes_late_is_asked_for_again() -> None:
    told: list[frozenset[TopicPartition]] = []
    clock = HandClock()
    topic = SimpleNamespace(topic_id="T")
    cluster = SimpleNamespace(clock=clock, chance=SystemChance(), known_topic=lambda name: topic)
    membership = SimpleNamespace(identity=None, owned=MINE, hurry=None)
    parts = GroupPartitions(
        cluster,  # type: ignore[arg-type]
        "g",
        "earliest",
        ConsumerOptions(),
        GroupOptions(on_assigned=told.append),
        lambda coordinator, reader: membership,  # type: ignore[arg-type,return-value]
        Decoding(),
    )
    parts.fetcher = SimpleNamespace(add=lambda begun: None, resume=lambda begun, held_back: None)  # type: ignore[assignment]
    parts.commits = Stopped(clock, LATE_S + 0.1)  # type: ignore[assignment]
    assert await parts.assign(MINE) == frozenset()
    assert not told
    assert await parts.assign(MINE) == MINE
    assert told == [MINE]
