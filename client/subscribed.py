"""What a consumer subscribes to: topics by their names, or by a regular expression that is looked up in metadata."""

from ottla.log.model import TopicId

from .cluster import Cluster


class Subscribed:
    """``topics``: the names now. A pattern brings none before the first ``look``."""

    def __init__(self, cluster: Cluster, topics: tuple[str, ...], pattern: str | None = None) -> None:
        self._cluster = cluster
        self.pattern = pattern
        self.topics = topics
        self._noted: list[tuple[str, TopicId | None, int]] | None = None

    async def look(self) -> bool:
        """Ask how the topics are; whether they are others, or have more partitions, than were noted. Raises
        ConnectFailed."""
        if self.pattern is None:
            await self._cluster.refresh(self.topics)
        else:
            self.topics = await self._cluster.matching(self.pattern)
        return self._noted is not None and self._noted != self._state()

    def note(self) -> None:
        """The topics, as they are known, are acted upon now."""
        self._noted = self._state()

    def _state(self) -> list[tuple[str, TopicId | None, int]]:
        known = [(name, self._cluster.known_topic(name)) for name in self.topics]
        return [(name, found.topic_id, len(found.partitions)) for name, found in known if found is not None]
