"""The SDK for programs without asyncio: the same names, arguments, results and errors, and every call waits.

    import ottla.client.sync as ottla

    with ottla.connect("127.0.0.1:7080") as client:
        with client.producer() as producer:
            producer.send("orders", b"...", key=b"1")
        with client.consumer("orders", group="billing") as consumer:
            for record in consumer: ...

A client has one background thread with an event loop, in which everything lives, heartbeats too, so that a handler
that blocks keeps its membership. Callbacks of a consumer run in a thread of its own, one after the other, and may use
the SDK. Objects may be shared by threads; one consumer is for one thread at a time. Ctrl-C ends any call. Within a
coroutine every call raises OTTLA-BLOCKING-IN-LOOP.
"""

import weakref
from collections.abc import Iterable
from types import SimpleNamespace, TracebackType
from typing import Any, Self, overload

from ottla.log.chance import Chance
from ottla.log.clock import Clock

from . import client as _client
from .background import Background, Worker
from .client import KeyKind, ValueKind
from .metrics import ClientMetrics
from .mirrored import Mirrored
from .outgoing import OnSend
from .reader import Decode, OnConsume, OnError
from .records import K, V
from .sync_admin import Admin
from .sync_consumer import Consumer
from .sync_group_consumer import GroupConsumer
from .sync_producer import Producer

CALLBACKS = ("on_assigned", "on_revoked", "on_lost")


def connect(servers: str | Iterable[str], *, clock: Clock | None = None, chance: Chance | None = None) -> "Client":
    """As ``ottla.client.connect``. Raises ConfigError."""
    return Client(_client.connect(servers, clock=clock, chance=chance))


class Client(Mirrored):
    """Mirrors ``ottla.client.Client``."""

    def __init__(self, inner: _client.Client) -> None:
        super().__init__(inner, Background())
        self.admin = Admin(inner.admin, self._background)
        self._workers: weakref.WeakSet[Worker] = weakref.WeakSet()

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
        worker = Worker()
        for name in CALLBACKS:
            if callable(options.get(name)):
                options[name] = worker.wrapped(options[name])
        if isinstance(assignors := options.get("assignors"), tuple | list):
            options["assignors"] = tuple(_in_worker(assignor, worker) for assignor in assignors)

        def make() -> tuple[Any, Decode | None]:
            self._workers.add(worker)
            made = self._inner.consumer(
                topic, pattern=pattern, group=group, start=start, interceptors=interceptors, **chosen, **options
            )
            return made, made.decode_elsewhere()

        inner, decode = self._background.call(make)
        if group is None and pattern is None:
            return Consumer(inner, self._background, decode)
        return GroupConsumer(inner, self._background, worker, decode)

    def metrics(self) -> ClientMetrics:
        """What the producers and consumers that are open have done so far."""
        inner: _client.Client = self._inner
        return self._background.call(inner.metrics)

    def close(self) -> None:
        """Close every stream, and end the threads. Idempotent."""
        if not self._background.stopped:
            for worker in list(self._workers):
                worker.refuse_inside("close the client")
            self._background.run(self._inner.close)
            self._background.stop()
            for worker in list(self._workers):
                worker.stop()


def _in_worker(assignor: Any, worker: Worker) -> Any:
    """One of the user's own; those of the SDK have names."""
    if isinstance(assignor, str) or not callable(getattr(assignor, "assign", None)):
        return assignor
    assign = worker.wrapped(assignor.assign)
    return SimpleNamespace(name=assignor.name, cooperative=assignor.cooperative, assign=assign)


__all__ = ["Admin", "Client", "Consumer", "GroupConsumer", "Producer", "connect"]
