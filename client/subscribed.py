"""What a consumer subscribes to: topics by their names, or by a regular expression that is looked up in metadata."""

from .cluster import Cluster


class Subscribed:
    """``topics``: the names now. A pattern brings none before the first ``look``."""

    def __init__(self, cluster: Cluster, topics: tuple[str, ...], pattern: str | None = None) -> None:
        self._cluster = cluster
        self.pattern = pattern
        self.topics = topics
        self._seen: object = None

    async def look(self) -> bool:
        """Ask how the topics are; whether they are others, or have more partitions, than at the last look. Raises
        ConnectFailed."""
        if self.pattern is None:
            await self._cluster.refresh(self.topics)
        else:
            self.topics = await self._cluster.matching(self.pattern)
        known = [(name, self._cluster.known_topic(name)) for name in self.topics]
        seen = [(name, found.topic_id, len(found.partitions)) for name, found in known if found is not None]
        before, self._seen = self._seen, seen
        return before is not None and before != seen
