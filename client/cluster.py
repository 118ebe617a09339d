"""What a client knows of the cluster: who is there, who leads what, and the streams to them."""

import asyncio
import itertools
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from ottla.log.chance import Chance, SystemChance
from ottla.log.clock import Clock, SystemClock
from ottla.log.model import BrokerId, LeaderEpoch, TopicId, TopicIdPartition

from .backoff import backoff_s
from .connection import Connection, ConnectionLost
from .error_codes import ErrorCode
from .errors import ConnectFailed, OttlaError, RequestFailed, TopicNotFound, error_for
from .protocol import BrokerEndpoint, ErrorResponse, MetadataRequest, MetadataResponse, Request, Response, TopicMetadata
from .servers import Address
from .streams import Purpose, Streams, retrieve
from .topic_pattern import matching

METADATA_TIMEOUT_S = 2.5
CREATE_TIMEOUT_S = 12.0
"""A metadata request that may make a topic waits for the quorum."""
ASK_TIMEOUT_S = 5.0
"""Of one node, where any would do and asking twice does no harm: longer than a failover of the controller, shorter than
anybody wants to wait for a node that lost its power and tells nobody."""
NOT_FOUND_PATIENCE_S = 1.0
"""A topic that another client has just made may not be known everywhere yet."""
TOPIC_NAME_MAX = 1024
"""Characters of what nodes take for a name, if only to refuse it."""
TOPICS_MAX = 5_000
"""Topics whose metadata is kept fresh; beyond it the ones named longest ago are forgotten."""


class Leader(NamedTuple):
    """Who leads a partition, in which epoch."""

    broker: BrokerId
    epoch: LeaderEpoch


class Asked(NamedTuple):
    """``unsure``: an earlier attempt, whose answer never came, may have been carried out as well."""

    response: Response
    unsure: bool


class Cluster:
    """Shared by all producers and consumers of a client. Metadata never looks back: every request names the highest
    metadata index seen, and an older view never replaces a newer one."""

    def __init__(self, servers: Iterable[Address], *, clock: Clock | None = None, chance: Chance | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.chance: Chance = chance or SystemChance()
        self.metadata_index = 0
        self.brokers: dict[BrokerId, BrokerEndpoint] = {}
        self.latest: MetadataResponse | None = None
        self._servers = tuple(servers)
        self._topics: dict[str, TopicMetadata] = {}
        self._leaders: dict[TopicIdPartition, tuple[Leader | None, LeaderEpoch]] = {}
        self._streams = Streams(self.clock, self.chance)
        self._refreshing: tuple[frozenset[str], bool, asyncio.Task[None]] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # the first that used it, in which all streams are

    def check_loop(self) -> asyncio.AbstractEventLoop:
        """This event loop. Raises OTTLA-OTHER-LOOP where another one has used the client before."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif loop is not self._loop:
            raise OttlaError(
                "this client belongs to another event loop, the first that used it.",
                code="OTTLA-OTHER-LOOP",
                hint="Call ottla.client.connect in each loop (each asyncio.run has its own), or use ottla.client.sync.",
            )
        return loop

    # --- what is known -----------------------------------------------------------------------------------------------

    def known_topic(self, name: str) -> TopicMetadata | None:
        """The topic as last seen, without asking anybody."""
        return self._topics.get(name)

    def leader(self, topic_id: TopicId, partition: int) -> Leader | None:
        """The newest leader heard of, from metadata or from a hint; None where there is none."""
        found = self._leaders.get(TopicIdPartition(topic_id, partition))
        return None if found is None else found[0]

    def hint(self, topic_id: TopicId, partition: int, leader: BrokerId | None, epoch: LeaderEpoch | None) -> bool:
        """Use at once what an error said about leadership (KIP-951). False if it is no news."""
        if leader is None or epoch is None or leader not in self.brokers:
            return False
        return self._learn(TopicIdPartition(topic_id, partition), Leader(leader, epoch), epoch)

    def saw_index(self, metadata_index: int) -> None:
        """An admin answer named this index: later requests must show its effect."""
        self.metadata_index = max(self.metadata_index, metadata_index)

    def _learn(self, key: TopicIdPartition, leader: Leader | None, epoch: LeaderEpoch) -> bool:
        known = self._leaders.get(key)
        if known is not None and (known[1] > epoch or (known[1] == epoch and known[0] == leader)):
            return False
        self._leaders[key] = (leader, epoch)
        return True

    # --- metadata ----------------------------------------------------------------------------------------------------

    async def topic(self, name: str, *, auto_create: bool = False, timeout_s: float = 30.0) -> TopicMetadata:
        """The topic, asked for if need be. Raises TopicNotFound, ConnectFailed, or why it cannot be named or made."""
        self.check_loop()
        started_s = self.clock.monotonic()
        attempt = 0
        while True:
            known = self._topics.get(name)
            if known is not None and known.error is ErrorCode.NONE:
                return known
            try:
                await self.refresh((name,), auto_create=auto_create)
                return self._require(name)
            except TopicNotFound:
                if self.clock.monotonic() - started_s > min(NOT_FOUND_PATIENCE_S, timeout_s):
                    raise
            except OttlaError as error:
                if not error.retriable or self.clock.monotonic() - started_s > timeout_s:
                    raise
            await asyncio.sleep(backoff_s(attempt, self.chance))
            attempt += 1

    def _require(self, name: str) -> TopicMetadata:
        found = self._topics.pop(name, None)
        if found is None:
            raise TopicNotFound(f"there is no topic {name}.", hint="Create it, or list what there is.")
        if found.error is not ErrorCode.NONE:
            raise error_for(found.error, found.message)
        self._topics[name] = found  # most recently named last
        return found

    async def refresh(self, names: Iterable[str] = (), *, auto_create: bool = False) -> None:
        """Ask any live node for the topics known here and ``names``. Refreshes that ask for the same are one.
        Raises ConnectFailed, and RequestFailed for what cannot be a name."""
        self.check_loop()
        wanted = frozenset(names)
        for name in wanted:
            check_topic_name(name)
        running = self._refreshing
        if running is None or running[2].done() or not wanted <= running[0] or (auto_create and not running[1]):
            covered = wanted if auto_create else wanted.union(self._topics)
            task = asyncio.create_task(self._refresh(covered, auto_create), name="refresh-metadata")
            task.add_done_callback(retrieve)
            running = self._refreshing = (covered, auto_create, task)
        await asyncio.shield(running[2])

    async def matching(self, pattern: str) -> tuple[str, ...]:
        """The topics that a regular expression means now, known from here on. Raises ConnectFailed, BadPattern."""
        response = (
            await self.ask_any(MetadataRequest(None, False, self.metadata_index), timeout_s=ASK_TIMEOUT_S)
        ).response
        if isinstance(response, ErrorResponse):
            raise error_for(response.error, response.message)
        assert isinstance(response, MetadataResponse)
        names = matching(pattern, (topic.name for topic in response.topics))
        wanted = set(names)
        self._apply(msgspec.structs.replace(response, topics=tuple(t for t in response.topics if t.name in wanted)))
        return names

    async def _refresh(self, names: frozenset[str], auto_create: bool) -> None:
        request = MetadataRequest(tuple(sorted(names)), auto_create, self.metadata_index)
        timeout_s = CREATE_TIMEOUT_S if auto_create else METADATA_TIMEOUT_S
        attempts: list[tuple[str, str]] = []
        for address in self._addresses():
            try:
                response = await self._ask_address(address, request, timeout_s)
            except OttlaError as error:
                attempts.append((str(address), str(error)))
                continue
            if isinstance(response, MetadataResponse):
                self._apply(response)
                return
            assert isinstance(response, ErrorResponse)
            attempts.append((str(address), response.message))
        raise ConnectFailed(attempts)

    def _apply(self, response: MetadataResponse) -> None:
        if response.metadata_index < self.metadata_index:
            return
        self.metadata_index = response.metadata_index
        self.latest = response
        self.brokers = {broker.broker_id: broker for broker in response.brokers}
        for topic in response.topics:
            if topic.error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                self._forget_topic(topic.name)
            elif topic.error is not ErrorCode.NONE or topic.topic_id is None:
                self._topics[topic.name] = topic
            else:
                self._know_topic(topic, topic.topic_id)
        while len(self._topics) > TOPICS_MAX:
            self._forget_topic(next(iter(self._topics)))

    def _know_topic(self, topic: TopicMetadata, topic_id: TopicId) -> None:
        before = self._topics.get(topic.name)
        if before is not None and before.topic_id != topic_id:
            self._forget_topic(topic.name)
        self._topics[topic.name] = topic
        for state in topic.partitions:
            leader = None if state.leader is None else Leader(state.leader, state.leader_epoch)
            self._learn(TopicIdPartition(topic_id, state.partition), leader, state.leader_epoch)

    def _forget_topic(self, name: str) -> None:
        gone = self._topics.pop(name, None)
        if gone is not None and gone.topic_id is not None:
            for state in gone.partitions:
                self._leaders.pop(TopicIdPartition(gone.topic_id, state.partition), None)

    # --- asking ------------------------------------------------------------------------------------------------------

    async def ask_any(self, request: Request, *, timeout_s: float = 30.0, attempt_s: float | None = None) -> Asked:
        """Ask node after node until one does it or refuses for good; the refusal is an answer too. Raises
        ConnectFailed, at once where no node was ever reached, or the last reason to wait after ``timeout_s``.
        ``attempt_s``: how long one node may take; a request that changes something is given longer, for what was given
        up may still be carried out, after what others did meanwhile."""
        self.check_loop()
        deadline_s = self.clock.monotonic() + timeout_s
        unsure = False
        for attempt in itertools.count():
            problems: list[tuple[str, str]] = []
            failure: OttlaError | None = None
            for address in self._addresses():
                left_s = max(0.1, deadline_s - self.clock.monotonic())
                try:
                    response = await self._ask_address(address, request, min(left_s, attempt_s or ASK_TIMEOUT_S))
                except OttlaError as error:
                    problems.append((str(address), str(error)))
                    unsure = unsure or not isinstance(error, _NotConnected)
                    continue
                if not isinstance(response, ErrorResponse) or not _is_worth_retrying(response.error):
                    return Asked(response, unsure)
                failure = error_for(response.error, response.message)
                unsure = unsure or response.error is ErrorCode.REQUEST_TIMED_OUT
            pause_s = backoff_s(attempt, self.chance)
            hopeless = failure is None and self.latest is None and not unsure
            if hopeless or self.clock.monotonic() + pause_s > deadline_s:
                raise failure or ConnectFailed(problems)
            await asyncio.sleep(pause_s)
        raise AssertionError("unreachable")

    async def _ask_address(self, address: Address, request: Request, timeout_s: float) -> Response:
        try:
            connection = await self._streams.connect(address, "main")
        except ConnectionLost as lost:
            raise _NotConnected(str(lost)) from lost
        try:
            return (await connection.request(request, timeout_s=timeout_s)).message
        except ConnectionLost:
            self._streams.failed(address)
            raise

    def _addresses(self) -> list[Address]:
        """Every address worth trying: what answers now first, what failed lately last."""
        candidates = [Address(b.host, b.port) for b in self.brokers.values() if not b.fenced]
        candidates += [Address(b.host, b.port) for b in self.brokers.values() if b.fenced]
        candidates += self._servers
        unique = list(dict.fromkeys(candidates))
        for index in range(len(unique) - 1, 0, -1):  # spread clients over nodes
            other = self.chance.randbelow(index + 1)
            unique[index], unique[other] = unique[other], unique[index]
        return sorted(unique, key=self._reluctance)

    def _reluctance(self, address: Address) -> tuple[bool, bool]:
        return self._streams.failed_lately(address), not self._streams.is_open(address)

    # --- streams -----------------------------------------------------------------------------------------------------

    async def connection(self, broker: BrokerId, purpose: Purpose) -> Connection:
        """The stream to a broker: ``main`` for produce and metadata, ``fetch`` for long polls and bulk.
        Raises ConnectionLost."""
        self.check_loop()
        endpoint = self.brokers.get(broker)
        if endpoint is None:
            raise ConnectionLost(f"broker {broker} is not known.")
        return await self._streams.connect(Address(endpoint.host, endpoint.port), purpose)

    def suspect(self, broker: BrokerId) -> None:
        """This broker owes an answer: ask others first for a while."""
        endpoint = self.brokers.get(broker)
        if endpoint is not None:
            self._streams.failed(Address(endpoint.host, endpoint.port))

    def drop(self, connection: Connection) -> None:
        """Close a stream that does not answer: whoever waits on it gets ConnectionLost now."""
        self._streams.drop(connection)

    async def close(self) -> None:
        """Close every stream. Idempotent. Raises OTTLA-OTHER-LOOP."""
        self.check_loop()
        if self._refreshing is not None:
            self._refreshing[2].cancel()
            await asyncio.gather(self._refreshing[2], return_exceptions=True)
        await self._streams.close()


def check_topic_name(name: str) -> None:
    """A node says what is wrong with most names, and ends the stream of who sends others. Raises RequestFailed."""
    if not isinstance(name, str):
        raise RequestFailed(ErrorCode.INVALID_TOPIC_EXCEPTION, f"a topic's name is text, not {name!r}")
    if len(name) > TOPIC_NAME_MAX or any("\ud800" <= character <= "\udfff" for character in name):
        message = f"{name[:50]!a}... cannot be a topic's name, which has 249 characters at most, of a-z A-Z 0-9 . _ -"
        raise RequestFailed(ErrorCode.INVALID_TOPIC_EXCEPTION, message)


class _NotConnected(ConnectionLost):
    """Nothing was sent, so nothing can have been done."""


def _is_worth_retrying(error: ErrorCode) -> bool:
    return error.retriable and error not in (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_ID)
