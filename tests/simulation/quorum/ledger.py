"""What every voter ever did, held against what Raft promises: at each step, as it happens.

The world's hooks (hooks.py) tell the ledger of every record a log takes, every sync that returns, every promise that
leaves, every change of role and commit index and every applied command. It stays outside: nothing it knows comes
back to a voter. The first broken promise ends the run.
"""

import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ottla.raft.codec import Message, NextIndex, RequestVote, ResponseVote
from ottla.raft.wal import EntryId, WriteAheadLog
from ottla.raft.wal_format import Append, HardState, Record, Reset, Truncate

Vote = tuple[int, int | None]
"""(term, for whom)."""


@dataclass(slots=True)
class Log:
    """A host's log as its voter wrote it, and how much of it a power cut cannot take back."""

    terms: dict[int, int] = field(default_factory=dict)  # index -> term, the base's too
    last: int = 0
    durable: int = 0  # entries up to here
    vote: Vote = (0, None)
    durable_vote: Vote = (0, None)

    def truncate(self, last: int) -> None:
        for index in range(last + 1, self.last + 1):
            self.terms.pop(index, None)
        self.last, self.durable = last, min(self.durable, last)


class Ledger:
    """``broken`` holds what did not hold; ``counts`` how often each mechanism was seen at work."""

    def __init__(self, hosts: list[str]) -> None:
        self.broken: list[str] = []
        self.counts: Counter[str] = Counter()
        self.logs = {host: Log() for host in hosts}
        self.committed: dict[int, int] = {1: 0}  # index -> term; every log begins with the same first entry
        self._committed_in: dict[int, int] = {1: 0}  # index -> the term that committed it, maybe later than its own
        self.committed_last = 1
        self.results: dict[int, bytes] = {}  # index -> what applying it gave
        self.values: dict[int, list[tuple[int, int]]] = {}  # register -> (index, value) of each change, in order
        self.effects: dict[tuple[int, int], int] = {}  # request -> index of its effect
        self.attempts: dict[tuple[int, int, int], int] = {}  # attempt -> index where it was applied
        self.failed: set[tuple[int, int, int]] = set()
        self.commands: dict[int, bytes] = {}  # index -> command, as applied
        self._entries: dict[EntryId, tuple[int, int]] = {}  # -> (its predecessor's term, crc of its command)
        self._leaders: dict[int, str] = {}  # term -> process
        self._votes: dict[tuple[str, int], int] = {}  # (host, term) -> for whom, once told
        self._promised_term: dict[str, int] = {}
        self._digests: dict[int, bytes] = {}
        self._applied: dict[str, int] = {}  # process -> index
        self._roles: dict[str, str] = {}
        self._majority = len(hosts) // 2 + 1

    def breaks(self, text: str) -> None:
        self.broken.append(text)

    # --- logs --------------------------------------------------------------------------------------------------------

    def opened(self, host: str, wal: WriteAheadLog) -> None:
        """A start has recovered its log, and made it durable."""
        old, log = self.logs[host], Log()
        log.terms[wal.base_index] = wal.term_at(wal.base_index)
        log.last = wal.base_index
        self.logs[host] = log
        for command, index, term in wal[0:]:
            self._note_entry(host, log, index, term, command)
        log.durable = log.last
        log.vote = log.durable_vote = wal.getCurrentTerm(), wal.getVotedForNodeId()
        for index in range(wal.base_index + 1, old.durable + 1):
            if log.terms.get(index) != old.terms.get(index, log.terms.get(index)):
                self.breaks(f"{host} lost entry {index} of term {old.terms.get(index)}, which was synced")
                break
        if old.durable_vote[0] > log.vote[0] or not _may_follow(old.durable_vote, log.vote):
            self.breaks(f"{host} lost its hard state {old.durable_vote}, which was synced: now {log.vote}")
        self._check_promises(host, log.vote)

    def _check_promises(self, host: str, vote: Vote) -> None:
        term, voted_for = vote
        if term < self._promised_term.get(host, 0):
            self.breaks(f"{host} is back in term {term} after a promise in {self._promised_term[host]}")
        if voted_for != self._votes.get((host, term), voted_for):
            self.breaks(f"{host} forgot its vote for {self._votes[host, term]} in term {term}: now {voted_for}")

    def wrote(self, host: str, record: Record) -> None:
        """A record went into the log, not yet to the platter."""
        log = self.logs[host]
        match record:
            case Append(index, term, command):
                self._note_entry(host, log, index, term, command)
            case Truncate(from_index):
                self.counts["truncated on conflict"] += 1
                log.truncate(from_index - 1)
                if from_index <= self.committed_last:
                    self.counts["truncated at or below what others committed"] += 1
            case Reset(index, term):
                self.counts["log reset to a snapshot"] += 1
                log.terms, log.last, log.durable = {index: term}, index, index
            case HardState():
                self._note_vote(host, log, (record.term, record.voted_for))
            case _:
                pass

    def _note_entry(self, host: str, log: Log, index: int, term: int, command: bytes) -> None:
        # Log matching: an entry's index and term name its command and all before it (Raft paper, section 5.3).
        known = log.terms.get(index - 1, 0), zlib.crc32(command)
        if self._entries.setdefault(EntryId(index, term), known) != known:
            self.breaks(f"{host} holds another entry {index} of term {term}, or another one before it, than others")
        log.terms[index] = term
        log.last = index

    def _note_vote(self, host: str, log: Log, vote: Vote) -> None:
        if not _may_follow(log.vote, vote):
            self.breaks(f"{host} went from hard state {log.vote} to {vote}")
        log.vote = vote

    def synced(self, host: str) -> None:
        """Everything written so far is on the platter, or so the disk said."""
        log = self.logs[host]
        log.durable, log.durable_vote = log.last, log.vote

    # --- promises ----------------------------------------------------------------------------------------------------

    def sent(self, host: str, node_id: int, to_id: int, message: Message) -> None:
        """A message leaves. Its promise must be durable, and a vote the only one of its term (Raft paper, figure 2)."""
        log = self.logs[host]
        match message:
            case RequestVote(term):
                self._promise_vote(host, log, term, node_id)
            case ResponseVote(term):
                self._promise_vote(host, log, term, to_id)
            case NextIndex(term, next_index, success=True):
                self._promised_term[host] = max(self._promised_term.get(host, 0), term)
                if next_index - 1 > log.durable or term > log.durable_vote[0]:
                    self.breaks(f"{host} acknowledged {next_index - 1} in term {term}, durable are {log.durable}")
            case _:
                pass

    def _promise_vote(self, host: str, log: Log, term: int, voted_for: int) -> None:
        self._promised_term[host] = max(self._promised_term.get(host, 0), term)
        if self._votes.setdefault((host, term), voted_for) != voted_for:
            self.breaks(f"{host} voted for {self._votes[host, term]} and {voted_for} in term {term}")
        if log.durable_vote[0] <= term and log.durable_vote != (term, voted_for):
            self.breaks(f"{host} voted for {voted_for} in term {term}, durable is {log.durable_vote}")

    # --- leaders and commits -----------------------------------------------------------------------------------------

    def leads(self, process: str, host: str, node_id: int, term: int) -> None:
        """``process`` took office. One in a term, ever, by a majority's votes; and it holds all that was committed
        in earlier terms (section 5.4): one whose votes came late may lead when a later term has committed more."""
        if self._leaders.setdefault(term, process) != process:
            self.breaks(f"{self._leaders[term]} and {process} lead in term {term}")
        self.counts["elections won"] += 1
        log = self.logs[host]
        voters = [other for other in self.logs if other == host or self._votes.get((other, term)) == node_id]
        if len(voters) < self._majority or log.durable_vote != (term, node_id):
            self.breaks(f"{process} leads in term {term} by the votes of {voters}, its own is {log.durable_vote}")
        for index in range(min(log.terms) + 1, self.committed_last + 1):
            if self._committed_in[index] < term and log.terms.get(index) != self.committed[index]:
                self.breaks(f"{process} leads in term {term} without committed entry {index}")
                return

    def has_role(self, host: str, leads: bool) -> None:
        self._roles[host] = "leader" if leads else "follower"

    def role_of(self, host: str) -> str:
        return self._roles.get(host, "follower")

    def commits(self, host: str, before: int, now: int, current_term: int) -> None:
        """A voter's commit index rose. What is new to all must be on a majority's platters, be the only one there."""
        log = self.logs[host]
        for index in range(before + 1, now + 1):
            term = log.terms.get(index)
            if term is None:
                continue  # a snapshot has it, whose state is compared
            known = self.committed.get(index)
            if known is None:
                self._first_commit(host, index, term, current_term)
            elif known != term:
                self.breaks(f"{host} committed entry {index} of term {term}, others of term {known}")
                return

    def _first_commit(self, host: str, index: int, term: int, current_term: int) -> None:
        holders = [h for h, log in self.logs.items() if log.durable >= index and log.terms.get(index) == term]
        if len(holders) < self._majority:
            self.breaks(f"{host} committed entry {index} of term {term}, durable only on {holders}")
        if index != self.committed_last + 1:
            self.breaks(f"{host} committed entry {index} where {self.committed_last + 1} is next")
        self.committed[index] = term
        self._committed_in[index] = current_term
        self.committed_last = max(self.committed_last, index)

    # --- states ------------------------------------------------------------------------------------------------------

    def applies(self, process: str, index: int, term: int, data: bytes) -> None:
        """One command at one index, ever, and only once it is committed."""
        if self.committed.get(index) != term:
            self.breaks(f"{process} applied entry {index} of term {term}; committed is {self.committed.get(index)}")
        if index <= self._applied.get(process, 0):
            self.breaks(f"{process} applied entry {index} after {self._applied[process]}")
        self._applied[process] = index
        if self.commands.setdefault(index, data) != data:
            self.breaks(f"{process} applied another command at {index} than others")

    def applied(self, process: str, index: int, digest: bytes, result: bytes | None) -> None:
        """Equal state and equal results at equal index."""
        self.holds_state(process, index, digest)
        if result is not None and self.results.setdefault(index, result) != result:
            self.breaks(f"{process} got another result at {index} than others")

    def holds_state(self, process: str, index: int, digest: bytes) -> None:
        """After applying, or from a snapshot."""
        if index and self._digests.setdefault(index, digest) != digest:
            self.breaks(f"{process} holds another state at {index} than others")

    def first_applied(self, index: int, command: Any, effective: bool, done: bool) -> None:
        """For the clients' checks: told once per index, by whoever is first."""
        self.attempts[command.name] = index
        if command.name in self.failed:
            self.breaks(f"{command} was reported FAILED and was applied at {index}")
        if effective:
            if self.effects.setdefault(command.request, index) != index:
                self.breaks(f"{command} had its effect at {self.effects[command.request]} and at {index}")
            if done:
                self.values.setdefault(command.key, []).append((index, command.value))

    def value_at(self, key: int, index: int) -> int | None:
        """What a register held once all up to ``index`` was applied."""
        changes = self.values.get(key, [])
        return next((value for at, value in reversed(changes) if at <= index), None)


def _may_follow(before: Vote, after: Vote) -> bool:
    """A term never falls, and a vote in it never changes (section 5.2)."""
    return after[0] > before[0] or (after[0] == before[0] and before[1] in (None, after[1]))
