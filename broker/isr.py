"""The in-sync replicas as their leader sees them: what is committed, what is asked for, and what must be assumed.

Between asking the quorum for a change and hearing of its outcome a leader cannot know which of the two sets is true,
so it counts on the *maximal* one: committed members and everyone it has asked to add (KIP-497). A member it has asked
to remove stays counted until the removal is committed.
"""

from dataclasses import dataclass

from ottla.log.model import BrokerId, PartitionEpoch


@dataclass(slots=True)
class InSyncReplicas:
    """One leader's view. ``pending`` is what an AlterPartition in flight asks for; None when there is none."""

    committed: frozenset[BrokerId]
    partition_epoch: PartitionEpoch
    pending: frozenset[BrokerId] | None = None

    @property
    def maximal(self) -> frozenset[BrokerId]:
        """Everyone whose copy the high watermark must wait for."""
        return self.committed if self.pending is None else self.committed | self.pending

    def ask(self, members: frozenset[BrokerId]) -> None:
        """An AlterPartition for ``members`` leaves for the quorum. One at a time."""
        assert self.pending is None
        self.pending = members

    def refused(self) -> None:
        """The quorum will never commit what was asked: nothing of it needs to be assumed any longer."""
        self.pending = None

    def commit(self, members: frozenset[BrokerId], partition_epoch: PartitionEpoch) -> None:
        """The quorum committed ``members`` at ``partition_epoch``.

        What is pending stays assumed: its outcome is known only from its own answer. The compare-and-set makes the
        two orders agree, for a change at another epoch refuses the one that is pending.
        """
        assert partition_epoch >= self.partition_epoch
        self.committed = members
        self.partition_epoch = partition_epoch
