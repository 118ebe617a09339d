"""The follower's side of replication: one task per leader broker pulls for all partitions that follow it.

The next fetch is the acknowledgement, so a follower asks again before it does anything else. A request may be sent
while another waits at the leader; it hurries that one's (empty) answer, so a new partition waits for no long poll.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from ottla.client.error_codes import ErrorCode
from ottla.client.frames import BadFrame, ResponseFrame, split_batches
from ottla.client.protocol import FetchPartition, FetchResponse, FetchResult, ReplicaFetchRequest
from ottla.log.errors import CorruptBatch, LogError, UnexpectedOffset
from ottla.log.model import BrokerId, TopicIdPartition

from .controller_channel import LinkLost
from .links import ReplicaLink
from .partition_follower import PartitionFollower
from .replica import Replica
from .replica_session import HELD_BACK_S_MAX, RESPONSE_BYTES_MAX
from .throttle import TokenBucket
from .watchdog import Watchdog

log = structlog.get_logger(__name__)

RETRY_S = 0.05
"""Before a partition that could not go on is asked for again."""
DAMAGED_RETRY_S = 1.0
"""The same where what came was damaged, on two streams: the leader must look first."""
RECONNECT_S = (0.02, 0.5)
ANSWER_SLACK_S = 5.0
"""A leader that lets its longest wait pass and this much more is not there any longer, whatever the socket says."""


class ReplicaFetcher:
    """Pulls from one leader. ``connect`` opens a stream to it; raises LinkLost."""

    def __init__(
        self,
        leader: BrokerId,
        connect: Callable[[], Awaitable[ReplicaLink]],
        *,
        wait_s_max: float,
        partition_bytes_max: int,
        taking: TokenBucket | None = None,
    ) -> None:
        self.leader = leader
        self._taking = taking
        self._connect = connect
        self._wait_ms_max = int(wait_s_max * 1000)
        self._partition_bytes_max = partition_bytes_max
        self._replicas: dict[TopicIdPartition, Replica] = {}
        self._ask: dict[TopicIdPartition, None] = {}  # to be named in the next request
        self._forget: dict[TopicIdPartition, None] = {}
        self._damaged: set[TopicIdPartition] = set()  # what came last for these could not be appended
        self._link: ReplicaLink | None = None
        self._outstanding = 0
        self._was_answered = False  # on the present stream
        self._watchdog: Watchdog | None = None
        self._hurrying = False  # soon
        self._lost: asyncio.Future[LinkLost] | None = None  # how the present stream ends
        self._retries: set[asyncio.TimerHandle] = set()
        self._task = asyncio.create_task(self._run(), name=f"fetch-from-{leader}")

    def __len__(self) -> int:
        return len(self._replicas)

    def follow(self, replica: Replica) -> None:
        """Pull for ``replica`` from now on."""
        key = TopicIdPartition(replica.topic_id, replica.partition)
        self._replicas[key] = replica
        self._name(key)

    def unfollow(self, replica: Replica) -> None:
        """Pull for it no more; what is on its way is thrown away."""
        key = TopicIdPartition(replica.topic_id, replica.partition)
        if self._replicas.pop(key, None) is not None:
            self._ask.pop(key, None)
            self._damaged.discard(key)
            self._forget[key] = None

    def durable(self, key: TopicIdPartition) -> None:
        """All that its log holds is durable: it may be asked for again, if it still follows here."""
        self._name(key)

    async def stop(self) -> None:
        for handle in self._retries:
            handle.cancel()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _name(self, key: TopicIdPartition) -> None:
        if key in self._replicas:
            self._ask[key] = None
            self._forget.pop(key, None)
            self._hurry_soon()

    # --- the stream --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        pause_s = RECONNECT_S[0]
        while True:
            try:
                self._link = await self._connect()
                self._was_answered = False
                await self._converse(self._link)
            except LinkLost as lost:
                log.debug("replica.stream.lost", leader=self.leader, problem=str(lost))
            except Exception:
                log.exception("replica.stream.failed", leader=self.leader)
            finally:
                await self._hang_up()
            if self._was_answered:
                pause_s = RECONNECT_S[0]
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RECONNECT_S[1])

    async def _hang_up(self) -> None:
        link, self._link = self._link, None
        self._outstanding = 0
        self._forget.clear()
        self._ask = dict.fromkeys(self._replicas)  # a new stream is a new session: everything is named again
        if link is not None:
            await link.close()

    async def _converse(self, link: ReplicaLink) -> None:
        """Until the stream is lost: every answer is taken in the call that brings it."""
        lost = self._lost = asyncio.get_running_loop().create_future()
        self._watchdog = Watchdog(self._wait_ms_max / 1000 + ANSWER_SLACK_S, link.abort)
        link.deliver(self._take, lambda why: self._end(LinkLost(why)))
        try:
            self._send(link)
            raise await lost
        finally:
            self._watchdog.stop()
            self._lost = None

    def _take(self, frame: ResponseFrame) -> None:
        if self._lost is None or self._lost.done() or self._link is None:
            return
        try:
            self._outstanding -= 1
            self._was_answered = True
            if not isinstance(frame.message, FetchResponse):
                raise LinkLost(f"the leader answered {frame.message}")
            self._apply(frame.message, frame.body)
            if self._outstanding == 0 or (self._outstanding == 1 and self._ask):
                self._send(self._link)
        except LinkLost as lost:
            self._end(lost)
        except Exception as error:
            log.exception("replica.stream.failed", leader=self.leader)
            self._end(LinkLost(repr(error)))

    def _end(self, lost: LinkLost) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(lost)

    def _hurry_soon(self) -> None:
        if not self._hurrying:
            self._hurrying = True
            asyncio.get_running_loop().call_soon(self._hurry)

    def _hurry(self) -> None:
        """Send what changed while a long poll is out, instead of waiting for its answer."""
        self._hurrying = False
        live = self._lost is not None and not self._lost.done() and self._link is not None
        if live and self._outstanding == 1 and self._ask:
            assert self._link is not None
            try:
                self._send(self._link)
            except LinkLost as lost:
                self._end(lost)

    def _send(self, link: ReplicaLink) -> None:
        changed: list[FetchPartition] = []
        unsynced: list[TopicIdPartition] = []
        for key in self._ask:
            replica = self._replicas.get(key)
            if replica is not None and replica.is_durable:
                changed.append(self._question(key, replica))
            elif replica is not None:
                unsynced.append(key)
        forgotten = [(key.topic_id, key.partition) for key in self._forget]
        self._ask.clear()
        self._forget.clear()
        for key in unsynced:
            self._acknowledge(key, self._replicas[key])
        self._outstanding += 1
        if self._watchdog is not None:
            self._watchdog.guard()
        link.send(ReplicaFetchRequest(self._wait_ms_max, RESPONSE_BYTES_MAX, tuple(changed), tuple(forgotten)))

    def _question(self, key: TopicIdPartition, replica: Replica) -> FetchPartition:
        follower = replica.follower
        assert follower is not None, "unfollow comes before the role ends"
        log = replica.log
        return follower.ask(
            log.log_end_offset,
            log.latest_epoch,
            self._partition_bytes_max,
            log.log_start_offset,
            damaged=key in self._damaged,
        )

    # --- answers -----------------------------------------------------------------------------------------------------

    def _apply(self, response: FetchResponse, body: memoryview) -> None:
        """All of an answer in one step, so that no role changes in the middle of it."""
        try:
            parts = split_batches(body, [result.size for result in response.partitions])
        except BadFrame as error:
            raise LinkLost(str(error)) from error
        for result, batches in zip(response.partitions, parts, strict=True):
            key = TopicIdPartition(result.topic_id, result.partition)
            replica = self._replicas.get(key)
            if replica is not None and replica.follower is not None and key not in self._ask:
                self._apply_one(key, replica, replica.follower, result, batches)

    def _apply_one(
        self,
        key: TopicIdPartition,
        replica: Replica,
        follower: PartitionFollower,
        result: FetchResult,
        batches: memoryview,
    ) -> None:
        if result.error is ErrorCode.NONE and result.leader_epoch != follower.leader_epoch:
            return  # read before the role changed; the newer question is on its way
        log_start = replica.log.log_start_offset
        step = follower.answered(result, replica.log.log_end_offset, replica.log.end_offset_for_epoch)
        try:
            replica.apply(step, batches)
        except LogError as error:
            log.warning("replica.append.failed", partition=str(replica.name), code=error.code, problem=str(error))
            if isinstance(error, CorruptBatch | UnexpectedOffset):
                self._refuse_damaged(key, error)
            else:
                self._later(key)
            return
        self._damaged.discard(key)
        if step.wait:
            log.debug("replica.waits", partition=str(replica.name), error=result.error.name, why=result.message)
            self._later(key)
        elif step.append or step.truncate_to is not None or replica.log.log_start_offset != log_start:
            self._go_on(key, replica, len(batches))  # the leader is to know what moved

    def _refuse_damaged(self, key: TopicIdPartition, error: LogError) -> None:
        """Either the way here is bad, and then so may be all else that this stream brings: another one is opened. Or
        the leader's copy is: it is told so, and looks. Raises LinkLost for the first."""
        if key not in self._damaged:
            self._damaged.add(key)
            raise LinkLost(f"it brought damaged batches: {error}")
        self._later(key, DAMAGED_RETRY_S)

    def _acknowledge(self, key: TopicIdPartition, replica: Replica) -> None:
        """To ask again is to acknowledge, so it waits for the sync where the topic's records must be durable."""
        if replica.is_durable:
            self._ask[key] = None
        else:
            replica.when_durable(replica.log.log_end_offset, _AskOnce(self, key))

    def _go_on(self, key: TopicIdPartition, replica: Replica, size: int) -> None:
        """Ask for more at once; for a copy that is only being made when the throttle lets more through."""
        if self._taking is not None and replica.joining:
            self._taking.take(size)
            if (wait_s := self._taking.wait_s()) > 0:
                self._later(key, min(wait_s, HELD_BACK_S_MAX))
                return
        self._acknowledge(key, replica)

    def _later(self, key: TopicIdPartition, wait_s: float = RETRY_S) -> None:
        def again() -> None:
            self._retries.discard(handle)
            replica = self._replicas.get(key)
            if replica is not None:
                self._forget.pop(key, None)
                self._go_on(key, replica, 0)
            if key in self._ask:
                self._hurry_soon()

        handle = asyncio.get_running_loop().call_later(wait_s, again)
        self._retries.add(handle)


class _AskOnce:
    """Waits for what a follower has appended to be durable; a role that ends meanwhile asks for nothing."""

    def __init__(self, fetcher: ReplicaFetcher, key: TopicIdPartition) -> None:
        self._fetcher = fetcher
        self._key = key

    def committed(self, replica: Replica) -> None:
        self._fetcher.durable(self._key)

    def lost(self, replica: Replica, error: ErrorCode) -> None:
        pass


class Fetchers:
    """One ReplicaFetcher per leader broker, made and ended as partitions come and go."""

    def __init__(self, make: Callable[[BrokerId], ReplicaFetcher]) -> None:
        self._make = make
        self._fetchers: dict[BrokerId, ReplicaFetcher] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def follow(self, replica: Replica) -> None:
        """Pull for ``replica`` from its leader."""
        assert replica.follower is not None
        leader = replica.follower.leader
        fetcher = self._fetchers.get(leader)
        if fetcher is None:
            fetcher = self._fetchers[leader] = self._make(leader)
        fetcher.follow(replica)

    def unfollow(self, replica: Replica) -> None:
        """Pull for it no more."""
        assert replica.follower is not None
        leader = replica.follower.leader
        fetcher = self._fetchers.get(leader)
        if fetcher is None:
            return
        fetcher.unfollow(replica)
        if not len(fetcher):
            del self._fetchers[leader]
            task = asyncio.create_task(fetcher.stop())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def stop(self) -> None:
        fetchers, self._fetchers = list(self._fetchers.values()), {}
        await asyncio.gather(*(fetcher.stop() for fetcher in fetchers), *self._ending, return_exceptions=True)
