"""The entrance: one client, any number of producers and consumers on its streams."""

import asyncio
import weakref
from collections.abc import Iterable
from functools import partial
from types import TracebackType
from typing import Any, Self, overload

from ottla.log.chance import Chance
from ottla.log.clock import Clock

from .admin import Admin
from .arguments import chosen_functions, chosen_topics
from .callbacks import awaited, name_of, named
from .classic_membership import ClassicMembership, ClassicSubscription
from .cluster import Cluster
from .consumer import Consumer
from .consumer_membership import ConsumerMembership
from .coordinator import GroupCoordinator
from .errors import ConfigError
from .group_consumer import GroupConsumer
from .group_member import Subscription
from .group_options import GroupOptions
from .membership import Membership, Reader as PartitionReader
from .metrics import ClientMetrics
from .outgoing import Encoding, OnSend
from .pattern_consumer import PatternConsumer
from .producer import Producer
from .producer_options import ProducerOptions
from .reader import Decoding, OnConsume, OnError
from .reading import ConsumerOptions
from .records import K, V
from .serializers import Codec, codec_for
from .servers import parse_servers
from .subscribed import Subscribed
from .topic_pattern import BadPattern, check_pattern

CLIENT_ID = "ottla-python"
KeyKind = type[K] | Codec[K]
ValueKind = type[V] | Codec[V]


def connect(servers: str | Iterable[str], *, clock: Clock | None = None, chance: Chance | None = None) -> "Client":
    """A client of the cluster that ``servers`` (``"host:port[,host:port]"`` or a list) belong to; any of its nodes
    will do. Nothing is opened before it is used or entered. Raises ConfigError."""
    return Client(Cluster(parse_servers(servers), clock=clock, chance=chance))


class Client:
    """Use it as a context manager: entering raises ConnectFailed where no node answers. Close producers and consumers
    before it: consumers that are open end with it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.admin = Admin(cluster)
        self._producers: weakref.WeakSet[Producer[Any, Any]] = weakref.WeakSet()
        self._consumers: weakref.WeakSet[Consumer[Any, Any] | GroupConsumer[Any, Any]] = weakref.WeakSet()

    async def __aenter__(self) -> Self:
        self.cluster.check_loop()
        try:
            await self.cluster.refresh()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def producer(
        self,
        *,
        key: KeyKind[K] = bytes,  # type: ignore[assignment]
        value: ValueKind[V] = bytes,  # type: ignore[assignment]
        interceptors: Iterable[OnSend] = (),
        **options: Any,
    ) -> Producer[K, V]:
        """A producer; ``options`` are the fields of ProducerOptions. ``key``, ``value``: types or codecs (see
        serializers); ``interceptors``: each may change what is sent. Raises ConfigError."""
        _check_names((ProducerOptions,), options)
        encoding = Encoding(
            codec_for(key, "key"), codec_for(value, "value"), chosen_functions("interceptors", interceptors)
        )
        made: Producer[K, V] = Producer(self.cluster, ProducerOptions(**options), encoding)
        self._producers.add(made)
        return made

    @overload
    def consumer(
        self,
        topic: str | Iterable[str],
        *,
        group: str,
        start: str = ...,
        key: KeyKind[K] = ...,
        value: ValueKind[V] = ...,
        on_error: OnError = ...,
        interceptors: Iterable[OnConsume] = ...,
        **options: Any,
    ) -> GroupConsumer[K, V]: ...

    @overload
    def consumer(
        self,
        *,
        pattern: str,
        group: str | None = ...,
        start: str = ...,
        key: KeyKind[K] = ...,
        value: ValueKind[V] = ...,
        on_error: OnError = ...,
        interceptors: Iterable[OnConsume] = ...,
        **options: Any,
    ) -> GroupConsumer[K, V]: ...

    @overload
    def consumer(
        self,
        topic: str,
        *,
        group: None = ...,
        start: str | int = ...,
        partitions: Iterable[int] | None = ...,
        key: KeyKind[K] = ...,
        value: ValueKind[V] = ...,
        on_error: OnError = ...,
        interceptors: Iterable[OnConsume] = ...,
        **options: Any,
    ) -> Consumer[K, V]: ...

    def consumer(
        self,
        topic: str | Iterable[str] | None = None,
        *,
        pattern: str | None = None,
        group: str | None = None,
        start: str | int = "earliest",
        partitions: Iterable[int] | None = None,
        key: Any = bytes,
        value: Any = bytes,
        on_error: OnError = "raise",
        interceptors: Iterable[OnConsume] = (),
        **options: Any,
    ) -> Any:
        """A consumer. Without a group: of a topic; ``start``: "earliest", "latest" or an offset; ``partitions``: None
        for all, also those that come later; ``options``: the fields of ConsumerOptions. In a ``group``: of one or
        several topics, the part of them that the group gives it; ``start``: "earliest" or "latest", where the group
        has committed nothing; ``options``: those of GroupOptions, too. ``pattern``, in place of a topic: all topics,
        those too that come later, whose whole names a regular expression of RE2's means; without a group that is a
        PatternConsumer.

        ``key``, ``value``: types or codecs (see serializers); ``on_error``: "raise", "skip" or a function, for a
        record that does not decode; ``interceptors``: each may change what is handed out. Raises ConfigError."""
        if callable(on_error):
            on_error = named("on_error", on_error)
        chain = chosen_functions("interceptors", interceptors)
        called = tuple(named(f"the interceptor {name_of(one)}", one) for one in chain)
        decoding = Decoding(codec_for(key, "key"), codec_for(value, "value"), on_error, called)
        _check_topics(topic, pattern, partitions)
        if group is None and pattern is not None:
            _check_names((ConsumerOptions,), options)
            by_pattern: PatternConsumer[Any, Any] = PatternConsumer(
                self.cluster, pattern, start, ConsumerOptions(**options), decoding
            )
            self._consumers.add(by_pattern)
            return by_pattern
        if group is None:
            if not isinstance(topic, str):
                raise ConfigError("without a group a consumer reads one topic.", hint="Name a group, or one topic.")
            _check_names((ConsumerOptions,), options)
            alone: Consumer[Any, Any] = Consumer(
                self.cluster, topic, start, partitions, ConsumerOptions(**options), decoding
            )
            self._consumers.add(alone)
            return alone
        if partitions is not None:
            raise ConfigError("the group chooses the partitions.", hint="Leave group or partitions out.")
        _check_names((ConsumerOptions, GroupOptions), options)
        in_group = {name: options.pop(name) for name in list(options) if name in _fields(GroupOptions)}
        for name in ("on_assigned", "on_revoked", "on_lost"):
            if callable(in_group.get(name)):
                in_group[name] = awaited(name, in_group[name])
        topics = () if pattern is not None else chosen_topics(topic)
        subscribed = Subscribed(self.cluster, topics, pattern)
        made = self._in_group(subscribed, group, start, ConsumerOptions(**options), GroupOptions(**in_group), decoding)
        self._consumers.add(made)
        return made

    def _in_group(
        self,
        subscribed: Subscribed,
        group: str,
        start: Any,
        options: ConsumerOptions,
        group_options: GroupOptions,
        decoding: Decoding,
    ) -> GroupConsumer[Any, Any]:
        join = partial(_join, group, subscribed, options, group_options)
        return GroupConsumer(self.cluster, subscribed, group, start, options, group_options, join, decoding)

    def metrics(self) -> ClientMetrics:
        """What the producers and consumers that are open have done so far."""
        return ClientMetrics(
            producers=tuple(producer.metrics() for producer in self._producers if not producer.closed),
            consumers=tuple(consumer.metrics() for consumer in self._consumers if not consumer.closed),
        )

    async def close(self) -> None:
        """Close the consumers that are open, as if their blocks were left by cancellation, and every stream.
        Idempotent."""
        consumers = [consumer for consumer in self._consumers if not consumer.closed]
        leave = (consumer.__aexit__(asyncio.CancelledError, None, None) for consumer in consumers)
        failures = [found for found in await asyncio.gather(*leave, return_exceptions=True) if found is not None]
        await self.cluster.close()
        for failure in failures:  # of a callback
            raise failure


def _join(
    group: str,
    subscribed: Subscribed,
    options: ConsumerOptions,
    group_options: GroupOptions,
    coordinator: GroupCoordinator,
    reader: PartitionReader,
) -> Membership:
    rebalance_timeout_ms = int(group_options.max_poll_interval_s * 1000)
    if group_options.protocol == "consumer":
        about = Subscription(
            group=group,
            topics=subscribed.topics,
            pattern=subscribed.pattern,
            rebalance_timeout_ms=rebalance_timeout_ms,
            instance_id=group_options.instance_id,
            rack=options.rack or None,
            assignor=group_options.assignor,
            client_id=CLIENT_ID,
        )
        return ConsumerMembership(coordinator, about, subscribed, reader)
    classic = ClassicSubscription(
        group=group,
        session_timeout_ms=int(group_options.session_timeout_s * 1000),
        rebalance_timeout_ms=rebalance_timeout_ms,
        assignors=group_options.chosen_assignors(),
        instance_id=group_options.instance_id,
        client_id=CLIENT_ID,
    )
    return ClassicMembership(coordinator, classic, subscribed, reader)


def _check_topics(topic: Any, pattern: str | None, partitions: Any) -> None:
    """Raises ConfigError."""
    if (topic is None) == (pattern is None):
        raise ConfigError("a consumer reads a topic, or those of a pattern.", hint="Give one of the two.")
    if pattern is None:
        return
    if partitions is not None:
        raise ConfigError("a pattern means whole topics.", hint="Leave pattern or partitions out.")
    if not isinstance(pattern, str):
        raise ConfigError(f"pattern is {pattern!r:.100}.", hint="It is text: a regular expression.")
    try:
        check_pattern(pattern)
    except BadPattern as bad:
        raise ConfigError(f"pattern: {bad}.") from bad


def _fields(options_type: type) -> list[str]:
    return list(options_type.__dataclass_fields__)  # type: ignore[attr-defined]


def _check_names(options_types: tuple[type, ...], options: dict[str, Any]) -> None:
    import difflib

    names = [name for options_type in options_types for name in _fields(options_type)]
    for name in options:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(names)}."
            raise ConfigError(f"there is no option {name!r}.", hint=hint)
