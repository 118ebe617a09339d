"""What observers learn of the committed log, and from whom: ``GET /internal/raft/tail`` of any voter.

    request   ?cluster=<id>&after=<index>&term=<its term>&leader=<id, 0 none>&leader_term=...&wait_ms=...
              X-Ottla-Nonce
              X-Ottla-Proof: HMAC-SHA256(secret, "tail-request" | cluster id | nonce | the five numbers), as hex
              403 to one of another cluster, which only this tells apart where there is no secret
    answer    200 and one TailAnswer as msgpack; or 409 and why, where the voter applied another entry at ``after``
              X-Ottla-Proof: HMAC-SHA256(secret, "tail-answer" | nonce | status | body)

A voter answers at once where it has applied more than ``after`` or knows of a later leader than the asker does, and
otherwise when that becomes so, or after ``wait_ms``. Entries that a snapshot has swallowed are gone: then the answer
names the snapshot, which GET /internal/raft/snapshot serves.

This module decides what to answer; tail_desk.py serves it, observer.py asks. Pure.
"""

from typing import NamedTuple

import msgspec

from .snapshot import SnapshotId
from .wal import Entry, EntryId, WriteAheadLog

TAIL_PATH = "/internal/raft/tail"
TAIL_BYTES = 128 << 10
"""Of entries in one answer, unless a single one is larger: applying them keeps the asker's loop a few milliseconds."""
WAIT_MS_MAX = 5_000


class View(NamedTuple):
    """Who leads, as far as a node knows: id 0 is nobody."""

    leader_id: int
    term: int


class TailAnswer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Entries follow ``after`` without a gap. With a snapshot there are none: it must be taken first."""

    applied_index: int
    view: View
    entries: tuple[Entry, ...]
    snapshot: SnapshotId | None


class Diverged(Exception):
    """Two nodes hold different committed entries at one index: one of them is broken."""


ENCODE = msgspec.msgpack.Encoder().encode
DECODE = msgspec.msgpack.Decoder(TailAnswer).decode


def answer_tail(
    wal: WriteAheadLog, applied_index: int, snapshot: SnapshotId | None, view: View, after: EntryId
) -> TailAnswer:
    """What a voter with this log, applied so far, tells one that has applied up to ``after``. Raises Diverged.

    Only what is applied is told: it is committed, and this voter vouches for it with its own state.
    """
    if after.index < wal.base_index:
        return TailAnswer(applied_index, view, (), snapshot)
    if after.index > applied_index:
        return TailAnswer(applied_index, view, (), None)
    if wal.term_at(after.index) != after.term:
        raise Diverged(f"entry {after.index} is of term {wal.term_at(after.index)} here, not {after.term}")
    if after.index == applied_index:
        return TailAnswer(applied_index, view, (), None)
    entries = wal.batch(after.index + 1, TAIL_BYTES)[: applied_index - after.index]
    return TailAnswer(applied_index, view, tuple(entries), None)
