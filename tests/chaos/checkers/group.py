"""What a consumer group must hold to, over a history of what its members tell. Pure.

Operations. ``put-one``: ``{"p": partition, "v": value}``, ends with its offset ``o``. A member has four processes
(group/told.py): ``handle``: a record ``{"p", "o", "v"}`` from when the handler has it until it is done, with ``epoch``
and ``member`` id then; ``commit``: every attempt, ``{"offsets": [[p, o], ...], "epoch", "member", "auto"}``; ``fetch``
of offsets, also by watchers who are no members; ``beat``: a heartbeat; ``own``: it begins with ``starts``: ``[[p,
position | null], ...]``, ``disown``: it lets ``partitions`` go, ``how``: revoked, or lost (they are others' already);
``old-commit``: a commit in an epoch that is past. ``member``: somebody joins, leaves, has left, crashes, is paused or
resumed. ``settle``: from a change until all partitions are shared evenly; it has five seconds from ``due_ns``.

| anomaly | meaning |
|---|---|
| unhandled | acknowledged, and nobody finished it |
| phantom-handled | a value that nobody sent there, or at another offset than it was acknowledged at |
| handled-again, skipped | one member, while it owned a partition, had a record twice, or left one out |
| two-owners | two members owned a partition in one epoch, or at one time though the group knew that both lived |
| unowned-handled | a member handled a record of a partition that was not its own |
| wrong-start | a member did not begin where it was told that the group had got to |
| lost-commit | a fetch returned what an acknowledged commit had replaced, or what was never committed |
| commit-regress | a member committed less than it had before, or than where it began |
| commit-past-handled | a member committed more than its handler had finished |
| commit-unowned | a commit of a partition that was not the member's own was acknowledged |
| old-commit-accepted | so was one in an epoch that was past |
| uncommitted | everybody left in peace, and not all that was handled is committed |
| slow-settle | the group did not settle in time after a change, in a cluster that was whole |
| slow-recovery | no acknowledgement in time after the last mending |
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from ..history import Op, Pair, paired
from .findings import Findings
from .group_register import check_register
from .group_story import FOREVER, Story, Tenure, acked_offsets, end_ns_of, member_of, tenure_at, told

GROUP_F = frozenset(("put-one", "handle", "commit", "fetch", "beat", "own", "disown", "old-commit", "member", "settle"))
OUTSIDE = 1_000_000
SESSION_NS = 6_000_000_000
SLACK_NS = 300_000_000
"""Between a heartbeat's sending and its taking effect nothing is known; a timer is early by no more than this."""
SETTLE_NS = 5_000_000_000
SETTLE_SLACK_NS = {"sim": 200_000_000, "proc": 1_500_000_000}
"""Looks come each 50 ms; on real processes a member's process takes a while to start."""
FIRST_ACK_NS = 5_000_000_000


def check_group(ops: Iterable[Op], healed_ns: int | None = None, backend: str = "sim") -> Findings:
    """``healed_ns``: when everything was mended for good; None: nothing ever broke."""
    findings = Findings()
    pairs = paired(op for op in ops if op.f in GROUP_F)
    if not pairs:
        return findings
    story = told(pairs, findings)
    _check_values(story, pairs, findings)
    acked = acked_offsets(story)
    for partition, tenures in story.tenures.items():
        _check_owners(story, tenures, findings)
        for tenure in tenures:
            _check_order(tenure, acked.get(partition, []), findings)
    _check_commits(story, findings)
    check_register(story, findings)
    _check_final(story, findings)
    _check_settled(story, healed_ns, SETTLE_SLACK_NS[backend], findings)
    _check_recovered(story, healed_ns, findings)
    return findings


def lack_of_group_progress(ops: Iterable[Op]) -> list[str]:
    """Why a run says nothing about groups."""
    counts: dict[str, int] = defaultdict(int)
    for pair in paired(op for op in ops if op.f in GROUP_F):
        counts[pair.begin.f] += pair.type == "ok"
        if pair.begin.f == "member":
            counts[pair.begin.value["what"]] += 1
        if pair.begin.f == "own" and pair.type == "ok":
            counts["given"] += len(pair.value["starts"])
    wanted = {"join": 2, "given": 25, "commit": 10, "fetch": 5, "settle": 2, "put-one": 20, "handle": 20}
    return [f"only {counts[what]} {what}" for what, least in wanted.items() if counts and counts[what] < least]


# --- records ---------------------------------------------------------------------------------------------------------


def _check_values(story: Story, pairs: list[Pair], findings: Findings) -> None:
    for (partition, value), offset in story.sent.items():
        if offset is not None and (partition, value) not in story.handled:
            findings.fault("unhandled", p=partition, v=value, o=offset)
    for pair in pairs:
        if pair.begin.f == "handle":
            value = pair.begin.value
            key = (value["p"], value["v"])
            if key not in story.sent or story.sent[key] not in (None, value["o"]):
                findings.fault("phantom-handled", sent=story.sent.get(key), op=pair.begin.index, **value)


def _check_order(tenure: Tenure, acked: list[int], findings: Findings) -> None:
    """Within a tenure every record comes once, in order, from where the group had got to."""
    expected = 0 if tenure.start is None else tenure.start
    for offset, begin_ns, _ in sorted(tenure.handled, key=lambda each: each[1]):
        example = {"p": tenure.partition, "o": offset, "expected": expected, "member": tenure.member}
        if offset < expected:
            findings.fault("handled-again", **example)
        elif bisect_left(acked, offset) > bisect_left(acked, expected):
            findings.fault("skipped", **example, at_ns=begin_ns)
        expected = max(expected, offset + 1)


# --- owners ----------------------------------------------------------------------------------------------------------


def _check_owners(story: Story, tenures: list[Tenure], findings: Findings) -> None:
    """Epochs of two members' tenures never meet; in time they may only where the group had given one of them up."""
    for at, later in enumerate(tenures):
        for earlier in tenures[:at]:
            if earlier.member == later.member:
                continue
            same_place = earlier.instance is not None and earlier.instance == later.instance
            meet = earlier.low <= later.high and later.low <= earlier.high
            if meet and not same_place:
                findings.fault("two-owners", **_both(earlier, later), why="epochs")
            elif _last_ns(earlier) > later.begin_ns and _was_alive(story, earlier, later.begin_ns):
                findings.fault("two-owners", **_both(earlier, later), why="time")


def _last_ns(tenure: Tenure) -> int:
    """Until when it had the partition, a handler that went on included."""
    ends = [tenure.end_ns if end is None else end for _, _, end in tenure.handled[-1:]]
    return max([tenure.end_ns, *ends])


def _was_alive(story: Story, tenure: Tenure, at_ns: int) -> bool:
    """Whether the group had heard of the member too lately to have given it up. One that was told it is out was out."""
    if tenure.how in ("lost", "gone") and tenure.end_ns <= at_ns + SESSION_NS:
        return False
    beats = story.beats[tenure.member]
    before = bisect_right(beats, at_ns)
    return before > 0 and at_ns - beats[before - 1] < SESSION_NS - SLACK_NS


def _both(earlier: Tenure, later: Tenure) -> dict[str, Any]:
    return {
        "p": later.partition,
        "members": [earlier.member, later.member],
        "epochs": [[earlier.low, earlier.high], [later.low, later.high]],
        "from_ns": later.begin_ns,
        "until_ns": min(_last_ns(earlier), FOREVER),
        "how": earlier.how,
    }


# --- commits ---------------------------------------------------------------------------------------------------------


def _check_commits(story: Story, findings: Findings) -> None:
    """Each against what its member owned and had finished."""
    highest: dict[int, int] = {}  # by tenure
    starts = _startstold(story)
    for tenures in story.tenures.values():
        for tenure in tenures:
            told = starts.get((tenure.member, tenure.partition), [])
            before = bisect_right(told, (tenure.begin_ns, FOREVER))
            if before and told[before - 1][1] != (tenure.start if tenure.start is not None else -1):
                found = told[before - 1][1]
                if found >= 0:
                    findings.fault("wrong-start", p=tenure.partition, start=tenure.start, committed=found)
    for pair in story.commits:
        member, began_ns = member_of(pair), pair.begin.time_ns
        for partition, offset in pair.begin.value["offsets"]:
            example = {"p": partition, "o": offset, "member": member, "op": pair.begin.index}
            tenure = tenure_at(story, member, partition, began_ns)
            if tenure is None:
                if pair.type == "ok":
                    findings.fault("commit-unowned", **example)
                continue
            done = [at + 1 for at, _, end in tenure.handled if end is not None and end <= began_ns]
            limit = max([tenure.start or 0, *done])
            if offset > limit:
                findings.fault("commit-past-handled", finished=limit, **example)
            floor = highest.get(id(tenure), tenure.start or 0)
            if offset < floor:
                findings.fault("commit-regress", before=floor, **example)
            highest[id(tenure)] = max(floor, offset)


def _startstold(story: Story) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """By member and partition, when it was told how far the group is, and how far; -1: nowhere."""
    told: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for pair in story.fetches:
        if pair.type == "ok" and pair.begin.process < OUTSIDE and pair.end is not None:
            for partition, offset in pair.value["offsets"]:
                told[member_of(pair), partition].append((pair.end.time_ns, -1 if offset is None else offset))
    for each in told.values():
        each.sort()
    return told


def _check_final(story: Story, findings: Findings) -> None:
    """After all have left, all that was handled is committed."""
    final = [pair for pair in story.fetches if pair.type == "ok" and pair.value.get("final")]
    if not final:
        return
    committed = {partition: offset or 0 for partition, offset in final[-1].value["offsets"]}
    for partition, offsets in acked_offsets(story).items():
        if committed.get(partition, 0) <= offsets[-1]:
            findings.fault("uncommitted", p=partition, committed=committed.get(partition), last=offsets[-1])


# --- time ------------------------------------------------------------------------------------------------------------


def _check_settled(story: Story, healed_ns: int | None, slack_ns: int, findings: Findings) -> None:
    for pair in story.settles:
        begin_ns, end_ns = pair.begin.time_ns, end_ns_of(pair)
        if healed_ns is not None and begin_ns < healed_ns + FIRST_ACK_NS:
            continue
        due_ns = max(begin_ns, pair.begin.value["due_ns"]) + SETTLE_NS + slack_ns
        if end_ns > due_ns:
            findings.fault("slow-settle", late_ms=(end_ns - due_ns) // 1_000_000, **pair.begin.value)


def _check_recovered(story: Story, healed_ns: int | None, findings: Findings) -> None:
    if healed_ns is None:
        return
    acks = sorted(story.acks_ns)
    at = bisect_left(acks, healed_ns)
    if at < len(acks) and acks[at] > healed_ns + FIRST_ACK_NS:
        findings.fault("slow-recovery", first_ack_ms=(acks[at] - healed_ns) // 1_000_000)
