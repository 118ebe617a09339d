"""The memory that a pass of compaction takes for its keys."""

import tracemalloc

from ottla.log.key_map import BYTES_PER_KEY, KeyMap
from ottla.log.model import Offset


def test_what_a_key_costs() -> None:
    """At the sizes where a dict has just grown, and between."""
    tracemalloc.start()
    try:
        keys = KeyMap(1 << 40, Offset(0))
        before, _ = tracemalloc.get_traced_memory()
        for number in range(90_000):
            keys.put(b"key-%030d" % number, Offset(1_000_000_000 + number))
            if number > 5_000 and number % 500 == 0:
                _, peak = tracemalloc.get_traced_memory()
                assert (peak - before) / len(keys) < BYTES_PER_KEY
    finally:
        tracemalloc.stop()


def test_no_more_keys_than_fit() -> None:
    keys = KeyMap(3 * BYTES_PER_KEY, Offset(0))
    assert keys.has_room_for(1_000_000), "the first batch always fits: a pass must get on"
    keys.put(b"a", Offset(1))
    assert keys.has_room_for(2)
    assert not keys.has_room_for(3)
    keys.put(b"a", Offset(2))
    assert (len(keys), keys.is_newest(b"a", Offset(2)), keys.is_newest(b"a", Offset(1))) == (1, True, False)
    assert keys.is_newest(b"b", Offset(0))
