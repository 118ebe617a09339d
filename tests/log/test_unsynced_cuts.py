"""What was cut off a segment stays cut off, though nothing was appended to that segment since."""

import pytest

from ottla.log.model import LeaderEpoch, Offset
from tests.log.builders import DATA, batch, open_log, whole
from tests.simulation.crashing_storage import CrashingStorage

EPOCH = LeaderEpoch(1)


def storage_with_directory(seed: int) -> CrashingStorage:
    storage = CrashingStorage(seed)
    storage.mkdir(DATA)
    storage.sync_directory(DATA.parent)
    return storage


@pytest.mark.parametrize("seed", range(8))
def test_a_torn_tail_does_not_come_back_behind_a_new_segment(seed: int) -> None:
    storage = storage_with_directory(seed)
    log = open_log(storage, segment_bytes=300)
    log.append_as_leader(batch(1), EPOCH)
    log.sync()
    log.append_as_leader(batch(1, value=bytes(150)), EPOCH)
    storage = storage.crash(seed)
    open_log(storage, segment_bytes=300, recovery_point=1)
    storage = storage.kill()
    log = open_log(storage, segment_bytes=300, recovery_point=1)
    log.append_as_leader(batch(1, value=bytes(200)), EPOCH)
    log.sync()
    content, end = whole(log), log.log_end_offset
    assert whole(open_log(storage.crash(seed), segment_bytes=300, recovery_point=end)) == content


@pytest.mark.parametrize("seed", range(8))
def test_what_was_truncated_does_not_come_back_behind_a_new_segment(seed: int) -> None:
    storage = storage_with_directory(seed)
    log = open_log(storage, segment_bytes=300)
    log.append_as_leader(batch(1), EPOCH)
    log.append_as_leader(batch(1, value=bytes(100)), EPOCH)
    log.sync()
    log.truncate_to(Offset(1))
    log.append_as_leader(batch(1, value=bytes(200)), EPOCH)
    assert log.segment_count == 2
    log.sync()
    content = whole(log)
    assert whole(open_log(storage.crash(seed), segment_bytes=300, recovery_point=2)) == content
