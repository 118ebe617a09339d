"""Bugs in the quorum and in what is made of its log; tests/simulation/quorum/planted.py has more of the quorum."""

from typing import Any

from msgspec.structs import replace

from ottla.broker.assembly import Parts
from ottla.raft import state_machine, tail
from ottla.raft.barrier import BarrierTransport
from ottla.raft.decision import Decision
from ottla.raft.engine import SafeSyncObj
from ottla.raft.image_codec import decode_image
from ottla.raft.quorum import MetadataQuorum
from ottla.raft.results import decode_result
from ottla.raft.state_machine import MetadataStateMachine
from ottla.raft.wal import WriteAheadLog
from ottla.raft.wal_format import HardState
from ottla.raft.wal_segments import Segments

from .base import Bug, put, put_at


def _answer_at_once(barrier: BarrierTransport, position: int, synced: int, node: Any, message: Any) -> bool:
    barrier.deliver(node, message)
    return True


def _vote_not_written(wal: WriteAheadLog, term: int, voted_for: int | None) -> None:
    wal._write(HardState(term, None))
    wal._hard_state = HardState(term, voted_for)


def _hard_state_in_memory(wal: WriteAheadLog, term: int, voted_for: int | None) -> None:
    wal._hard_state = HardState(term, voted_for)


async def _barrier_without_majority(quorum: MetadataQuorum, timeout_s: float | None = None) -> int:
    return quorum.commit_index


def _executed_again(image: Any, requester: Any, *, answered: Any = state_machine._answered) -> Decision | None:
    found = answered(image, requester)
    window = image.results.get(requester.broker_id)
    known = window is not None and requester.sequence in window.results
    return None if known and window.broker_epoch == requester.broker_epoch else found


def _newest_result(image: Any, requester: Any, *, answered: Any = state_machine._answered) -> Decision | None:
    window = image.results.get(requester.broker_id)
    if window is not None and window.broker_epoch == requester.broker_epoch and requester.sequence <= window.highest:
        return Decision((), decode_result(window.results[window.highest]))
    return answered(image, requester)  # type: ignore[no-any-return]


def _keeps_old_image(machine: MetadataStateMachine, image: Any, *, restore: Any = MetadataStateMachine.restore) -> None:
    restore(machine, replace(machine.image, index=image.index) if machine.image.index else image)


def _restored_without_roles(parts: Parts, data: bytes) -> Any:
    image = decode_image(data)
    return lambda: parts.machine.restore(image)


def _uncommitted_too(wal: Any, applied: int, snapshot: Any, view: Any, after: Any) -> Any:
    return tail.answer_tail(wal, wal.last_index, snapshot, view, after)


METADATA = {
    "raft_counts_unsynced": Bug(
        put(WriteAheadLog, "synced_index", property(lambda wal: wal.last_index)),
        "The leader counts itself for what its disk has",
        "Raft thesis, 10.2.1",
    ),
    "raft_answers_before_sync": Bug(
        put(BarrierTransport, "send_after", _answer_at_once),
        "A promise leaves once the disk has what it promises",
        "Raft paper, 5.1",
    ),
    "raft_sync_skipped": Bug(put(Segments, "sync", lambda files: None), "A sync syncs", "Raft paper, 5.1"),
    "raft_votes_twice": Bug(
        put(SafeSyncObj, "_voted_for", property(lambda core: None)), "One vote in a term", "Raft paper, 5.2"
    ),
    "vote_not_persisted": Bug(
        put(WriteAheadLog, "setCurrentTerm", _vote_not_written), "A vote outlives its process", "Raft paper, 5.1"
    ),
    "term_not_persisted": Bug(
        put(WriteAheadLog, "setCurrentTerm", _hard_state_in_memory), "A term outlives its process", "Raft paper, 5.1"
    ),
    "barrier_without_majority": Bug(
        put(MetadataQuorum, "read_barrier", _barrier_without_majority),
        "What is current is asked of a majority",
        "Raft paper, 8",
    ),
    "request_executed_twice": Bug(
        put(state_machine, "_answered", _executed_again), "A request that is sent again is executed once", "RIFL"
    ),
    "result_of_another_request": Bug(
        put(state_machine, "_answered", _newest_result), "A request is answered with its own result", "RIFL"
    ),
    "snapshot_keeps_old_image": Bug(
        put(MetadataStateMachine, "restore", _keeps_old_image),
        "A snapshot takes the place of the state",
        "Raft paper, 7",
    ),
    "roles_missed_in_snapshot": Bug(
        put(Parts, "_read_state", _restored_without_roles),
        "Roles are taken from a snapshot's image as from commands",
        "KIP-630",
    ),
    "observer_serves_uncommitted": Bug(
        put_at("ottla.raft.quorum.answer_tail", _uncommitted_too),
        "Observers apply what is committed only",
        "KIP-595",
    ),
}
