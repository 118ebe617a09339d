"""A history of a group as tenures: who owned which partition, when, in which epochs, and what was handled. Pure."""

from collections import defaultdict
from dataclasses import dataclass, field

from ..group.told import LANES
from ..history import Pair
from .findings import Findings

FOREVER = 1 << 62


@dataclass(slots=True, eq=False)
class Tenure:
    """A member owns a partition: from ``begin_ns`` to ``end_ns``, in epochs from ``low`` to ``high``."""

    member: int
    instance: str | None
    partition: int
    start: int | None
    begin_ns: int
    low: int
    high: int
    end_ns: int = FOREVER
    how: str = ""
    handled: list[tuple[int, int, int | None]] = field(default_factory=list)  # offset, begin, end


@dataclass(slots=True)
class Story:
    """The history, sorted by what is asked of it."""

    sent: dict[tuple[int, int], int | None] = field(default_factory=dict)  # (partition, value) -> offset if acked
    acks_ns: list[int] = field(default_factory=list)
    handled: set[tuple[int, int]] = field(default_factory=set)  # (partition, value), finished
    tenures: dict[int, list[Tenure]] = field(default_factory=lambda: defaultdict(list))  # by partition, in time
    of_member: dict[tuple[int, int], list[Tenure]] = field(default_factory=lambda: defaultdict(list))
    beats: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))  # when answered ones were sent
    gone: dict[int, int] = field(default_factory=dict)  # member -> when it crashed or had left
    instances: dict[int, str | None] = field(default_factory=dict)
    commits: list[Pair] = field(default_factory=list)
    fetches: list[Pair] = field(default_factory=list)
    settles: list[Pair] = field(default_factory=list)


def member_of(pair: Pair) -> int:
    return pair.begin.process // LANES


def end_ns_of(pair: Pair) -> int:
    return FOREVER if pair.end is None else pair.end.time_ns


def told(pairs: list[Pair], findings: Findings) -> Story:
    story = Story()
    for pair in pairs:
        if pair.begin.f == "member":
            value = pair.begin.value
            story.instances[value["member"]] = value["instance"]
            if value["what"] in ("crash", "left"):
                story.gone[value["member"]] = pair.begin.time_ns
    for pair in sorted(pairs, key=lambda pair: (pair.begin.time_ns, pair.begin.index)):
        match pair.begin.f:
            case "put-one":
                _note_put(story, pair)
            case "own" if pair.type == "ok":
                _begin_tenures(story, pair)
            case "disown" if pair.type == "ok":
                _end_tenures(story, pair)
            case "handle":
                _note_handling(story, pair, findings)
            case "beat" if pair.type == "ok":
                story.beats[member_of(pair)].append(pair.begin.time_ns)
            case "commit":
                story.commits.append(pair)
            case "fetch":
                story.fetches.append(pair)
            case "settle":
                story.settles.append(pair)
            case "old-commit" if pair.type == "ok":
                findings.fault("old-commit-accepted", op=pair.begin.index, **pair.begin.value)
    for tenures in story.tenures.values():
        for tenure in tenures:
            if tenure.end_ns == FOREVER and tenure.member in story.gone:
                tenure.end_ns, tenure.how = story.gone[tenure.member], "gone"
    return story


def _note_put(story: Story, pair: Pair) -> None:
    key = (pair.begin.value["p"], pair.begin.value["v"])
    story.sent[key] = pair.value["o"] if pair.type == "ok" else None
    if pair.type == "ok":
        story.acks_ns.append(end_ns_of(pair))


def _begin_tenures(story: Story, pair: Pair) -> None:
    member, epoch = member_of(pair), pair.begin.value["epoch"]
    low = -1 if epoch is None else epoch
    for partition, start in pair.begin.value["starts"]:
        tenure = Tenure(member, story.instances.get(member), partition, start, pair.begin.time_ns, low, low)
        story.tenures[partition].append(tenure)
        story.of_member[member, partition].append(tenure)


def _end_tenures(story: Story, pair: Pair) -> None:
    member, epoch = member_of(pair), pair.begin.value["epoch"]
    for partition in pair.begin.value["partitions"]:
        tenures = story.of_member[member, partition]
        if tenures and tenures[-1].end_ns == FOREVER:
            tenures[-1].end_ns, tenures[-1].how = pair.begin.time_ns, pair.begin.value["how"]
            if pair.begin.value["how"] == "revoked" and epoch is not None:
                tenures[-1].high = max(tenures[-1].high, epoch)


def _note_handling(story: Story, pair: Pair, findings: Findings) -> None:
    value, member = pair.begin.value, member_of(pair)
    if pair.type == "ok":
        story.handled.add((value["p"], value["v"]))
    tenure = tenure_at(story, member, value["p"], pair.begin.time_ns)
    if tenure is None:
        findings.fault("unowned-handled", member_number=member, op=pair.begin.index, **value)
        return
    tenure.handled.append((value["o"], pair.begin.time_ns, None if pair.end is None else pair.end.time_ns))
    if value["epoch"] is not None:
        tenure.high = max(tenure.high, value["epoch"])


def tenure_at(story: Story, member: int, partition: int, at_ns: int) -> Tenure | None:
    """The one that was on then."""
    for tenure in reversed(story.of_member[member, partition]):
        if tenure.begin_ns <= at_ns:
            return tenure if at_ns <= tenure.end_ns else None
    return None


def acked_offsets(story: Story) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for (partition, _), offset in story.sent.items():
        if offset is not None:
            found[partition].append(offset)
    for offsets in found.values():
        offsets.sort()
    return found
