"""Which leader epoch wrote which offsets: how replicas find where their logs diverge (KIP-101, KIP-279).

Kept as Kafka's ``leader-epoch-checkpoint``:

    0
    <number of entries>
    <epoch> <start offset>
    ...
"""

from bisect import bisect_right
from collections.abc import Iterable

from .model import LeaderEpoch, Offset, OffsetAndEpoch

EpochStart = tuple[LeaderEpoch, Offset]


class LeaderEpochCache:
    """Start offsets by epoch. Invariant: epochs rise strictly, start offsets never fall."""

    def __init__(self, entries: Iterable[EpochStart] = ()) -> None:
        self._epochs: list[LeaderEpoch] = []
        self._starts: list[Offset] = []
        for epoch, start in entries:
            self.assign(epoch, start)

    @property
    def entries(self) -> tuple[EpochStart, ...]:
        """Every epoch with its start offset, oldest first."""
        return tuple(zip(self._epochs, self._starts, strict=True))

    @property
    def latest(self) -> LeaderEpoch | None:
        """The highest epoch known."""
        return self._epochs[-1] if self._epochs else None

    def assign(self, epoch: LeaderEpoch, start_offset: Offset) -> bool:
        """``epoch`` starts at ``start_offset``, if it is new. False if it was known.

        Entries that contradict it (at or above the offset, of an older epoch) never got a record and go.
        """
        latest = self.latest
        if latest is not None and epoch <= latest:
            return False
        while self._starts and self._starts[-1] >= start_offset:
            self._pop()
        self._epochs.append(epoch)
        self._starts.append(start_offset)
        return True

    def end_offset_for(self, epoch: LeaderEpoch, log_end_offset: Offset) -> OffsetAndEpoch | None:
        """The largest epoch not above ``epoch``, and where it ends: at the next epoch's start, or the log's end.

        None if ``epoch`` is above all we know (a question from the future). One below all we know ended where ours
        begin: its records were deleted here, or never were.
        """
        latest = self.latest
        if latest is None or epoch > latest:
            return None
        slot = bisect_right(self._epochs, epoch)
        if slot == 0:
            return OffsetAndEpoch(self._starts[0], epoch)
        end = self._starts[slot] if slot < len(self._starts) else log_end_offset
        return OffsetAndEpoch(end, self._epochs[slot - 1])

    def epoch_of(self, offset: Offset) -> LeaderEpoch | None:
        """The epoch in which ``offset`` is, or will be, written."""
        slot = bisect_right(self._starts, offset)
        return self._epochs[slot - 1] if slot else None

    def truncate_from_end(self, end_offset: Offset) -> None:
        """The log now ends at ``end_offset``: forget the epochs that start there or above."""
        while self._starts and self._starts[-1] >= end_offset:
            self._pop()

    def truncate_from_start(self, start_offset: Offset) -> None:
        """The log now starts at ``start_offset``: the epoch that contains it starts there, older ones go."""
        slot = bisect_right(self._starts, start_offset)
        if slot == 0:
            return
        self._epochs = self._epochs[slot - 1 :]
        self._starts = [start_offset, *self._starts[slot:]]

    def _pop(self) -> None:
        self._epochs.pop()
        self._starts.pop()


def encode_epochs(entries: Iterable[EpochStart]) -> bytes:
    """The text of a leader-epoch-checkpoint."""
    lines = [f"{epoch} {start}\n" for epoch, start in entries]
    return f"0\n{len(lines)}\n{''.join(lines)}".encode()


def decode_epochs(data: bytes) -> tuple[EpochStart, ...]:
    """The entries of a leader-epoch-checkpoint. Raises ValueError saying what is wrong: the end must be there too,
    since a torn write can leave a number that is a prefix of the one meant."""
    text = data.decode("ascii")
    if not text.endswith("\n"):
        raise ValueError("the last line is cut short")
    version, count, *lines = text[:-1].split("\n")
    if version != "0":
        raise ValueError(f"version {version!r} is not known")
    if int(count) != len(lines):
        raise ValueError(f"it has {len(lines)} entries and says {count}")
    entries: list[EpochStart] = []
    for line in lines:
        epoch, start = (int(number) for number in line.split(" "))
        if epoch < 0 or start < 0 or (entries and (epoch <= entries[-1][0] or start < entries[-1][1])):
            raise ValueError(f"entry {line!r} is out of order")
        entries.append((LeaderEpoch(epoch), Offset(start)))
    return tuple(entries)
