"""From batches to records: decoded one batch at a time, handed out one by one, each partition in order."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Literal, NamedTuple

from ottla.log.clock import Clock
from ottla.log.errors import CorruptBatch

from .errors import ConfigError, CorruptBatchError, OttlaError
from .fetcher import Fetcher
from .handout import Handout
from .reading import Fetched
from .records import ConsumerRecord
from .serializers import Codec, UndecodableRecord

OnError = Literal["raise", "skip"] | Callable[[UndecodableRecord], None]
"""What becomes of a record that does not decode: raised, passed over, or told to a function and passed over."""
OnConsume = Callable[[ConsumerRecord[Any, Any]], ConsumerRecord[Any, Any]]
"""An interceptor: what it returns is handed out in place of the record: a record of the same topic, partition and
offset."""


class BadInterceptor(OttlaError):
    """A consumer's interceptor returned something else than the record, changed or not. It comes again until that is
    sought past; to leave a record out, do so in the loop."""

    code = "OTTLA-BAD-INTERCEPTOR"


Decode = Callable[[ConsumerRecord[Any, Any]], ConsumerRecord[Any, Any] | None]
"""Makes of a record what the user sees, None of one that is passed over. Raises UndecodableRecord."""


class Decoding(NamedTuple):
    """How records become what the user sees. None: bytes as they are."""

    key: Codec[Any] | None = None
    value: Codec[Any] | None = None
    on_error: OnError = "raise"
    interceptors: tuple[OnConsume, ...] = ()

    def check(self) -> None:
        """Raises ConfigError."""
        if self.on_error not in ("raise", "skip") and not callable(self.on_error):
            raise ConfigError(f"on_error is {self.on_error!r:.100}.", hint='It is "raise", "skip" or a function.')


class Reader:
    """Takes records from a fetcher, for one task at a time."""

    def __init__(self, fetcher: Fetcher, clock: Clock, decoding: Decoding) -> None:
        decoding.check()
        self._fetcher = fetcher
        self._clock = clock
        self._decoding = decoding
        self._plain = decoding == Decoding()
        self._opened: Handout | None = None
        self._read_before = 0  # of the handouts before

    @property
    def records_read(self) -> int:
        """How many were taken, those that were passed over included."""
        return self._read_before + (0 if self._opened is None else self._opened.taken)

    @property
    def opened(self) -> Handout | None:
        """What is being handed out, or was the last."""
        return self._opened

    def here(self) -> Iterator[ConsumerRecord[Any, Any]]:
        """The records that are here already, for a loop without a call for each. Ends at the end of a batch, or where a
        jump of its partition made the rest void. Raises UndecodableRecord, again and again until it is sought past."""
        opened = self._opened
        if opened is None:
            return iter(())
        return opened.rows if self._plain else self._each_decoded(opened)

    def take(self) -> ConsumerRecord[Any, Any] | None:
        """The next record that is here already. Raises as ``here`` does."""
        return next(self.here(), None)

    def _each_decoded(self, opened: Handout) -> Iterator[ConsumerRecord[Any, Any]]:
        while (record := opened.peek()) is not None:
            made = self._decoded(record)
            next(opened.rows)
            if made is not None:
                yield made

    def decode_elsewhere(self) -> Decode | None:
        """Hand out records as they are from now on: another thread makes of them what the user sees, with what is
        returned; None where nothing is to be made of them."""
        if self._plain:
            return None
        self._plain = True
        return self._decoded

    def _decoded(self, record: ConsumerRecord[Any, Any]) -> ConsumerRecord[Any, Any] | None:
        decoding = self._decoding
        key: Any = record.key
        value: Any = record.value
        what = "key"
        try:
            if decoding.key is not None and key is not None:
                key = decoding.key.decode(key)
            what = "value"
            if decoding.value is not None and value is not None:
                value = decoding.value.decode(value)
        except Exception as error:  # a codec is the user's: whatever it raises is about this record
            failure = UndecodableRecord(record.topic, record.partition, record.offset, what, error)
            if decoding.on_error == "raise":
                raise failure from error
            if decoding.on_error != "skip":
                decoding.on_error(failure)
            return None
        made = record._replace(key=key, value=value)
        for interceptor in decoding.interceptors:
            made = interceptor(made)
            if not isinstance(made, ConsumerRecord) or made[:3] != record[:3]:
                raise _bad_interceptor(interceptor, record, made)
        return made

    async def next(self) -> ConsumerRecord[Any, Any]:
        """The next record, waited for without end."""
        while (record := self.take()) is None:
            await self.turn()
        return record

    async def turn(self) -> None:
        """Go on to the next batch, waited for without end. Raises as ``Fetcher.next`` and ``open`` do."""
        self.open(await self._fetcher.next(None))

    async def fill(self, batch: list[ConsumerRecord[Any, Any]], max_records: int, max_wait: float) -> None:
        """Add records to a batch that has some already, until it is full or ``max_wait`` seconds have passed."""
        deadline_s = self._clock.monotonic() + max_wait
        try:
            while True:
                batch += islice(self.here(), max_records - len(batch))
                if len(batch) >= max_records:
                    return
                fetched = await self._fetcher.next(max(0.0, deadline_s - self._clock.monotonic()))
                if fetched is None:
                    return
                self.open(fetched)
        except Exception:  # interceptors are the user's: whatever they raise
            return  # first hand over what is there; the error comes again, with the record that it is about

    def open(self, fetched: Fetched | None) -> None:
        """Decode a batch. Raises CorruptBatchError."""
        assert fetched is not None
        partition, batch = fetched.partition, fetched.batch
        if self._opened is not None:
            self._read_before += self._opened.taken
            self._opened = None
        partition.settle()
        if batch.is_control:
            partition.moved_to(batch.next_offset)
            return
        try:
            columns = batch.columns()
        except CorruptBatch as error:
            failure = corrupt(partition.topic, partition.number, batch.base_offset, error)
            self._fetcher.fail(partition, failure)
            raise failure from error
        handout = Handout(partition, columns, batch.next_offset)
        if handout.peek() is None:
            partition.moved_to(batch.next_offset)
        else:
            self._opened = handout


def _bad_interceptor(interceptor: OnConsume, record: ConsumerRecord[Any, Any], made: object) -> BadInterceptor:
    name = getattr(interceptor, "__qualname__", type(interceptor).__qualname__)
    what = f"{made.topic}-{made.partition} at offset {made.offset}" if isinstance(made, ConsumerRecord) else repr(made)
    return BadInterceptor(
        f"{record.topic}-{record.partition}: the interceptor {name} made {what:.100} of the record at offset "
        f"{record.offset}.",
        hint="It returns the record, changed or not; leave records out in your loop.",
    )


def corrupt(topic: str, partition: int, offset: int, why: object) -> CorruptBatchError:
    """Says where, so that the reader can seek past it."""
    return CorruptBatchError(
        f"{topic}-{partition}: the batch at offset {offset} cannot be read: {why}.", hint="Seek past it to go on."
    )
