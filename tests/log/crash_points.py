"""Power cuts at random places of random histories of a log, and again while it is recovered; by hand, thousands:

    python -m tests.log.crash_points --points 10000

One seed is one history: a log manager appends as leader and follower, with idempotent producers, rolls, syncs, changes
epochs, truncates, stops cleanly and is killed, on a disk that forgets what was not synced; the power goes at a change
of its choice, and for a third of the seeds again and again while the log is opened. What is then asked:

* the log opens, and nothing is quarantined;
* what a sync had made durable is there, and all that is there is a prefix of what was written;
* epochs, producers, indexes and times are what the batches say;
* it goes on from there.
"""

import argparse
import contextlib
import sys
from collections import deque
from random import Random

from ottla.log.config import LogConfig
from ottla.log.leader_epochs import LeaderEpochCache
from ottla.log.manager import LogManager
from ottla.log.model import BrokerEpoch, LeaderEpoch, Offset, ProducerEpoch
from ottla.log.partition_log import PartitionLog
from ottla.log.producer_state import ProducerStateManager
from ottla.log.records import RecordBatch, batches_in
from tests.log.builders import DATA, NOW_MS, PARTITION, TOPIC_ID, HandClock, batch, end_of, whole
from tests.simulation.crashing_storage import CrashingStorage, PowerCut, SeededChance

STEPS = 40


class CrashPoint:
    """One seed. ``run`` raises AssertionError if something is lost."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.config = LogConfig(
            segment_bytes=self.random.choice((400, 900, 1 << 20)),
            index_interval_bytes=self.random.choice((100, 300)),
            segment_index_bytes=self.random.choice((60, 1 << 20)),
        )
        self.storage = CrashingStorage(seed, holes=self.random.random() < 0.5)
        self.possible = [b""]  # contents that may be found, since the last sync
        self.synced_to = 0
        self.epoch = 0
        self.sequences: dict[int, int] = {}
        self.recoveries_cut = 0

    def run(self) -> None:
        """The history, the cut, the recoveries, and the questions."""
        self.storage.cut_power_at(self.random.randrange(1, 160))
        with contextlib.suppress(PowerCut):
            self._history()
        self.storage = self.storage.crash(self.random.getrandbits(32))
        while self.random.random() < 0.33:
            self.storage.cut_power_at(self.random.randrange(1, 12))
            try:
                self._open()
                self.storage.cut_power_at(None)
            except PowerCut:
                self.recoveries_cut += 1
            self.storage = self.storage.crash(self.random.getrandbits(32))
        manager, log = self._open()
        content = whole(log)
        assert manager.quarantined == []
        assert log.log_end_offset >= self.synced_to, (log.log_end_offset, self.synced_to)
        assert log.log_start_offset > 0 or any(one.startswith(content) for one in self.possible)
        check_consistent(log)
        self._goes_on(manager, log)

    def _open(self) -> tuple[LogManager, PartitionLog]:
        manager = LogManager(self.storage, DATA, HandClock(), SeededChance(), reserve_bytes=0)
        manager.read_clean_shutdown()
        return manager, manager.get_or_create(PARTITION, TOPIC_ID, self.config)

    def _history(self) -> None:
        manager, log = self._open()
        for _ in range(STEPS):
            match self.random.choice(
                ("lead",) * 8 + ("follow",) * 4 + ("sync",) * 3 + ("epoch", "cut", "clean", "kill")
            ):
                case "lead":
                    self._lead(log)
                case "follow":
                    self._follow(log)
                case "sync":
                    self._sync(manager, log)
                case "epoch":
                    self.epoch += 1
                    log.assign_epoch_start(LeaderEpoch(self.epoch))
                case "cut":
                    self._cut(log)
                case "clean":
                    self.possible.append(whole(log))
                    manager.write_clean_shutdown(BrokerEpoch(1))
                    self.possible, self.synced_to = self.possible[-1:], log.log_end_offset
                    manager, log = self._open()
                case "kill":
                    self._cut_survivor()
                    manager, log = self._open()
                    assert whole(log) == self.possible[-1]
                    check_consistent(log)

    def _cut_survivor(self) -> None:
        cut_at, changes = self.storage._cut_at, self.storage.changes
        self.storage = self.storage.kill()
        self.storage._cut_at, self.storage.changes = cut_at, changes

    def _lead(self, log: PartitionLog) -> None:
        producer = self.random.choice((1, 2, 3, None))
        count = self.random.randrange(1, 4)
        sequence = self.sequences.get(producer or 0, 0)
        if producer is not None and not knows(log, producer, self.epoch, sequence):
            sequence = 0
        who = None if producer is None else (producer, self.epoch, sequence)
        data = batch(
            count,
            value=bytes(self.random.choice((0, 20, 90))),
            producer=who,
            timestamps=(NOW_MS - self.random.randrange(1000),),
        )
        stamped = RecordBatch.parse(data).stamped_header(log.log_end_offset, LeaderEpoch(self.epoch))
        self.possible.append(whole(log) + stamped + data[61:])
        log.append_as_leader(data, LeaderEpoch(self.epoch))
        if producer is not None:
            self.sequences[producer] = sequence + count

    def _follow(self, log: PartitionLog) -> None:
        parts, end = [], log.log_end_offset
        for _ in range(self.random.randrange(1, 5)):
            parts.append(batch(1, value=bytes(30), base_offset=end, epoch=self.epoch))
            end = end_of(parts[-1])
        self.possible.append(whole(log) + b"".join(parts))
        log.append_as_follower(b"".join(parts))

    def _sync(self, manager: LogManager, log: PartitionLog) -> None:
        log.sync()
        assert log.recovery_point == log.log_end_offset
        self.possible, self.synced_to = [whole(log)], log.log_end_offset
        if self.random.random() < 0.8:
            manager._checkpoints.write_recovery_points()

    def _cut(self, log: PartitionLog) -> None:
        offset = Offset(max(log.log_start_offset, log.log_end_offset - self.random.randrange(1, 12)))
        if offset < log.log_end_offset:
            self.synced_to = min(self.synced_to, log._segments.batch_start(offset))
        log.truncate_to(offset)
        self.possible.append(whole(log))
        self.epoch += 1

    def _goes_on(self, manager: LogManager, log: PartitionLog) -> None:
        end, epoch = log.log_end_offset, LeaderEpoch(self.epoch + 1)
        log.append_as_leader(batch(2), epoch)
        assert log.end_offset_for_epoch(epoch) == (end + 2, epoch)
        log.sync()
        content, entries = whole(log), log._epochs.entries
        manager.write_clean_shutdown(BrokerEpoch(2))
        _, again = self._open()
        assert (whole(again), again._epochs.entries, again.cut_bytes) == (content, entries, 0)
        check_consistent(again)


def knows(log: PartitionLog, producer: int, epoch: int, sequence: int) -> bool:
    """Whether ``sequence`` is what the log awaits of this producer."""
    known = log._producers._producers.get(producer)  # type: ignore[call-overload]
    return known is not None and known.epoch == epoch and known.batches[-1].last_sequence + 1 == sequence


def check_consistent(log: PartitionLog) -> None:
    """Epochs, producers, indexes and times are what the batches say."""
    stored = list(batches_in(whole(log)))
    epochs, producers = LeaderEpochCache(), ProducerStateManager()
    for one in stored:
        assert one.leader_epoch is not None
        one.verify_crc()
        epochs.assign(one.leader_epoch, one.base_offset)
        producers.update(one, NOW_MS)
    found = [entry for entry in log._epochs.entries if entry[1] < log.log_end_offset]
    assert found == list(epochs.entries), (found, epochs.entries)
    assert remembered(log._producers) == remembered(producers)
    for segment in log._segments:
        mine = [one for one in stored if segment.base_offset <= one.base_offset < segment.next_offset]
        assert segment.largest_timestamp_ms == max((one.max_timestamp for one in mine), default=None)
        for one in mine:
            hit = segment.find_time(one.max_timestamp)
            first = next(each for each in mine if each.max_timestamp >= one.max_timestamp)
            assert hit is not None
            assert hit.batch.base_offset == first.base_offset
            data = log.read(one.last_offset, 1, log.log_end_offset)
            assert next(batches_in(data)).base_offset == one.base_offset


def remembered(state: ProducerStateManager) -> dict[int, tuple[ProducerEpoch, deque]]:
    """Each producer's epoch and batches."""
    return {number: (one.epoch, one.batches) for number, one in state._producers.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    failed = cut_again = 0
    for seed in range(arguments.first, arguments.first + arguments.points):
        point = CrashPoint(seed)
        try:
            point.run()
        except Exception as error:
            failed += 1
            print(f"seed {seed}: {type(error).__name__}: {error}", file=sys.stderr)
        cut_again += point.recoveries_cut
    print(f"{arguments.points} crash points, {cut_again} more cuts while recovering, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
