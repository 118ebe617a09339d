"""The topics that regular expressions mean, kept from one image to the next. Pure.

Only names that are new are matched: a topic that is made costs each pattern one match, and not one for every topic.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ottla.client.topic_pattern import matching

PATTERNS_MAX = 1_000
"""So many are remembered, with the topics that they mean."""
IMAGES_MAX = 16
"""For so many images a pattern that nobody asks for is remembered: each has its own set of names."""


class _Matched(NamedTuple):
    """``among``: all names there were, in the image of that number."""

    among: frozenset[str]
    image: int
    names: tuple[str, ...]


class MatchedTopics:
    """Asked with the topics of the newest image."""

    def __init__(self) -> None:
        self._topics: Mapping[str, Any] | None = None
        self._all: frozenset[str] = frozenset()
        self._image = 0
        self._matched: dict[str, _Matched] = {}

    def names(self, pattern: str, topics: Mapping[str, Any]) -> tuple[str, ...]:
        """What a valid pattern means, sorted."""
        if self._topics is not topics:
            self._turn_to(topics)
        found = self._matched.get(pattern)
        if found is None or found.among is not self._all:
            found = self._match(pattern, found)
            if len(self._matched) >= PATTERNS_MAX and pattern not in self._matched:
                self._matched.clear()
            self._matched[pattern] = found
        return found.names

    def _turn_to(self, topics: Mapping[str, Any]) -> None:
        self._topics, self._all = topics, frozenset(topics)
        self._image += 1
        oldest = self._image - IMAGES_MAX
        for pattern in [pattern for pattern, found in self._matched.items() if found.image < oldest]:
            del self._matched[pattern]

    def _match(self, pattern: str, before: _Matched | None) -> _Matched:
        if before is None:
            return _Matched(self._all, self._image, matching(pattern, self._all))
        kept = [name for name in before.names if name in self._all]
        new = matching(pattern, self._all - before.among)
        return _Matched(self._all, self._image, tuple(sorted([*kept, *new])))
