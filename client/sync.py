"""The SDK for programs without asyncio: the same names, arguments, results and errors, and every call waits.

    import ottla.client.sync as ottla

    with ottla.connect("127.0.0.1:7080") as client:
        with client.producer() as producer:
            producer.send("orders", b"...", key=b"1")
        with client.consumer("orders", group="billing") as consumer:
            for record in consumer: ...

A client has one background thread with an event loop, in which everything lives: callbacks, codecs and interceptors
run there, heartbeats too, so that a handler that blocks keeps its membership. Objects may be shared by threads; one
consumer is for one thread at a time. Ctrl-C ends any call. Within a coroutine every call raises OTTLA-BLOCKING-IN-LOOP.
"""

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self, overload

from ottla.log.chance import Chance
from ottla.log.clock import Clock

from . import client as _client
from .background import Background
from .client import KeyKind, ValueKind
from .metrics import ClientMetrics
from .mirrored import Mirrored
from .outgoing import OnSend
from .reader import OnConsume, OnError
from .records import K, V
from .sync_admin import Admin
from .sync_consumer import Consumer
from .sync_group_consumer import GroupConsumer
from .sync_producer import Producer


def connect(servers: str | Iterable[str], *, clock: Clock | None = None, chance: Chance | None = None) -> "Client":
    """As ``ottla.client.connect``. Raises ConfigError."""
    return Client(_client.connect(servers, clock=clock, chance=chance))


class Client(Mirrored):
    """Mirrors ``ottla.client.Client``."""

    def __init__(self, inner: _client.Client) -> None:
        super().__init__(inner, Background())
        self.admin = Admin(inner.admin, self._background)

    def __enter__(self) -> Self:
        try:
            return super().__enter__()
        except BaseException:
            self._background.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def producer(
        self,
        *,
        key: KeyKind[K] = bytes,  # type: ignore[assignment]
        value: ValueKind[V] = bytes,  # type: ignore[assignment]
        interceptors: Iterable[OnSend] = (),
        **options: Any,
    ) -> Producer[K, V]:
        """A producer, as the original's. Raises ConfigError."""
        make = self._inner.producer
        return self._background.call(
            lambda: Producer(make(key=key, value=value, interceptors=interceptors, **options), self._background)
        )

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
        """A consumer, as the original's. Raises ConfigError."""
        chosen = {"partitions": partitions, "key": key, "value": value, "on_error": on_error}
        inner = self._background.call(
            lambda: self._inner.consumer(
                topic, pattern=pattern, group=group, start=start, interceptors=interceptors, **chosen, **options
            )
        )
        kind = Consumer if group is None and pattern is None else GroupConsumer
        return kind(inner, self._background)

    def metrics(self) -> ClientMetrics:
        """What the producers and consumers that are open have done so far."""
        inner: _client.Client = self._inner
        return self._background.call(inner.metrics)

    def close(self) -> None:
        """Close every stream, and end the thread. Idempotent."""
        if not self._background.stopped:
            self._background.run(self._inner.close)
            self._background.stop()


__all__ = ["Admin", "Client", "Consumer", "GroupConsumer", "Producer", "connect"]
