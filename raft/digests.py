"""Whether all nodes hold the same metadata (pure): each reports a digest now and then, and the odd one out must stop.

Equal commands make equal images, unless a bit flips or a version decides otherwise than it did. Then the node that
differs from a majority of the voters is the one that is wrong, be it the leader.
"""

from collections import Counter
from dataclasses import dataclass

from ottla.log.model import BrokerId

DIGEST_EVERY = 1_000
"""Commands between two digests."""
KEPT = 4
"""Digest indexes that are remembered: a slow node may be that many behind."""


@dataclass(frozen=True, slots=True)
class ImageDigest:
    """The digest of the image after the command at ``index``."""

    index: int
    digest: bytes


def is_due(before: int, index: int) -> bool:
    """Whether the command at ``index`` is the first one of another thousand. The same on every node."""
    return index // DIGEST_EVERY != before // DIGEST_EVERY


class DigestVotes:
    """What the controller has heard. ``voters``: how many nodes there are to agree, numbered from 1; others
    are measured by them and do not vote."""

    def __init__(self, voters: int) -> None:
        self._voters = voters
        self._majority = voters // 2 + 1
        self._heard: dict[int, dict[BrokerId, bytes]] = {}

    def note(self, broker: BrokerId, digest: ImageDigest) -> None:
        """``broker`` reports its image."""
        self._heard.setdefault(digest.index, {})[broker] = digest.digest
        while len(self._heard) > KEPT:
            del self._heard[min(self._heard)]

    def differs(self, broker: BrokerId) -> bool:
        """Whether a majority of the voters agrees on an image that is not this broker's."""
        for votes in self._heard.values():
            own = votes.get(broker)
            counted = Counter(digest for voter, digest in votes.items() if voter <= self._voters)
            if own is not None and any(count >= self._majority and own != agreed for agreed, count in counted.items()):
                return True
        return False
