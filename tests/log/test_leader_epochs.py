"""Leader epochs: where a log ends for an epoch, through truncations, and as text."""

import pytest
from hypothesis import given, strategies as st

from ottla.log.leader_epochs import LeaderEpochCache, decode_epochs, encode_epochs
from ottla.log.model import LeaderEpoch, Offset

END = Offset(100)


def cache(*entries: tuple[int, int]) -> LeaderEpochCache:
    return LeaderEpochCache((LeaderEpoch(epoch), Offset(start)) for epoch, start in entries)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [(1, (0, 1)), (2, (10, 2)), (3, (10, 2)), (4, (50, 4)), (6, (50, 4)), (7, (100, 7)), (8, None)],
)
def test_end_offset_for(asked: int, answer: tuple[int, int] | None) -> None:
    assert cache((2, 0), (4, 10), (7, 50)).end_offset_for(LeaderEpoch(asked), END) == answer


def test_an_empty_cache_knows_nothing() -> None:
    assert cache().end_offset_for(LeaderEpoch(0), END) is None
    assert cache().latest is None


def test_an_epoch_without_records_gives_way() -> None:
    epochs = cache((1, 0), (2, 10))
    assert epochs.assign(LeaderEpoch(5), Offset(10))
    assert not epochs.assign(LeaderEpoch(5), Offset(20))
    assert not epochs.assign(LeaderEpoch(4), Offset(20))
    assert epochs.entries == ((1, 0), (5, 10))


def test_truncation() -> None:
    epochs = cache((1, 0), (2, 10), (3, 20))
    epochs.truncate_from_end(Offset(20))
    assert epochs.entries == ((1, 0), (2, 10))
    epochs.truncate_from_end(Offset(11))
    assert epochs.latest == 2
    epochs.truncate_from_start(Offset(15))
    assert epochs.entries == ((2, 15),)
    assert epochs.epoch_of(Offset(15)) == 2
    assert epochs.epoch_of(Offset(14)) is None


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.data())
def test_against_a_list_of_every_offsets_epoch(steps: list[int], data: st.DataObject) -> None:
    by_offset: list[int] = []
    epochs, epoch = LeaderEpochCache(), 0
    for step in steps:
        epoch += step == 6
        if step == 5 and by_offset:
            end = data.draw(st.integers(0, len(by_offset)))
            del by_offset[end:]
            epochs.truncate_from_end(Offset(end))
        else:
            epochs.assign(LeaderEpoch(epoch), Offset(len(by_offset)))
            by_offset.append(epoch)
    end = Offset(len(by_offset))
    assert epochs.latest == (by_offset[-1] if by_offset else None)
    for asked in range(epoch + 2):
        at_most = [known for known in by_offset if known <= asked]
        known = bool(by_offset) and asked <= by_offset[-1]
        expected = (len(at_most), at_most[-1] if at_most else asked) if known else None
        assert epochs.end_offset_for(LeaderEpoch(asked), end) == expected
    assert decode_epochs(encode_epochs(epochs.entries)) == epochs.entries


def test_text() -> None:
    text = b"0\n2\n0 0\n3 17\n"
    assert decode_epochs(text) == ((0, 0), (3, 17))
    assert encode_epochs(decode_epochs(text)) == text
    for cut in range(len(text)):
        with pytest.raises(ValueError):
            decode_epochs(text[:cut])


@pytest.mark.parametrize("text", [b"1\n0\n", b"0\n1\n1 2\n3 4\n", b"0\n2\n3 0\n1 5\n", b"0\n1\n-1 0\n", b"\0\0\n"])
def test_bad_text(text: bytes) -> None:
    with pytest.raises(ValueError):
        decode_epochs(text)
