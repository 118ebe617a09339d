"""Bugs to plant in the quorum, each a mistake a real system has made, or an override taken away (docs/raft.md).

python -m tests.simulation.quorum.run --seeds 0:200 --plant stale_acks --first
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import msgspec
from pysyncobj.config import FAIL_REASON

from ottla.raft import engine, proposals, transport
from ottla.raft.barrier import BarrierTransport
from ottla.raft.compaction import Compaction
from ottla.raft.engine import SafeSyncObj
from ottla.raft.outbound import SEQUENCE
from ottla.raft.pysyncobj_core import Applied, PySyncObjCore, _tell
from ottla.raft.quorum import MetadataQuorum
from ottla.raft.replication import Accept, decide_append, majority_index
from ottla.raft.snapshot import SnapshotStore
from ottla.raft.voting import Elections
from ottla.raft.wal import WriteAheadLog
from ottla.raft.wal_format import FILE_HEADER, HardState, Truncate, decode_file
from ottla.raft.wal_segments import Segments


def _truncate_matching(log: Any, prev_index: int, prev_term: int, entries: Any) -> Any:
    """D1: whatever follows the message's predecessor goes, matching or not."""
    decision = decide_append(log, prev_index, prev_term, entries)
    if isinstance(decision, Accept) and entries and log.base_index < prev_index < log.last_index:
        return Accept(prev_index + 1, entries, decision.matched)
    return decision


def _answer_at_once(barrier: BarrierTransport, position: int, synced: int, node: Any, message: Any) -> bool:
    """D2: a promise does not wait for the disk."""
    barrier.deliver(node, message)
    return True


def _vote_not_written(wal: WriteAheadLog, term: int, voted_for: int | None) -> None:
    """The vote is known until the process ends."""
    wal._write(HardState(term, None))
    wal._hard_state = HardState(term, voted_for)


def _hard_state_in_memory(wal: WriteAheadLog, term: int, voted_for: int | None) -> None:
    """Neither term nor vote reaches the log."""
    wal._hard_state = HardState(term, voted_for)


def _any_term(core: Any, node: Any, message: Any, now: float, *, hear: Any = SafeSyncObj._on_next_index) -> None:
    """D4: an acknowledgement counts for whatever leadership there is."""
    hear(core, node, msgspec.structs.replace(message, term=max(message.term, core.term)), now)


def _vote_per_message(core: Any, node: Any, message: Any) -> None:
    """D5: a vote that comes twice is two."""
    if message.term == core.term and core._is_candidate:
        core._votes |= {object()}


def _commit_by_count(core: Any) -> None:
    """Figure 8: an entry of an older term commits once a majority has it."""
    matches = [progress.match for progress in core._progress.values()]
    index = majority_index([*matches, core._wal.synced_index])
    if index > core.commit_index:
        core._commit(index)


def _minority(matches: Any) -> int:
    """One voter too few."""
    ranked = sorted(matches, reverse=True)
    return int(ranked[len(ranked) // 2 - 1])


def _offer_commits(
    core: Any, node: Any, message: Any, now: float, *, hear: Any = Compaction._on_install_snapshot
) -> None:
    """D3b: an offer commits what lies here, which nobody compared."""
    hear(core, node, message, now)
    if message.term == core.term:
        core._commit(max(core.commit_index, min(message.index, core._wal.last_index)))


def _install_keeps_log(core: Any, snapshot: Any) -> None:
    """The log is not reset to the snapshot."""
    core._jump_to(snapshot.index)
    core.snapshot_offer = None
    core.snapshot_taken(snapshot)


async def _barrier_without_commit(quorum: MetadataQuorum, timeout_s: float | None = None) -> int:
    """Whoever believes to lead answers from what it knows."""
    return quorum.commit_index


def _sync_error_ignored(wal: WriteAheadLog, *, sync: Any = WriteAheadLog.sync_file) -> None:
    """A failed sync is taken for a good one."""
    with contextlib.suppress(OSError):
        sync(wal)


def _torn_tail_kept(files: Segments, segment: Any, remember: Any) -> None:
    """What fails its check at the end of the last file stays there, and the next record comes after it."""
    data = segment.file.read(0, segment.file.size())
    oldest, bare = segment is files._segments[0], segment.number == 1
    segment.begins = 0 if oldest else files._segments[files._segments.index(segment) - 1].end
    for record, end, _ in decode_file(data):
        segment.note(record)
        remember(record, segment.begins + end, oldest)
        bare = True
    if len(data) < FILE_HEADER.size or not bare:
        segment.file.truncate(len(data))


def _truncate_in_memory(wal: WriteAheadLog, entry_from: int) -> None:
    """The log on disk never learns of it."""
    if entry_from < wal.last_index:
        wal._remember(Truncate(entry_from + 1), wal.position)


def _frame_out_of_turn(data: bytes, expected: int) -> Any:
    """The number on a frame is not looked at."""
    return transport.decode(memoryview(data)[SEQUENCE.size :])


def _count_after_telling(core: Any) -> None:
    """D8: an entry counts as applied after its proposer has heard, and a raising one has it applied again."""
    while core.applied_index < core.commit_index:
        command, index, term = core._wal.entry(core.applied_index + 1)
        outcome = core._SyncObj__doApplyCommand(command, index, term)
        waiting = core._SyncObj__commandsWaitingCommit.pop(index, ())
        try:
            for proposed_term, done in waiting:
                if done is not None:
                    done(outcome if proposed_term == term else Applied(index, None, FAIL_REASON.DISCARDED))
        except RuntimeError:
            return
        core._SyncObj__raftLastApplied += 1


def _anybody_is_told(core: Any) -> None:
    """Whoever waited for an index is told what came there, be it another's command."""
    while core.applied_index < core.commit_index:
        command, index, term = core._wal.entry(core.applied_index + 1)
        outcome = core._SyncObj__doApplyCommand(command, index, term)
        core._SyncObj__raftLastApplied += 1
        for _, done in core._SyncObj__commandsWaitingCommit.pop(index, ()):
            _tell(done, outcome)


def _lost_is_failed(applied: Applied, *, told: Any = proposals.proposal_of) -> Any:
    """What a snapshot swallowed is called FAILED."""
    if applied.error == FAIL_REASON.LEADER_CHANGED:
        return proposals.failed("LEADER_CHANGED")
    return told(applied)


async def _gave_up_is_failed(
    quorum: Any, command: bytes, timeout_s: float | None = None, *, ask: Any = MetadataQuorum.propose
) -> Any:
    """No answer in time is taken for no."""
    answer = await ask(quorum, command, timeout_s)
    return proposals.failed("TIMEOUT") if answer.reason == "TIMEOUT" else answer


def _snapshot_unsynced(store: SnapshotStore, path: Any, data: bytes) -> None:
    """A snapshot takes the log's place before it is on the platter."""
    store._storage.remove(path)
    file = store._storage.open(path, create=True)
    file.append(data)
    file.close()


def _names_not_synced(store: SnapshotStore, *, recover: Any = SnapshotStore.recover) -> Any:
    """A start relies on a snapshot whose name may not be on the platter."""
    with mock.patch.object(store._storage, "sync_directory", return_value=None):
        return recover(store)


def _snapshot_early(core: Any) -> Any:
    """A snapshot is named after the last entry, applied or not."""
    due = _SNAPSHOT_DUE(core)
    return None if due is None else core._wal.last


_SNAPSHOT_DUE = Compaction.snapshot_due.fget  # type: ignore[attr-defined]


@contextmanager
def _patched(target: Any, name: str, replacement: Any) -> Iterator[None]:
    with mock.patch.object(target, name, replacement):
        yield


class Bug(NamedTuple):
    """``caught_by``: the first seed that finds it (of 60 s), as the last hunt recorded; None: not hunted down yet."""

    plant: Callable[[], Any]
    caught_by: int | None


BUGS: dict[str, Bug] = {
    "truncate_matching": Bug(lambda: _patched(engine, "decide_append", _truncate_matching), 0),
    "count_unsynced": Bug(lambda: _patched(WriteAheadLog, "synced_index", property(lambda wal: wal.last_index)), 0),
    "answer_before_sync": Bug(lambda: _patched(BarrierTransport, "send_after", _answer_at_once), 0),
    "vote_forgotten": Bug(lambda: _patched(WriteAheadLog, "setCurrentTerm", _vote_not_written), 0),
    "hard_state_forgotten": Bug(lambda: _patched(WriteAheadLog, "setCurrentTerm", _hard_state_in_memory), 0),
    "votes_for_all": Bug(lambda: _patched(SafeSyncObj, "_voted_for", property(lambda core: None)), 13),
    "votes_for_the_stale": Bug(lambda: _patched(Elections, "_is_up_to_date", lambda core, index, term: True), 1),
    "vote_per_message": Bug(lambda: _patched(Elections, "_on_response_vote", _vote_per_message), 4),
    "stale_acks": Bug(lambda: _patched(SafeSyncObj, "_on_next_index", _any_term), 24),
    "commit_by_count": Bug(lambda: _patched(SafeSyncObj, "_advance_commit", _commit_by_count), None),
    "commit_by_minority": Bug(lambda: _patched(engine, "majority_index", _minority), 0),
    "offer_commits": Bug(lambda: _patched(SafeSyncObj, "_on_install_snapshot", _offer_commits), 30),
    "install_keeps_log": Bug(lambda: _patched(SafeSyncObj, "install", _install_keeps_log), 0),
    "snapshot_unsynced": Bug(lambda: _patched(SnapshotStore, "_write", _snapshot_unsynced), 1),
    "snapshot_early": Bug(lambda: _patched(SafeSyncObj, "snapshot_due", property(_snapshot_early)), None),
    "sync_skipped": Bug(lambda: _patched(Segments, "sync", lambda files: None), 0),
    "sync_error_ignored": Bug(lambda: _patched(WriteAheadLog, "sync_file", _sync_error_ignored), None),
    "torn_tail_kept": Bug(lambda: _patched(Segments, "_recover_one", _torn_tail_kept), None),
    "cache_trusted": Bug(lambda: _patched(Segments, "renew", lambda files: None), None),
    "snapshot_name_unsynced": Bug(lambda: _patched(SnapshotStore, "recover", _names_not_synced), None),
    "truncate_in_memory": Bug(lambda: _patched(WriteAheadLog, "deleteEntriesFrom", _truncate_in_memory), 0),
    "frame_out_of_turn": Bug(lambda: _patched(transport, "_decode_frame", _frame_out_of_turn), 0),
    "count_after_telling": Bug(lambda: _patched(PySyncObjCore, "_apply_committed", _count_after_telling), 6),
    "anybody_is_told": Bug(lambda: _patched(PySyncObjCore, "_apply_committed", _anybody_is_told), 0),
    "lost_is_failed": Bug(lambda: mock.patch("ottla.raft.quorum.proposal_of", _lost_is_failed), None),
    "gave_up_is_failed": Bug(lambda: _patched(MetadataQuorum, "propose", _gave_up_is_failed), 2),
    "barrier_without_commit": Bug(lambda: _patched(MetadataQuorum, "read_barrier", _barrier_without_commit), 1),
}
