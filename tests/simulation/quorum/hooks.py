"""Eyes on the product's classes: each method below is wrapped for a run, does what it did, and is reported.

Nothing here changes what a voter does. The wrappers find out whose voter it is by the process in whose context they
run. They wrap whatever is there, a planted bug too.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from ottla.raft import engine as engine_module, transport as transport_module
from ottla.raft.barrier import BarrierTransport
from ottla.raft.codec import MalformedMessage
from ottla.raft.compaction import Compaction
from ottla.raft.engine import SafeSyncObj
from ottla.raft.pysyncobj_core import PySyncObjCore, Role
from ottla.raft.replication import Accept, Progress
from ottla.raft.transport import RaftTransport
from ottla.raft.voting import Elections
from ottla.raft.wal import WriteAheadLog
from ottla.raft.wal_format import Reset
from ottla.raft.wal_segments import Segments, WalFull

from ..loop import PROCESS
from ..network import host_of
from .ledger import Ledger

Around = Callable[..., Any]


def _host() -> str:
    return host_of(PROCESS.get())


@contextmanager
def watched(ledger: Ledger) -> Iterator[None]:
    """For the duration, ``ledger`` hears of everything."""
    with ExitStack() as stack:

        def around(owner: Any, name: str, make: Callable[[Around], Around]) -> None:
            original = getattr(owner, name)
            stack.enter_context(mock.patch.object(owner, name, make(original)))

        _watch_logs(ledger, around)
        _watch_promises(ledger, around)
        _watch_roles(ledger, around)
        _watch_mechanisms(ledger, around)
        _watch_snapshots(ledger, around)
        yield


def _watch_logs(ledger: Ledger, around: Callable[..., None]) -> None:
    def open_log(original: Around) -> Any:
        def opened(*arguments: Any, **keywords: Any) -> WriteAheadLog:
            wal: WriteAheadLog = original(*arguments, **keywords)
            ledger.counts["restarted with a log"] += wal.last_index > 1
            ledger.opened(_host(), wal)
            return wal

        return opened

    def write(original: Around) -> Around:
        def wrote(wal: WriteAheadLog, record: Any) -> None:
            original(wal, record)
            ledger.wrote(_host(), record)

        return wrote

    def reset(original: Around) -> Around:
        def was_reset(wal: WriteAheadLog, place: Any) -> None:
            original(wal, place)
            ledger.wrote(_host(), Reset(*place))

        return was_reset

    def sync(original: Around) -> Around:
        def synced(wal: WriteAheadLog) -> None:
            original(wal)
            ledger.synced(_host())

        return synced

    def recover_one(original: Around) -> Around:
        def recovered(files: Segments, segment: Any, remember: Any) -> None:
            size = segment.file.size()
            original(files, segment, remember)
            ledger.counts["torn tail trimmed"] += segment.file.size() < size

        return recovered

    around(WriteAheadLog, "open", open_log)
    around(WriteAheadLog, "_write", write)
    around(WriteAheadLog, "reset", reset)
    around(WriteAheadLog, "sync_file", sync)
    around(Segments, "_recover_one", recover_one)


def _watch_promises(ledger: Ledger, around: Callable[..., None]) -> None:
    def deliver(original: Around) -> Around:
        def delivered(transport: RaftTransport, node: Any, message: Any) -> bool:
            left: bool = original(transport, node, message)
            if left:
                ledger.sent(_host(), transport._local.node_id, node.id, message)
            return left

        return delivered

    def release(original: Around) -> Around:
        def released(barrier: BarrierTransport, synced: int, term: int) -> None:
            for held in barrier._held:
                if held.position <= synced:
                    stale = held.message.term != term
                    ledger.counts["promise dropped by a new term" if stale else "promise released by a sync"] += 1
            original(barrier, synced, term)

        return released

    def decode_frame(original: Around) -> Around:
        def decoded(data: bytes, expected: int) -> Any:
            try:
                message = original(data, expected)
            except MalformedMessage:
                ledger.counts["sequence guard ended a connection"] += 1
                raise
            if int.from_bytes(data[:8], "big") != expected:
                ledger.breaks(f"{_host()} took frame {int.from_bytes(data[:8], 'big')} where {expected} belongs")
            return message

        return decoded

    around(RaftTransport, "deliver", deliver)
    around(BarrierTransport, "release", release)
    around(transport_module, "_decode_frame", decode_frame)


def _watch_roles(ledger: Ledger, around: Callable[..., None]) -> None:
    def set_role(original: Around) -> Around:
        def role_set(core: PySyncObjCore, role: int) -> None:
            was = core.is_leader
            original(core, role)
            ledger.has_role(_host(), role == Role.LEADER)
            if role == Role.LEADER and not was:
                ledger.leads(PROCESS.get(), _host(), core.selfNode.id, core.term)

        return role_set

    def commit(original: Around) -> Around:
        def committed(core: PySyncObjCore, index: int) -> None:
            before = core.commit_index
            original(core, index)
            if index > before:
                ledger.commits(_host(), before, index, core.term)
            elif index < before:
                ledger.breaks(f"{PROCESS.get()} took its commit index back from {before} to {index}")

        return committed

    around(PySyncObjCore, "_set_role", set_role)
    around(PySyncObjCore, "_commit", commit)


def _counted(ledger: Ledger, name: str, when: Callable[..., bool]) -> Callable[[Around], Around]:
    """Count the calls of which ``when(*arguments)`` holds before."""

    def make(original: Around) -> Around:
        def call(*arguments: Any, **keywords: Any) -> Any:
            if when(*arguments):
                ledger.counts[name] += 1
            return original(*arguments, **keywords)

        return call

    return make


def _watch_mechanisms(ledger: Ledger, around: Callable[..., None]) -> None:
    def decide(original: Around) -> Around:
        def decided(log: Any, prev_index: int, prev_term: int, entries: Any) -> Any:
            decision = original(log, prev_index, prev_term, entries)
            if isinstance(decision, Accept) and len(decision.append) < len(entries):
                ledger.counts["repeated entries kept (D1)"] += 1
                if decision.truncate_from is None and log.last_index > decision.matched:
                    ledger.counts["tail after repeated entries kept (D1)"] += 1
            return decision

        return decided

    def check_quorum(original: Around) -> Around:
        def checked(core: SafeSyncObj, now: float) -> None:
            led = core.is_leader
            original(core, now)
            ledger.counts["stepped down without a quorum (D12)"] += led and not core.is_leader

        return checked

    def full(original: Around) -> Around:
        def written(files: Segments, *arguments: Any) -> int:
            try:
                end: int = original(files, *arguments)
            except WalFull:
                ledger.counts[f"log full on a {ledger.role_of(_host())}"] += 1
                raise
            return end

        return written

    around(engine_module, "decide_append", decide)
    around(SafeSyncObj, "_check_quorum", check_quorum)
    around(Segments, "append", full)
    count = [
        (SafeSyncObj, "_on_next_index", "stale acknowledgement dropped (D4)", lambda c, _, m, now: m.term < c.term),
        (Elections, "_on_response_vote", "repeated vote counted once (D5)", lambda c, node, m: _again(c, node, m)),
        (Elections, "_on_response_pre_vote", "pre-vote refused (D14)", lambda c, _, m, now: not m.granted),
        (Elections, "_on_timeout_now", "leadership handed over", lambda c, n, m, now: m.term == c.term),
        (Progress, "rejected", "leader backed off after a conflict (D13)", lambda *_: True),
    ]
    for owner, method, name, when in count:
        around(owner, method, _counted(ledger, name, when))


def _again(core: Any, node: Any, message: Any) -> bool:
    return message.term == core.term and core._is_candidate and node in core._votes


def _watch_snapshots(ledger: Ledger, around: Callable[..., None]) -> None:
    count = [
        (Compaction, "snapshot_taken", "snapshot made durable", lambda *_: True),
        (Compaction, "_offer_snapshot", "snapshot offered", lambda *_: True),
        (Compaction, "install", "snapshot installed", lambda *_: True),
        (
            Compaction,
            "_on_install_snapshot",
            "offer to a log with an uncommitted tail (D3b)",
            lambda core, node, message, now: core._wal.last_index > core.commit_index,
        ),
    ]
    for owner, method, name, when in count:
        around(owner, method, _counted(ledger, name, when))
