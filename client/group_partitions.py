"""What a consumer in a group does with partitions as the group gives and takes them, and what it commits of them."""

import asyncio
import inspect
from collections.abc import Callable, Iterable
from contextvars import ContextVar

from ottla.log.model import Offset, TopicPartition

from .callbacks import CallbackFailed
from .cluster import Cluster
from .commits import Commits, NoCommits, Place
from .coordinator import GroupCoordinator
from .errors import OttlaError
from .fetcher import Fetcher
from .group_options import GroupOptions, OnPartitions
from .in_hand import InHand
from .membership import Keys, Membership, Reader as PartitionReader
from .protocol import EARLIEST
from .reader import Decoding, Reader
from .reading import ConsumerOptions, Partition

LATE_S = 2.0
"""A committed offset that took longer to come may be older than this member's session: the process may have been
stopped meanwhile, and its partitions be others' already."""
LEFT_MARGIN = 0.9
"""A revocation waits for the handler for this part of what the coordinator allows."""

in_callback: ContextVar[bool] = ContextVar("in_callback", default=False)
"""Whether a callback calls: what the handler has in hand meanwhile, it is not done with."""

Join = Callable[[GroupCoordinator, PartitionReader], Membership]


class GroupPartitions:
    """A membership's Reader. ``start``: where to begin where the group has committed nothing. ``slow``: the handler has
    had its record for too long, and everything is held back."""

    def __init__(
        self,
        cluster: Cluster,
        group: str | None,
        start: str,
        options: ConsumerOptions,
        group_options: GroupOptions,
        join: Join,
        decoding: Decoding,
    ) -> None:
        self._cluster = cluster
        self._start = start
        self._options = group_options
        self.fetcher = Fetcher(cluster, options)
        self.reader = Reader(self.fetcher, cluster.clock, decoding)
        self.hand = InHand(cluster.clock)
        coordinator = GroupCoordinator(cluster, group or "")
        self.membership = join(coordinator, self)
        self._in_group = group is not None
        self.commits = (Commits if self._in_group else NoCommits)(
            coordinator, self.membership.identity, lambda: self.membership.owned, self.membership.hurry
        )
        self.last_commit_error: OttlaError | None = None
        self.failure: CallbackFailed | None = None
        self._slow = False
        self._in_transit: set[TopicPartition] = set()  # being assigned or revoked: held back until that is done

    # --- the handler -------------------------------------------------------------------------------------------------

    def handler_is_back(self) -> None:
        """It asks for more: what it had is finished."""
        if self.hand.is_shown_one_by_one:
            self.take_back(list(self.fetcher.partitions.values()))
        self.hand.finish()
        if self._slow:
            self._slow = False
            self.fetcher.resume(self._settled(), held_back=True)

    def _look_at_the_handler(self) -> None:
        """One that is slow keeps its place in the group, and no memory."""
        if not self._slow and self.hand.held_s() > self._options.max_poll_interval_s:
            self._slow = True
            self.fetcher.pause(self._settled(), held_back=True)

    def _settled(self) -> list[Partition]:
        return [partition for key, partition in self.fetcher.partitions.items() if key not in self._in_transit]

    # --- commits -----------------------------------------------------------------------------------------------------

    def finished(self, keys: Iterable[TopicPartition]) -> dict[TopicPartition, Place]:
        """Of each partition, what the handler has finished, where that is news."""
        places: dict[TopicPartition, Place] = {}
        for key in sorted(keys):
            partition = self.fetcher.partitions.get(key)
            if partition is None or partition.position is None:
                continue
            offset = self.hand.first_of(key)
            offset = partition.position if offset is None else offset
            if self.commits.stored.get(key) != offset:
                places[key] = Place(offset, partition.trail.before(offset), partition.target.topic_id)
        return places

    async def commit_forever(self) -> None:
        """Behind the loop. A bug of ours ends the reading, too: it must not go on without a commit, unheard."""
        try:
            await self._commit_forever()
        except Exception as error:
            ended = OttlaError(f"commits ended by {type(error).__name__}: {error}")
            ended.__cause__ = error
            self.end(ended)

    async def _commit_forever(self) -> None:
        options = self._options
        while True:
            await asyncio.sleep(options.commit_interval_s)
            self._look_at_the_handler()
            if options.auto_commit:
                await self.try_commit(self.finished(self.fetcher.partitions), options.commit_timeout_s)

    async def try_commit(self, places: dict[TopicPartition, Place], timeout_s: float) -> None:
        """A commit behind the loop: what fails is tried again with the next one, or read again by others."""
        try:
            await self.commits.commit(places, timeout_s=timeout_s)
        except OttlaError as error:
            self.last_commit_error = error
        else:
            self.last_commit_error = None

    # --- what the membership tells -----------------------------------------------------------------------------------

    async def assign(self, keys: Keys) -> Keys:
        """Begin with these, where the group has got to."""
        if not keys:
            return keys
        asked_s = self._cluster.clock.monotonic()
        try:
            committed = await self.commits.fetch(keys)
        except OttlaError as error:
            if not error.retriable and error.code != "OTTLA-COMMIT-FAILED":
                raise
            return frozenset()
        if self._cluster.clock.monotonic() - asked_s > LATE_S:
            return frozenset()
        begun: list[Partition] = []
        for key in sorted(keys):
            known = self._cluster.known_topic(key.topic)
            if known is None or known.topic_id is None:
                continue
            partition = Partition(key.topic, known.topic_id, key.partition, self._start)
            found = committed.get(key)
            if found is not None and found.offset is not None and found.topic_id in (None, known.topic_id):
                partition.begin_at(found.offset, found.leader_epoch)  # whatever the log holds now: the group was there
                self.commits.stored[key] = found.offset
            partition.held = True
            begun.append(partition)
        started = frozenset(partition.key for partition in begun)
        self._in_transit |= started
        if not self._in_group:
            self._start = EARLIEST  # what comes from now on is new
        self.fetcher.add(begun)
        await self.tell(self._options.on_assigned, started)
        self._in_transit -= started
        self.fetcher.resume(begun, held_back=True)
        return started

    async def revoke(self, keys: Keys) -> None:
        """Let go of these, when the handler is done with what it holds of them."""
        await self._finish(keys)
        await self.tell(self._options.on_revoked, keys)  # which may commit: what is still in hand is not finished
        self.hand.forget(keys)
        self._let_go(keys)

    async def give_up(self) -> None:
        """Let go of all, when the handler is done with what it holds, and call nobody. It is shown nothing more."""
        keys = frozenset(self.fetcher.partitions)
        await self._finish(keys)
        self.hand.forget(keys)
        self._let_go(keys)

    async def _finish(self, keys: Keys) -> None:
        options = self._options
        partitions = [self.fetcher.partitions[key] for key in sorted(keys)]
        self._in_transit |= keys
        self.take_back(partitions)
        self.fetcher.pause(partitions, held_back=True)
        await self.hand.free_of(keys, options.max_poll_interval_s * LEFT_MARGIN)
        places = self.finished(keys) if options.auto_commit else {}
        await self.try_commit(places, options.commit_timeout_s)

    async def lose(self, keys: Keys) -> None:
        """These are others' already."""
        self.hand.take_back(keys)
        self.hand.forget(keys)
        self._let_go(keys)
        await self.tell(self._options.on_lost, keys)

    def outlived(self, keys: Keys) -> Keys:
        """Those whose topic has another id now: under its name there is nothing of theirs."""

        def is_another(key: TopicPartition) -> bool:
            known = self._cluster.known_topic(key.topic)
            begun = self.fetcher.partitions[key].target.topic_id
            return known is not None and known.topic_id not in (None, begun)

        return frozenset(filter(is_another, keys))

    def take_back(self, partitions: list[Partition]) -> None:
        """Drop what was decoded and not shown to the handler yet: it is the next to be read."""
        unseen = self.hand.take_back([partition.key for partition in partitions])
        behind = [self.fetcher.partitions[key] for key in unseen]
        for partition in behind:
            self.fetcher.seek(partition, Offset(unseen[partition.key]))

    def _let_go(self, keys: Keys) -> None:
        self.fetcher.remove(keys)
        self._in_transit -= keys
        self.commits.let_go(keys)

    def end(self, error: OttlaError) -> None:
        """Reading ends with this error."""
        self.failure = error if isinstance(error, CallbackFailed) else None
        self.fetcher.end(error)

    async def tell_last(self) -> None:
        """That the consumer closes; not where a callback has failed before."""
        if self.failure is None:
            await self.tell(self._options.on_revoked, frozenset(self.fetcher.partitions))

    def raise_untold(self) -> None:
        """Raises that a callback has failed, where nobody was told."""
        if self.failure is not None and not self.fetcher.has_told:
            self.fetcher.check()

    @staticmethod
    async def tell(callback: OnPartitions | None, keys: Keys) -> None:
        """Call a callback of the user's, if there is one, and anything to tell."""
        if callback is None or not keys:
            return
        before = in_callback.set(True)
        try:
            answer = callback(keys)
            if inspect.isawaitable(answer):
                await answer
        finally:
            in_callback.reset(before)
