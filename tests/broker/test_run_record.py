"""What one run leaves for the next, and which stops count as unclean."""

from pathlib import Path

import pytest

from ottla.broker.run_record import FILE_NAME, RunRecord, read_run_record, was_unclean, write_run_record
from ottla.log.model import BrokerEpoch

from ..simulation.crashing_storage import CrashingStorage

HERE = Path("/data")
EPOCH, OTHER = BrokerEpoch(7), BrokerEpoch(6)


@pytest.mark.parametrize(
    ("record", "clean_epoch", "boot_id", "unclean"),
    [
        (None, None, "a", False),  # the first run
        (RunRecord(EPOCH, "a"), EPOCH, "a", False),
        (RunRecord(EPOCH, "a"), EPOCH, "b", False),  # stopped cleanly, then the machine was restarted
        (RunRecord(EPOCH, "a"), None, "a", False),  # killed: the page cache lives
        (RunRecord(EPOCH, "a"), None, "b", True),  # lost power
        (RunRecord(EPOCH, "a"), OTHER, "b", True),  # an old marker says nothing of this run
        (RunRecord(EPOCH, "a"), OTHER, "a", False),
        (RunRecord(EPOCH, None), None, None, True),  # unknown kernels are not the same kernel
        (RunRecord(EPOCH, "a"), None, None, True),
        (RunRecord(EPOCH, None), None, "a", True),
        (RunRecord(EPOCH, "a", failed=True), EPOCH, "a", True),  # its disk failed it
    ],
)
def test_what_is_an_unclean_stop(record, clean_epoch, boot_id, unclean):
    assert was_unclean(record, clean_epoch, boot_id) is unclean


def test_a_record_survives_power_loss_whole():
    storage = CrashingStorage(3)
    storage.mkdir(HERE)
    storage.sync_directory(HERE.parent)
    assert read_run_record(storage, HERE) is None
    write_run_record(storage, HERE, RunRecord(EPOCH, "a"))
    storage = storage.crash(1)
    assert read_run_record(storage, HERE) == RunRecord(EPOCH, "a")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff", b"[]", b'{"broker_epoch":"x","boot_id":null}', b'{"broker_epoch":7,"boot_id":"bo\xef"}'],
)
def test_a_record_that_cannot_be_read_counts_as_a_failed_disk(content):
    storage = CrashingStorage()
    storage.mkdir(HERE)
    storage.open(HERE / FILE_NAME, create=True).append(content)
    record = read_run_record(storage, HERE)
    assert record is not None
    assert record.failed
    assert was_unclean(record, record.broker_epoch, "boot-0")
