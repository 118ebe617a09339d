"""What a fetch of offsets may return: each partition's committed offset is a register. Pure."""

from bisect import bisect_left
from collections import defaultdict

from .findings import Findings
from .group_story import FOREVER, Story, end_ns_of


class Register:
    """What was committed of one partition, and what a fetch may return of it."""

    def __init__(self) -> None:
        self.writes: dict[int, list[list[int]]] = defaultdict(list)  # offset -> [begin, end]
        self._ends: list[int] = []
        self._begins: list[int] = []  # the latest begin of an acknowledged write that ended by then

    def write(self, offset: int, begin_ns: int, end_ns: int) -> None:
        self.writes[offset].append([begin_ns, end_ns])

    def witness(self, offset: int, seen_ns: int) -> None:
        """It was there by then: a write of unknown outcome had happened, if it is the only one of its value."""
        writes = self.writes.get(offset, [])
        if len(writes) == 1:
            writes[0][1] = min(writes[0][1], seen_ns)

    def seal(self) -> None:
        latest = -1
        for end_ns, begin_ns in sorted((end, begin) for writes in self.writes.values() for begin, end in writes):
            if end_ns < FOREVER:
                latest = max(latest, begin_ns)
                self._ends.append(end_ns)
                self._begins.append(latest)

    def replaced_before(self, read_ns: int) -> int:
        """A write that ended before this moment had been replaced, for sure, when the read began; -1: none."""
        before = bisect_left(self._ends, read_ns)
        return self._begins[before - 1] if before else -1

    def explains(self, offset: int | None, begin_ns: int, end_ns: int) -> bool:
        limit_ns = self.replaced_before(begin_ns)
        if offset is None:
            return limit_ns < 0
        return any(write[0] < end_ns and write[1] >= limit_ns for write in self.writes.get(offset, ()))


def check_register(story: Story, findings: Findings) -> None:
    """Every fetch returns the last acknowledged commit, or one that may have come after it."""
    registers: dict[int, Register] = defaultdict(Register)
    for pair in story.commits:
        if pair.type == "fail":
            continue
        for partition, offset in pair.value["offsets"]:
            end_ns = end_ns_of(pair) if pair.type == "ok" else FOREVER
            registers[partition].write(offset, pair.begin.time_ns, end_ns)
    reads = [
        (partition, offset, pair)
        for pair in story.fetches
        if pair.type == "ok"
        for partition, offset in pair.value["offsets"]
    ]
    for partition, offset, pair in reads:
        if offset is not None:
            registers[partition].witness(offset, end_ns_of(pair))
    for register in registers.values():
        register.seal()
    for partition, offset, pair in reads:
        if not registers[partition].explains(offset, pair.begin.time_ns, end_ns_of(pair)):
            findings.fault("lost-commit", p=partition, fetched=offset, op=pair.begin.index)
