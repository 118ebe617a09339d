"""A few voters in one synchronous loop: virtual time, links that delay and break, disks that forget.

Drives the engine exactly as the driver does (inbox, tick, group commit), without asyncio or aiohttp.
"""

import importlib.util
import itertools
import random
import sys
from collections import deque
from pathlib import Path
from typing import Any

import msgspec

from ottla.raft.barrier import BarrierTransport
from ottla.raft.codec import Message, decode, encode
from ottla.raft.compaction import CompactionSettings, SnapshotOffer
from ottla.raft.engine import SafeSyncObj
from ottla.raft.pysyncobj_core import Applied, Timing
from ottla.raft.recovery import open_log
from ottla.raft.snapshot import Snapshot, SnapshotDamaged, SnapshotMeta, SnapshotStore, encode_snapshot
from ottla.raft.wal import SEGMENT_BYTES


def _load_crashing_storage() -> Any:
    name = "ottla_tests_crashing_storage"
    if name not in sys.modules:
        path = Path(__file__).parents[1] / "simulation" / "crashing_storage.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


_crashing_storage = _load_crashing_storage()
CrashingStorage = _crashing_storage.CrashingStorage
PowerCut = _crashing_storage.PowerCut
SeededChance = _crashing_storage.SeededChance

WAL_DIRECTORY = Path("/data/wal")
SNAPSHOT_DIRECTORY = Path("/data/snapshots")
CLUSTER = "c"


class Boom(AssertionError):
    """A promise of Raft was broken."""


class VirtualClock:
    """Time that a test moves."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def monotonic(self) -> float:
        return self._world.now

    def now_ms(self) -> int:
        return int(self._world.now * 1000)


class Wire(BarrierTransport):
    """Queues encoded messages per directed link; a broken link loses what was on it."""

    def __init__(self, world: "World", node_id: int) -> None:
        super().__init__()
        self._world = world
        self._id = node_id

    def deliver(self, node: Any, message: Message) -> bool:
        link = (self._id, node.id)
        if link not in self._world.up:
            return False
        self._world.queues[link].append(encode(message))
        return True


class World:
    """The network, the clock and the voters."""

    def __init__(
        self,
        seed: int,
        size: int,
        *,
        core: type[SafeSyncObj] = SafeSyncObj,
        holes: bool = True,
        compaction: CompactionSettings | None = None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.random = random.Random(seed)
        self.now = 1000.0
        self.ids = list(range(1, size + 1))
        self.up: set[tuple[int, int]] = set()
        self.queues: dict[tuple[int, int], deque[bytes]] = {
            (a, b): deque() for a in self.ids for b in self.ids if a != b
        }
        self.disks = {i: CrashingStorage(seed=seed * 10 + i, holes=holes) for i in self.ids}
        self.core = core
        self.compaction = compaction
        self.segment_bytes = segment_bytes
        self.snapshots = self.installs = 0
        self.voters: dict[int, Voter] = {}
        self.canon: list[bytes] = []  # what was applied at each position, by whoever applied it first
        self.acked: list[bytes] = []
        self.failed: list[bytes] = []
        for i in self.ids:
            self.start(i)
        self.mesh()

    def start(self, node_id: int) -> "Voter":
        self.voters[node_id] = voter = Voter(self, node_id)
        return voter

    def crash(self, node_id: int, *, power: bool) -> None:
        for other in self.ids:
            self.link(node_id, other, False)
        del self.voters[node_id]
        disk = self.disks[node_id]
        self.disks[node_id] = disk.crash(self.random.randrange(1 << 30)) if power else disk.kill()

    def link(self, a: int, b: int, up: bool) -> None:
        for x, y in ((a, b), (b, a)):
            if x == y or ((x, y) in self.up) == up:
                continue
            self.queues[x, y].clear()
            (self.up.add if up else self.up.discard)((x, y))
            if x in self.voters:
                self.voters[x].core.connected(y, up)

    def mesh(self) -> None:
        for a, b in itertools.combinations(self.ids, 2):
            if a in self.voters and b in self.voters:
                self.link(a, b, True)

    def isolate(self, node_id: int) -> None:
        for other in self.ids:
            self.link(node_id, other, False)

    def deliver(self, link: tuple[int, int], count: int | None = None) -> None:
        queue = self.queues[link]
        for _ in range(len(queue) if count is None else min(count, len(queue))):
            self.voters[link[1]].core.receive(link[0], decode(queue.popleft()))

    def run(self, seconds: float, step: float = 0.01) -> None:
        """Everything works: deliver, tick and sync in small steps."""
        end = self.now + seconds
        while self.now < end:
            self.now += step
            for voter in list(self.voters.values()):
                voter.finish_sync()
                voter.install_snapshot()
                voter.tick()
                voter.write_snapshot()
                voter.fetch_snapshot(1 << 20)
                voter.begin_sync()
            for link in sorted(self.up):
                self.deliver(link)

    def leader(self) -> "Voter | None":
        leading = [voter for voter in self.voters.values() if voter.core.is_leader]
        return max(leading, key=lambda voter: voter.core.term) if leading else None

    def run_to_leader(self, seconds: float = 5.0) -> "Voter":
        end = self.now + seconds
        while self.now < end:
            self.run(0.01)
            leader = self.leader()
            if leader is not None and leader.core.is_active:
                return leader
        raise Boom("nobody leads")

    def check_converged(self) -> None:
        last = {(voter.core.applied_index, voter.wal.last_index) for voter in self.voters.values()}
        if len(last) != 1 or len(set(last.pop())) != 1:
            raise Boom("not converged")
        lost = set(self.acked) - set(self.canon)
        if lost:
            raise Boom(f"lost {len(lost)} of {len(self.acked)} acknowledged commands")
        if len(set(self.canon)) != len(self.canon):
            raise Boom("a command was applied twice")
        for voter in self.voters.values():
            if voter.applied != self.canon:
                raise Boom(f"node {voter.id} holds another state at the same index")
        wrong = set(self.failed) & set(self.canon)
        if wrong:
            raise Boom(f"{len(wrong)} commands were reported FAILED and applied")


class Voter:
    """One node: its log, its engine, and a sync that takes a while."""

    def __init__(self, world: World, node_id: int) -> None:
        self.world = world
        self.id = node_id
        disk = world.disks[node_id]
        self.store = SnapshotStore(SNAPSHOT_DIRECTORY, disk, CLUSTER)
        self.wal, snapshot = open_log(WAL_DIRECTORY, disk, self.store, segment_bytes=world.segment_bytes)
        self.applied: list[bytes] = [] if snapshot is None else self._decode(snapshot)
        self.fetching: tuple[SnapshotOffer, bytearray] | None = None
        self.fetched: Snapshot | None = None  # and durable, but not installed yet
        self._taking: tuple[SnapshotMeta, list[bytes]] | None = None
        self.stalled = False  # its disk does not answer
        self._syncing: int | None = None
        self.core = world.core(
            node_id,
            [other for other in world.ids if other != node_id],
            wal=self.wal,
            transport=Wire(world, node_id),
            clock=VirtualClock(world),
            chance=SeededChance(world.random.randrange(1 << 30)),
            apply=self._apply,
            timing=Timing(),
            snapshot=None if snapshot is None else snapshot.id,
            compaction=world.compaction,
        )

    def _decode(self, snapshot: Snapshot) -> list[bytes]:
        state = msgspec.msgpack.decode(snapshot.state, type=list[bytes])
        if state != self.world.canon[: len(state)]:
            raise SystemExit(f"the snapshot at {snapshot.id.index} is of another history")
        return state

    # What the driver's keeper of snapshots does, in steps that time passes between

    def look_for_snapshots(self) -> None:
        """After a tick: begin what is due."""
        due = self.core.snapshot_due
        if due is not None and self._taking is None:
            self._taking = SnapshotMeta(due.index, due.term, CLUSTER, 1), list(self.applied)
        offer = self.core.snapshot_offer
        if offer is not None and (self.fetching is None or self.fetching[0] != offer) and self.fetched is None:
            self.fetching = offer, bytearray()

    def write_snapshot(self) -> None:
        """The executor's part: all of it, unless the power goes."""
        if self._taking is not None:
            meta, state = self._taking
            self._taking = None
            taken = self.store.save(encode_snapshot(meta, msgspec.msgpack.encode(state)))
            self.world.snapshots += 1
            self.core.snapshot_taken(taken.id)

    def fetch_snapshot(self, chunk: int) -> None:
        """One request to the node that offered, over the same network."""
        if self.fetching is None:
            return
        (peer, offered), data = self.fetching
        if (self.id, peer) not in self.world.up or peer not in self.world.voters:
            return
        found = self.world.voters[peer].store.read(offered.index, len(data), chunk)
        if found is None:
            self.fetching = None
            return
        data += found[0]
        if len(data) >= offered.size:
            self.fetching = None
            try:
                self.fetched = self.store.save(bytes(data))
            except SnapshotDamaged:
                return

    def install_snapshot(self) -> None:
        """Back on the loop."""
        snapshot, self.fetched = self.fetched, None
        if snapshot is not None and self.core.may_install(snapshot.id):
            self.core.install(snapshot.id)
            self.applied = self._decode(snapshot)
            self.world.installs += 1

    def _apply(self, index: int, term: int, command: bytes) -> bytes:
        position = len(self.applied)
        self.applied.append(command)
        canon = self.world.canon
        if position == len(canon):
            canon.append(command)
        elif canon[position] != command:
            raise SystemExit(f"state divergence at {position}: {canon[position]!r} and {command!r}")
        return str(index).encode()

    def propose(self, command: bytes) -> None:
        def done(outcome: Applied) -> None:
            if outcome.error == 0:
                self.world.acked.append(command)
            elif outcome.error in (1, 2, 3, 4):
                self.world.failed.append(command)

        self.core.propose(command, done)

    def tick(self) -> None:
        if self.core.is_due:  # as the driver
            self.core.doTick(0)
        self.look_for_snapshots()

    def begin_sync(self) -> None:
        if self._syncing is None and self.wal.position > self.wal.synced_position:
            self._syncing = self.wal.position

    def finish_sync(self) -> None:
        if self._syncing is not None and not self.stalled:
            # What a sync makes durable is at least what was there when it began; the storage fake syncs all.
            self.wal.sync_file()
            self.wal.mark_synced(self._syncing)
            self._syncing = None
            self.core.released()
