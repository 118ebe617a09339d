"""The fault injection on real processes: a short run, and what every run relies on."""

import errno

import pytest

from ottla.log.batch_builder import BatchBuilder
from ottla.log.checkpoint import HIGH_WATERMARK_FILE, OffsetCheckpoint, write_epochs, write_partition_metadata
from ottla.log.model import LeaderEpoch, Offset, TopicId, TopicPartition
from ottla.log.storage import SystemStorage
from tests.chaos.checkers.replicas import check_replicas
from tests.chaos.faults.plan import Act
from tests.chaos.story import Config

from . import room
from .doors import DooredStorage, Doors, Order, Told
from .dumps import dump_node
from .story import run_real

SUFFERED = (("kill", 3), ("pause", 5), ("partition", 37), ("kill", 29))
"""With seeds that take some 15 s together; the first kill is the quorum leader's."""


@pytest.fixture
def a_room() -> None:
    reason = room.why_not()
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.processes
def test_kills_pauses_and_cuts_lose_nothing(a_room, tmp_path):
    acts = [Act(0.0, kind, seed, True) for kind, seed in SUFFERED]
    lived = run_real(1, Config(seconds=15), acts, directory=tmp_path / "run")
    assert lived.verdict.valid is True, (lived.verdict.bad_error_types, lived.verdict.invalid_because)
    assert lived.effects["kill"]
    assert lived.effects["pause"]
    assert lived.effects["cut"]


@pytest.mark.processes
def test_a_cut_stops_one_direction_and_is_counted(a_room, tmp_path):
    code = room.run_inside("tests.chaos.proc.network_check", [], limit_s=60, output=tmp_path / "output")
    assert code == 0, (tmp_path / "output").read_text()


@pytest.mark.processes
def test_what_hangs_in_a_room_is_ended(a_room, tmp_path):
    code = room.run_inside("http.server", ["0"], limit_s=0.5, output=tmp_path / "output")
    assert code == room.EXIT_TIMED_OUT


class ToldDoors(Doors):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[Told] = []

    def _tell(self, told: Told) -> None:
        self.told.append(told)


def test_the_next_sync_of_a_log_fails_once(tmp_path):
    doors = ToldDoors()
    storage = DooredStorage(doors)
    log, checkpoint = storage.open(tmp_path / "0.log", create=True), storage.open(tmp_path / "x.tmp", create=True)
    doors.obey(Order(1, "fail_sync"))
    checkpoint.sync()
    assert not doors.told
    with pytest.raises(OSError, match="Input/output") as raised:
        log.sync()
    assert raised.value.errno == errno.EIO
    assert doors.told == [Told(failed_sync=True)]
    log.sync()


def test_calm_ends_every_order(tmp_path):
    doors = ToldDoors()
    for order in (Order(1, "fail_sync"), Order(2, "slow", seconds=9.0), Order(3, "trap", place="log.append.before")):
        doors.obey(order)
    doors.obey(Order(4, "calm"))
    doors.hit("log.append.before")
    DooredStorage(doors).open(tmp_path / "0.log", create=True).sync()
    assert not doors.told


def write_replica(data, values, epochs=((1, 0), (2, 1))):
    """A partition as a node's files have it: one record a batch, of epoch 2 from the second on."""
    storage, directory = SystemStorage(), data / "logs" / "t-0"
    directory.mkdir(parents=True)
    write_partition_metadata(storage, directory, TopicId("A" * 22))
    write_epochs(storage, directory, tuple((LeaderEpoch(epoch), Offset(start)) for epoch, start in epochs))
    OffsetCheckpoint(storage, data / "logs" / HIGH_WATERMARK_FILE).write(lambda: {TopicPartition("t", 0): Offset(2)})
    for segment, offsets in ((0, (0, 1)), (2, (2,))):
        parts = [_batch(offset, 1 if offset == 0 else 2, values[offset]) for offset in offsets if offset < len(values)]
        (directory / f"{segment:020}.log").write_bytes(b"".join(parts))


def _batch(offset, epoch, value):
    builder = BatchBuilder()
    builder.append(None, value, timestamp_ms=1)
    batch = bytearray(builder.build())
    batch[0:8], batch[12:16] = offset.to_bytes(8, "big"), epoch.to_bytes(4, "big")
    return bytes(batch)


def test_files_are_compared_below_the_high_watermark(tmp_path):
    write_replica(tmp_path / "b1", [b"a", b"b", b"c"])
    write_replica(tmp_path / "b2", [b"a", b"b"])
    dumps = [*dump_node("b1", tmp_path / "b1"), *dump_node("b2", tmp_path / "b2")]
    assert [(dump.partition, dump.node, dump.high_watermark, dump.end_offset) for dump in dumps] == [
        ("t-0", "b1", 2, 3),
        ("t-0", "b2", 2, 2),
    ]
    assert [batch[:2] for batch in dumps[0].batches] == [(0, 1), (1, 2), (2, 2)]
    assert dumps[0].epochs == [(1, 0), (2, 1)]
    assert not check_replicas(dumps).errors


def test_files_that_differ_are_found(tmp_path):
    write_replica(tmp_path / "b1", [b"a", b"b", b"c"])
    write_replica(tmp_path / "b2", [b"a", b"x", b"c"], epochs=((1, 0), (3, 1)))
    dumps = [*dump_node("b1", tmp_path / "b1"), *dump_node("b2", tmp_path / "b2")]
    assert "replica-divergence" in check_replicas(dumps).errors
