"""The two sides of AppendEntries as plain decisions (Raft paper, sections 5.3 and 5.5). Pure.

PySyncObj's own versions truncate matching entries (D1), take late acknowledgements back (D4) and can rewind for
ever (D13); these replace them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

Entry = tuple[bytes, int, int]


class LogView(Protocol):
    """What the decisions need to know of a log whose first entry is after ``base_index`` (0: all are there)."""

    @property
    def base_index(self) -> int: ...

    @property
    def last_index(self) -> int: ...

    def term_at(self, index: int) -> int: ...


@dataclass(frozen=True, slots=True)
class Reject:
    """The logs do not meet before the message's entries; the leader should try from here."""

    next_index: int


@dataclass(frozen=True, slots=True)
class Accept:
    """Truncate, then append; afterwards the log is the leader's up to ``matched``, whatever follows it."""

    truncate_from: int | None  # first entry that contradicts the leader's
    append: Sequence[Entry]  # what is not here yet, in order
    matched: int


def decide_append(log: LogView, prev_index: int, prev_term: int, entries: Sequence[Entry]) -> Accept | Reject:
    """What a follower does with entries that the leader says follow (prev_index, prev_term).

    Only a *contradiction* truncates: a repeated or late message finds its entries here and changes nothing (D1).
    """
    if prev_index > log.last_index:
        return Reject(log.last_index + 1)
    if prev_index < log.base_index:
        # What a snapshot took the place of is committed, so it is the leader's too, and need not be compared.
        known = min(log.base_index - prev_index, len(entries))
        if known < log.base_index - prev_index:
            return Accept(None, (), prev_index + known)
        return decide_append(log, log.base_index, log.term_at(log.base_index), entries[known:])
    if log.term_at(prev_index) != prev_term:
        return Reject(_start_of_term(log, prev_index))
    for position, (_, index, term) in enumerate(entries):
        if index > log.last_index or log.term_at(index) != term:
            truncate_from = index if index <= log.last_index else None
            return Accept(truncate_from, entries[position:], prev_index + len(entries))
    return Accept(None, (), prev_index + len(entries))


def _start_of_term(log: LogView, index: int) -> int:
    # Skip the whole conflicting term in one round trip (end of the paper's section 5.3). Index 1 and the base
    # are everybody's.
    term, lowest = log.term_at(index), max(log.base_index + 1, 2)
    while index > lowest and log.term_at(index - 1) == term:
        index -= 1
    return max(index, lowest)


def majority_index(matches: Sequence[int]) -> int:
    """The highest index that more than half of the voters have; ``matches`` has one element per voter."""
    return sorted(matches, reverse=True)[len(matches) // 2]


@dataclass(slots=True)
class Progress:
    """What a leader knows of one follower, for one term.

    Invariant: match < next. Entries in (window_start, next) are on their way.
    """

    next: int  # first entry not sent yet
    now: float  # when this was made, monotonic seconds
    match: int = 0  # last entry known to be durable there; 0 while nothing is
    window_start: int = 0
    probing: bool = True  # one message at a time, until one is accepted
    probe_sent: bool = False
    commit_told: int = 0  # commit index of the last message sent
    responded_at: float = 0.0  # any answer of this term
    moved_at: float = 0.0  # the last time match rose, or sending started over

    def __post_init__(self) -> None:
        self.window_start = self.next - 1
        self.responded_at = self.moved_at = self.now

    @property
    def waiting(self) -> bool:
        """Something was sent and not accepted yet."""
        return self.probe_sent or (not self.probing and self.next > self.match + 1)

    def sent(self, through: int, commit: int, now: float) -> None:
        """A message with the entries up to ``through`` is on its way."""
        if not self.waiting:
            self.moved_at = now
        self.commit_told = min(commit, through)
        if self.probing:
            self.probe_sent = True
        else:
            self.next = max(self.next, through + 1)

    def accepted(self, matched: int, now: float) -> None:
        """The follower has everything up to ``matched`` durably. Acks only ever raise what we know (D4)."""
        if matched > self.match:
            self.match, self.moved_at = matched, now
        if matched >= self.next - 1:  # not the answer to a mere heartbeat
            self.probing = self.probe_sent = False
        self.window_start = max(self.window_start, matched)
        self.next = max(self.next, self.match + 1)

    def rejected(self, next_index: int, now: float) -> None:
        """The follower cannot use what was sent. The next try only moves down, so tries end (D13)."""
        self.next = max(min(self.next, next_index), self.match + 1, 2)
        self._start_over(now)

    def restart(self, last_index: int, now: float) -> None:
        """Messages were lost (a new connection, or no progress for long): send again from what is known."""
        self.next = self.match + 1 if self.match else max(2, min(self.next, last_index + 1))
        self._start_over(now)

    def _start_over(self, now: float) -> None:
        self.window_start = self.next - 1
        self.probing, self.probe_sent = True, False
        self.commit_told = 0
        self.moved_at = now
