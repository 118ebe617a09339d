"""Reads partitions from their leaders ahead of a consumer, bounded by bytes.

Each leader is asked for all of its partitions that have room and no request under way. A partition that is full is
left out and asked for again once read, in a request of its own beside the long poll of the others.
"""

import asyncio
from collections.abc import Collection, Iterable

from ottla.log.model import BrokerId, Offset, TopicId, TopicPartition

from .backoff import backoff_s
from .cluster import Cluster
from .connection import ConnectionLost
from .error_codes import ErrorCode
from .errors import OttlaError, TopicNotFound
from .fetch_exchange import METADATA_AGE_S, FetchExchange, Source
from .frames import BadFrame
from .jobs import Jobs
from .lookups import learn_ends
from .offsets import list_offsets
from .protocol import EARLIEST, OffsetResult
from .read_ahead import ReadAhead
from .reading import ConsumerOptions, Failed, Fetched, Partition, consumer_closed

LOOKUP_TIMEOUT_S = 5.0
ENDS_AGE_S = 3.0
"""How old the known end of a partition becomes that is not being fetched: paused, held back, or read far ahead."""


class Fetcher:
    """Reads the partitions that it is given. ``growing``: topics whose later partitions are read, too, from their
    beginning."""

    def __init__(self, cluster: Cluster, options: ConsumerOptions) -> None:
        self._cluster = cluster
        self._options = options
        self.partitions: dict[TopicPartition, Partition] = {}
        self.growing: dict[str, TopicId] = {}
        self.read_ahead = ReadAhead()
        self._asked_bytes = 0
        self._jobs = Jobs(self._schedule)
        self._exchange = FetchExchange(cluster, options, self.read_ahead, mute=self._mute, fail=self.fail)
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._refreshed_s = self._ends_s = cluster.clock.monotonic()
        self.closed = False
        self._ended: OttlaError | None = None
        self.has_told = False  # somebody was told why it has ended

    # --- what is read ------------------------------------------------------------------------------------------------

    def add(self, partitions: Iterable[Partition]) -> None:
        """Read these as well."""
        self.partitions.update({partition.key: partition for partition in partitions})
        self._schedule()

    def remove(self, keys: Iterable[TopicPartition]) -> None:
        """Read these no more; what was read ahead of them is dropped."""
        gone = [partition for key in keys if (partition := self.partitions.pop(key, None)) is not None]
        self.read_ahead.discard(gone)
        for partition in gone:
            partition.rewind()
        self._schedule()

    def end(self, error: OttlaError) -> None:
        """Whoever waits for records, now or later, is told this."""
        self._ended = error
        self.read_ahead.news.set()

    def shut(self) -> None:
        """Hand out no more, not even of the batch that is open: whoever asks, or waits, is told that it is closed."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        for partition in self.partitions.values():
            partition.settle()
        self.read_ahead.clear()

    async def close(self) -> None:
        """Stop; what was read ahead is dropped."""
        self.shut()
        await self._jobs.close()
        self.read_ahead.clear()

    # --- for the consumer --------------------------------------------------------------------------------------------

    async def next(self, timeout_s: float | None) -> Fetched | None:
        """The next batch; None after ``timeout_s``. Raises what ended a partition, each time until it is sought."""
        self._cluster.check_loop()
        try:
            async with asyncio.timeout(timeout_s):
                while (fetched := self._pop()) is None:
                    await self.read_ahead.wait()
                return fetched
        except TimeoutError:
            return None

    def _pop(self) -> Fetched | None:
        if self.closed:
            raise consumer_closed()
        self.check()
        item = self.read_ahead.pop()
        if isinstance(item, Failed):
            raise item.error
        if item is not None:
            self._schedule()
            return item
        for partition in self.partitions.values():
            if partition.failure is not None and not partition.paused and not partition.held:
                raise partition.failure
        return None

    def check(self) -> None:
        """Raises what it was ended with."""
        if self._ended is not None:
            self.has_told = True
            raise self._ended

    async def settle(self, timeout_s: float) -> None:
        """Until every partition has a position. Raises what hinders it."""
        try:
            async with asyncio.timeout(timeout_s):
                while any(partition.position is None for partition in self.partitions.values()):
                    if self.closed:
                        raise consumer_closed()
                    for partition in self.partitions.values():
                        if partition.failure is not None:
                            raise partition.failure
                    await self.read_ahead.wait()
        except TimeoutError:
            raise self.stalled() from None

    def stalled(self) -> OttlaError:
        """Why nothing came for so long."""
        if self._exchange.last_problem is not None:
            return self._exchange.last_problem
        topics = ", ".join(sorted({key.topic for key in self.partitions}))
        return OttlaError(f"nothing arrived of {topics}.", code="OTTLA-REQUEST-TIMED-OUT", retriable=True)

    def seek(self, partition: Partition, offset: Offset) -> None:
        self.read_ahead.discard((partition,))
        partition.jump(offset)
        self._schedule()

    def cut(self, partition: Partition, offset: Offset) -> None:
        """What is being handed out ends there: what comes then is read again."""
        self.read_ahead.discard((partition,))
        partition.fetch_again(offset)
        self._schedule()

    def pause(self, partitions: Collection[Partition], *, held_back: bool = False) -> None:
        """Read no more of them; what was read ahead is dropped, to leave its room to others."""
        self.read_ahead.discard(partitions)
        for partition in partitions:
            partition.rewind()
            if held_back:
                partition.held = True
            else:
                partition.paused = True

    def resume(self, partitions: Iterable[Partition], *, held_back: bool = False) -> None:
        for partition in partitions:
            if held_back:
                partition.held = False
            else:
                partition.paused = False
        self._schedule()

    def fail(self, partition: Partition, error: OttlaError) -> None:
        """Nothing more of the partition until it is sought."""
        self.read_ahead.discard((partition,))
        partition.rewind()
        partition.failure = error
        self.read_ahead.add(Failed(partition, partition.generation, error))

    # --- what to do next ---------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._scheduled and not self.closed:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        self._scheduled = False
        if self.closed:
            return
        now_s = self._cluster.clock.monotonic()
        by_source: dict[Source, list[Partition]] = {}
        wants_lookup = leaderless = False
        for partition in self.partitions.values():
            if not self._is_open(partition, now_s):
                continue
            if partition.lookup is not None:
                wants_lookup = True
                continue
            leader = self._cluster.leader(*partition.target)
            if leader is None or leader.broker not in self._cluster.brokers:
                leaderless = True
            elif partition.buffered_bytes < self._options.partition_bytes:
                by_source.setdefault(self._source(partition, leader.broker, now_s), []).append(partition)
        if wants_lookup:
            self._jobs.start_once("lookup", self._look_up)
        if leaderless or now_s - self._refreshed_s > METADATA_AGE_S:
            self._jobs.start_once("refresh", self._refresh)
        for source, partitions in by_source.items():
            self._begin_fetch(source, partitions)
        if now_s - self._ends_s > ENDS_AGE_S:
            self._ends_s = now_s
            self._jobs.start_once("ends", lambda: learn_ends(self._cluster, self.partitions.values()))
        self._set_timer(now_s)

    def _source(self, partition: Partition, leader: BrokerId, now_s: float) -> Source:
        """Who is asked: a follower near by while it is of use, else the leader, which may name one."""
        near = partition.replica
        if near is not None and (now_s >= partition.replica_until_s or near == leader):
            partition.replica = near = None
        if near is not None and near in self._cluster.brokers:
            return Source(near, self._options.rack)
        return Source(leader, self._options.rack if now_s >= partition.replica_banned_until_s else "")

    @staticmethod
    def _is_open(partition: Partition, now_s: float) -> bool:
        idle = partition.paused or partition.held or partition.fetching or partition.failure is not None
        return not idle and partition.muted_until_s <= now_s

    def _set_timer(self, now_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        times = [self._refreshed_s + METADATA_AGE_S + 0.1, self._ends_s + ENDS_AGE_S + 0.1]
        times += [p.muted_until_s for p in self.partitions.values() if p.muted_until_s > now_s]
        self._timer = asyncio.get_running_loop().call_later(max(0.001, min(times) - now_s), self._step)

    # --- metadata and offsets ----------------------------------------------------------------------------------------

    async def _refresh(self) -> None:
        await self._try_refresh()
        await asyncio.sleep(backoff_s(2, self._cluster.chance))

    async def _try_refresh(self) -> None:
        topics = {*self.growing, *(key.topic for key in self.partitions)}
        try:
            await self._cluster.refresh(topics)
        except OttlaError as error:
            self._exchange.last_problem = error
            return
        finally:
            self._refreshed_s = self._cluster.clock.monotonic()
        for partition in list(self.partitions.values()):
            known = self._cluster.known_topic(partition.topic)
            if (known is None or known.topic_id != partition.target.topic_id) and partition.failure is None:
                message = f"the topic {partition.topic} was deleted."
                self.fail(partition, TopicNotFound(message, code=ErrorCode.UNKNOWN_TOPIC_ID.stable_code))
        self._grow()

    def _grow(self) -> None:
        for topic, topic_id in self.growing.items():
            known = self._cluster.known_topic(topic)
            if known is None or known.topic_id != topic_id:
                continue
            for state in known.partitions:
                key = TopicPartition(topic, state.partition)
                if key not in self.partitions:  # a new partition is read from its beginning
                    self.partitions[key] = Partition(topic, topic_id, state.partition, EARLIEST)

    async def _look_up(self) -> None:
        wanted: dict[tuple[TopicId, str], list[Partition]] = {}
        for partition in self.partitions.values():
            if partition.lookup is not None and partition.failure is None:
                wanted.setdefault((partition.target.topic_id, partition.lookup), []).append(partition)
        for (topic_id, position), partitions in wanted.items():
            generations = [partition.generation for partition in partitions]
            numbers = [partition.number for partition in partitions]
            answers = await list_offsets(self._cluster, topic_id, numbers, position, timeout_s=LOOKUP_TIMEOUT_S)
            for partition, generation in zip(partitions, generations, strict=True):
                if partition.generation == generation:
                    self._looked_up(partition, answers[partition.number])
        self.read_ahead.news.set()

    def _looked_up(self, partition: Partition, answer: OffsetResult | OttlaError) -> None:
        if isinstance(answer, OffsetResult):
            partition.looked_up(answer.offset)
            return
        self._exchange.last_problem = answer
        if answer.retriable:
            self._mute(partition, None)
        else:
            self.fail(partition, answer)

    def _mute(self, partition: Partition, pause_s: float | None) -> None:
        if pause_s is None:
            pause_s = backoff_s(partition.failures, self._cluster.chance)
            partition.failures += 1
        partition.muted_until_s = self._cluster.clock.monotonic() + pause_s

    # --- fetching ----------------------------------------------------------------------------------------------------

    def _begin_fetch(self, source: Source, partitions: list[Partition]) -> None:
        options = self._options
        room = options.prefetch_bytes - self.read_ahead.buffered_bytes - self._asked_bytes
        max_bytes = min(options.fetch_bytes, len(partitions) * options.partition_bytes, room)
        if max_bytes <= 0:
            return
        for partition in partitions:
            partition.fetching = True
        self._asked_bytes += max_bytes
        asked = [(partition, partition.generation) for partition in partitions]
        self._jobs.start(f"fetch-{source.broker}", self._fetch(source, asked, max_bytes))

    async def _fetch(self, source: Source, asked: list[tuple[Partition, int]], max_bytes: int) -> None:
        try:
            answer = await self._exchange.ask(source, asked, max_bytes)
            problem = self._exchange.accept(source, asked, answer)
        except (ConnectionLost, BadFrame) as error:
            problem = error if isinstance(error, OttlaError) else ConnectionLost(str(error))
            self._exchange.lost(source, asked)
        finally:
            self._asked_bytes -= max_bytes
            for partition, generation in asked:
                if partition.generation == generation:
                    partition.fetching = False
        if problem is not None:
            self._exchange.last_problem = problem
            self._jobs.start_once("refresh", self._refresh)
