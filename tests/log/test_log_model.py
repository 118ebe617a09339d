"""What a log keeps, against a model in memory: appends, truncation, retention, deletion and compaction in any order,
with restarts, kills and power cuts between them, and in the middle of cleaning."""

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import HealthCheck, Phase, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ottla.log.compression import Compression
from ottla.log.config import LogConfig
from ottla.log.model import LeaderEpoch, Offset, ProducerEpoch, ProducerId
from ottla.log.records import BatchBuilder
from tests.log.builders import PARTITION, TOPIC_ID, HandClock
from tests.log.upkeep import batches_of, drive, housekeeper_of, inline, manager_of, records_of
from tests.simulation.crashing_storage import CrashingStorage, PowerCut

KEYS = [b"a", b"b", b"c", b"a-key-of-more-than-16-bytes"]
EPOCH = LeaderEpoch(1)


@dataclass(frozen=True)
class Written:
    key: bytes
    value: bytes | None
    timestamp_ms: int


class LogMachine(RuleBasedStateMachine):
    """Keeps every record ever written by offset, and bounds for what the log must and may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.storage = CrashingStorage(seed=1)
        self.clock = HandClock()
        self.written: dict[int, Written] = {}
        self.cut_off: dict[int, list[Written]] = {}  # a power cut may undo a truncation that was not synced
        self.high_watermark = 0
        self.ends: list[int] = []  # where batches have ended
        self.sequence = 0
        self.deleted_to = 0  # retention and deletion have passed here
        self.clean_below = 0  # a tombstone may be gone below it

    @initialize(policy=st.sampled_from(["delete", "compact", "both"]), retention=st.sampled_from([None, 300, 900]))
    def begin(self, policy: str, retention: int | None) -> None:
        self.config = LogConfig(
            segment_bytes=700,
            index_interval_bytes=100,
            cleanup_policy=frozenset({"compact", "delete"} if policy == "both" else {policy}),  # type: ignore[arg-type]
            retention_bytes=retention,
            retention_ms=60_000,
            min_cleanable_dirty_ratio=0.01,
            delete_retention_ms=30_000,
            file_delete_delay_ms=1000,
        )
        self.open()

    def open(self, power: bool = False) -> None:
        self.manager = manager_of(self.storage, self.clock)
        self.manager.read_clean_shutdown()
        self.manager.power_was_lost = power
        self.log = self.manager.get_or_create(PARTITION, TOPIC_ID, self.config)
        self.keeper = housekeeper_of(
            self.manager,
            self.storage,
            lambda log: Offset(self.high_watermark),
            self.clock,
            memory_bytes=800,
        )

    # --- what is done to a log ---------------------------------------------------------------------------------------

    @rule(
        records=st.lists(
            st.tuples(st.sampled_from(KEYS), st.one_of(st.none(), st.binary(max_size=60))), min_size=1, max_size=6
        ),
        compression=st.sampled_from([Compression.NONE, Compression.NONE, Compression.ZSTD]),
        idempotent=st.booleans(),
    )
    def append(self, records: list[tuple[bytes, bytes | None]], compression: Compression, idempotent: bool) -> None:
        builder = BatchBuilder(compression)
        for key, value in records:
            builder.append(key, value, timestamp_ms=self.clock.now_ms())
        producer = (ProducerId(1), ProducerEpoch(0), self.sequence) if idempotent else ()
        data = builder.build(*producer)
        segments = self.log.segment_count
        result = self.log.append_as_leader(data, EPOCH)
        if self.log.segment_count > segments:
            self.sync()  # as the flusher is asked to
        assert not result.is_duplicate
        self.ends = sorted({*(end for end in self.ends if end <= result.base_offset), result.last_offset + 1})
        self.sequence += len(records) if idempotent else 0
        for number, (key, value) in enumerate(records):
            self.written[result.base_offset + number] = Written(key, value, self.clock.now_ms())

    @rule(percent=st.integers(0, 100))
    def commit(self, percent: int) -> None:
        ends = [end for end in self.ends if self.high_watermark <= end <= self.log.log_end_offset]
        if ends:
            self.high_watermark = ends[(len(ends) - 1) * percent // 100]

    @rule()
    def sync(self) -> None:
        drive(self.manager.flush(inline))

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds: int) -> None:
        self.clock.seconds += seconds

    @rule(percent=st.integers(0, 100))
    def truncate(self, percent: int) -> None:
        end = self.log.log_end_offset
        self.log.truncate_to(Offset(self.high_watermark + (end - self.high_watermark) * percent // 100))
        self.was_cut()

    @rule()
    def retain(self) -> None:
        before = self.log.log_start_offset
        drive(self.keeper.retain())
        after = self.log.log_start_offset
        if after > before:
            assert self.config.deletes
            assert after <= self.high_watermark
            in_time = all(
                self.clock.now_ms() - written.timestamp_ms > 60_000
                for offset, written in self.written.items()
                if before <= offset < after
            )
            assert in_time or self.config.retention_bytes is not None
        self.deleted_to = after

    @rule(percent=st.integers(0, 100))
    def delete_records(self, percent: int) -> None:
        start = self.log.log_start_offset
        self.log.advance_log_start(Offset(start + (self.high_watermark - start) * percent // 100))
        drive(self.keeper.checkpoint())
        self.deleted_to = self.log.log_start_offset

    @rule()
    def clean(self) -> None:
        drive(self.keeper.clean())
        self.clean_below = self.high_watermark

    @precondition(lambda self: self.config.compacts)
    @rule(change=st.integers(1, 40), power=st.booleans(), seed=st.integers(0, 1000))
    def crash_while_cleaning(self, change: int, power: bool, seed: int) -> None:
        self.clean_below = self.high_watermark
        self.storage.cut_power_at(change)
        try:
            drive(self.keeper.clean())
        except PowerCut:
            self.crash(power, seed)
        else:
            self.storage.cut_power_at(None)

    # --- restarts ----------------------------------------------------------------------------------------------------

    @rule(power=st.booleans(), seed=st.integers(0, 1000))
    def crash(self, power: bool, seed: int) -> None:
        before = self.log
        self.storage = self.storage.crash(seed) if power else self.storage.kill()
        self.open(power)
        assert not self.manager.quarantined
        assert self.log.log_end_offset >= before.recovery_point
        assert self.log.log_start_offset >= min(self.deleted_to, self.log.log_end_offset)
        if power:
            self.high_watermark = min(self.high_watermark, self.log.log_end_offset)
            self.was_cut()
            self.bring_back()
            self.find_ends()
        else:
            assert self.log.log_end_offset == before.log_end_offset
        self.high_watermark = max(self.high_watermark, self.log.log_start_offset)
        self.cleared()

    @rule()
    def restart(self) -> None:
        from ottla.log.model import BrokerEpoch

        self.manager.write_clean_shutdown(BrokerEpoch(1))
        self.open()
        self.cleared()

    def was_cut(self) -> None:
        """The log lost its end: so does the model, and the producer begins a new epoch by another sequence."""
        end = self.log.log_end_offset
        for offset in [offset for offset in self.written if offset >= end]:
            self.cut_off.setdefault(offset, []).append(self.written.pop(offset))
        self.find_sequence()

    def find_ends(self) -> None:
        """Other batches than before may be there, and a high watermark lies between two."""
        data = self.log.read(self.log.log_start_offset, 1 << 20, self.log.log_end_offset)
        start = int(self.log.log_start_offset)
        self.ends = [start]
        while data:
            self.ends += [int(batch.next_offset) for batch in batches_of(data)]
            data = self.log.read(Offset(self.ends[-1]), 1 << 20, self.log.log_end_offset)
        self.high_watermark = max([start, *(end for end in self.ends if end <= self.high_watermark)])

    def bring_back(self) -> None:
        for at, record in self.read_all().items():
            if record != self.written.get(at):
                assert record in self.cut_off[at]
                self.written[at] = record

    def cleared(self) -> None:
        """A producer all of whose batches have gone may be unknown after a restart."""
        self.find_sequence()

    def find_sequence(self) -> None:
        known = self.log._producers._producers.get(ProducerId(1))
        self.sequence = known.batches[-1].last_sequence + 1 if known is not None else 0

    def read_all(self) -> dict[int, Written]:
        found = {}
        offset, end = self.log.log_start_offset, self.log.log_end_offset
        while data := self.log.read(offset, 300, end):
            for record in records_of(data):
                if record.offset >= self.log.log_start_offset:
                    found[int(record.offset)] = Written(record.key or b"", record.value, record.timestamp_ms)
            offset = max(log_end_of(data), Offset(offset + 1))
        return found

    # --- what must be true -------------------------------------------------------------------------------------------

    @invariant()
    def holds_what_it_must(self) -> None:
        if not hasattr(self, "log"):
            return
        start, end = self.log.log_start_offset, self.log.log_end_offset
        assert start <= end
        assert start >= self.deleted_to or start == end
        found = self.read_all()
        for at, record_found in found.items():
            assert self.written[at] == record_found, "what is there is what was written there"
        live = {at: written for at, written in self.written.items() if start <= at < end}
        if not self.config.compacts:
            assert found == live
            return
        newest = {written.key: at for at, written in sorted(live.items())}
        for at in newest.values():
            gone_tombstone = self.written[at].value is None and at < self.clean_below
            assert at in found or gone_tombstone, f"the newest record of {self.written[at].key!r} is lost"

    @invariant()
    def segments_are_in_order(self) -> None:
        if not hasattr(self, "log"):
            return
        segments = self.log.segments
        for one, next_one in pairwise(segments):
            assert one.next_offset == next_one.base_offset
        assert segments[0].base_offset <= self.log.log_start_offset


def log_end_of(data: bytes) -> Offset:
    from ottla.log.records import batches_in

    return list(batches_in(data))[-1].next_offset


LogMachine.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
TestLog = LogMachine.TestCase
