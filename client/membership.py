"""What a consumer needs to know of its place in a group, whichever protocol keeps it."""

from collections.abc import Collection
from typing import Protocol

from ottla.log.model import TopicPartition

from .commits import Identity
from .errors import OttlaError

Keys = frozenset[TopicPartition]


class Reader(Protocol):
    """What the membership tells to do with partitions; each is awaited before the next."""

    async def revoke(self, keys: Keys) -> None:
        """Hand out no more of these, wait for what is being handled, commit."""

    async def assign(self, keys: Keys) -> Keys:
        """Begin with these. Returns those that were begun: what is missing is asked for again."""
        ...

    async def lose(self, keys: Keys) -> None:
        """Drop these at once; they belong to others."""

    async def give_up(self) -> None:
        """A callback has failed: let go of all, once the handler is done with what it holds, and call no other."""

    def outlived(self, keys: Keys) -> Keys:
        """Those of a topic that was deleted and made again since they were begun with."""
        ...

    def end(self, error: OttlaError) -> None:
        """There is no way back into the group: whoever reads is told."""


class Membership(Protocol):
    """A place in a group."""

    @property
    def owned(self) -> Collection[TopicPartition]:
        """What this member may commit."""
        ...

    def identity(self) -> Identity:
        """Who this member is now."""
        ...

    def start(self) -> None:
        """Join, and stay."""

    def hurry(self) -> None:
        """Ask the coordinator how things stand, now."""

    async def stop(self) -> None:
        """Stop to do what the coordinator says; still a member."""

    async def leave(self) -> None:
        """Go, once all is committed. Never raises."""
