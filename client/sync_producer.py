"""The producer of the blocking SDK (sync.py)."""

from concurrent.futures import Future
from typing import Generic

from . import producer as _producer
from .background import Background, blocking, forwarded
from .errors import BufferFull
from .mirrored import Mirrored
from .outgoing import HeadersLike
from .producer import RecordMetadata
from .records import K, V

UNRESOLVED_MAX = 100_000
"""Futures of ``send_nowait`` that are not done; then it raises BufferFull."""


class Producer(Mirrored, Generic[K, V]):
    """Mirrors ``ottla.client.Producer``."""

    def __init__(self, inner: _producer.Producer[K, V], background: Background) -> None:
        super().__init__(inner, background)
        self._unresolved = 0

    start = blocking(_producer.Producer.start)
    close = blocking(_producer.Producer.close)
    flush = blocking(_producer.Producer.flush)
    metrics = forwarded(_producer.Producer.metrics)

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return bool(self._inner.closed)

    def send(
        self,
        topic: str,
        value: V | None,
        key: K | None = None,
        headers: HeadersLike = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> RecordMetadata:
        """Send one record and wait for its acknowledgement. Raises as the original does."""
        inner: _producer.Producer[K, V] = self._inner
        record = inner.encoded(topic, value, key, headers, partition, timestamp_ms)  # in this thread
        return self._background.run(lambda: inner.send_encoded(*record))

    def send_nowait(
        self,
        topic: str,
        value: V | None,
        key: K | None = None,
        headers: HeadersLike = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> "Future[RecordMetadata]":
        """Send one record; the future brings what ``send`` returns or raises, a wrong record's error included. Raises
        BufferFull when too many are not done."""
        if self._unresolved >= UNRESOLVED_MAX:
            raise BufferFull(f"{self._unresolved} records are not acknowledged.", hint="Use send() instead.")
        inner: _producer.Producer[K, V] = self._inner
        future: Future[RecordMetadata]
        try:
            record = inner.encoded(topic, value, key, headers, partition, timestamp_ms)  # in this thread
        except Exception as error:
            future = Future()
            future.set_exception(error)
            return future
        self._unresolved += 1
        future = self._background.begin(lambda: inner.send_encoded(*record))
        future.add_done_callback(self._resolved)
        return future

    def _resolved(self, _: "Future[RecordMetadata]") -> None:
        self._unresolved -= 1
