"""Both kinds of client must agree on every key, so the vectors are Kafka's own (UtilsTest.testMurmur2)."""

import random

import pytest
from hypothesis import given, strategies as st

from ottla.client.partitioner import StickyChoice, murmur2, partition_for_key


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(data: bytes, expected: int) -> None:
    assert murmur2(data) == expected


@given(st.binary(max_size=64), st.integers(1, 10_000))
def test_a_key_has_one_partition_and_it_exists(key: bytes, count: int) -> None:
    assert -(1 << 31) <= murmur2(key) < 1 << 31
    assert partition_for_key(key, count) == (murmur2(key) & 0x7FFFFFFF) % count


def test_records_without_a_key_stick_to_a_partition_until_its_batch_is_done() -> None:
    choice = StickyChoice(random.Random(1).randrange)
    first = choice.choose((0, 1, 2), lambda _: True)
    assert [choice.choose((0, 1, 2), lambda _: True) for _ in range(10)] == [first] * 10
    assert choice.choose((0, 1, 2), lambda _: False) != first


def test_records_without_a_key_avoid_partitions_without_a_leader() -> None:
    choice = StickyChoice(random.Random(1).randrange)
    assert {choice.choose((1,), lambda _: False) for _ in range(5)} == {1}
    assert choice.choose((2,), lambda _: True) == 2


def test_batches_without_a_key_are_spread_evenly() -> None:
    choice = StickyChoice(random.Random(7).randrange)
    counts = [0, 0, 0]
    for _ in range(3_000):
        counts[choice.choose((0, 1, 2), lambda _: False)] += 1
    assert min(counts) > 900
