"""Bugs to plant, each a mistake a real system has made: what the simulation does not find of these, it is blind to.

python -m tests.simulation.run --seeds 0:20 --plant ack_early
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from ottla.broker.isr import InSyncReplicas
from ottla.broker.partition_follower import PartitionFollower
from ottla.broker.partition_leader import PartitionLeader
from ottla.broker.replica import Replica
from ottla.broker.replica_session import ReplicaSession
from ottla.log.model import Offset
from ottla.log.producer_state import ProducerStateManager
from ottla.raft.engine import SafeSyncObj
from ottla.raft.wal import WriteAheadLog

_NAME = ReplicaSession._name


def _ack_early(leader: PartitionLeader) -> bool:
    """The leader acknowledges what only it has."""
    risen = leader.log_end > leader.high_watermark
    leader.high_watermark = leader.log_end
    return risen


def _below_min_insync(leader: PartitionLeader) -> bool:
    """The high watermark advances however small the ISR is (before KIP-966)."""
    ends = [leader.followers[replica].log_end for replica in leader.isr.maximal if replica != leader.local]
    candidate = min((end for end in ends if end is not None), default=leader.log_end)
    if None in ends or candidate <= leader.high_watermark:
        return False
    leader.high_watermark = candidate
    return True


def _to_high_watermark(replica: Replica, state: Any, *, follow: Any = Replica.follow) -> None:
    """A follower truncates to its high watermark (before KIP-101)."""
    follow(replica, state)
    if replica.high_watermark < replica.log.log_end_offset:
        replica.log.truncate_to(replica.high_watermark)


def _never_diverges(replica: Any, asked: Any) -> None:
    """The leader does not compare epochs, only offsets."""
    return None


def _fetch_counts_after_append(
    session: ReplicaSession, key: Any, asked: Any, *, name: Any = ReplicaSession._name
) -> None:
    """The leader takes the end of what it last sent for held."""
    name(session, key, asked)
    entry = session._entries.get(key)
    if entry is not None:
        entry.replica.follower_fetched(session.follower, entry.leader.log_end, session.clock)


@contextmanager
def _patched(target: Any, name: str, replacement: Any) -> Iterator[None]:
    with mock.patch.object(target, name, replacement):
        yield


PLANTED: dict[str, Callable[[], Any]] = {
    "ack_early": lambda: _patched(PartitionLeader, "_advance", _ack_early),
    "below_min_insync": lambda: _patched(PartitionLeader, "_advance", _below_min_insync),
    "read_past_high_watermark": lambda: _patched(
        Replica, "high_watermark", property(lambda replica: replica.log.log_end_offset)
    ),
    "no_maximal_isr": lambda: _patched(InSyncReplicas, "maximal", property(lambda isr: isr.committed)),
    "truncate_to_high_watermark": lambda: _patched(Replica, "follow", _to_high_watermark),
    "no_divergence_check": lambda: mock.patch("ottla.broker.replica_session.check_position", _never_diverges),
    "sent_is_held": lambda: _patched(ReplicaSession, "_name", _fetch_counts_after_append),
    "truncate_to_zero_epoch": lambda: _patched(
        PartitionFollower, "_common_end", staticmethod(lambda result, log_end, _: Offset(log_end))
    ),
    "acks_survive_epochs": lambda: _patched(Replica, "_fail_waiters", lambda replica: None),
    "raft_counts_unsynced": lambda: _patched(WriteAheadLog, "synced_index", property(lambda wal: wal.last_index)),
    "raft_answers_before_sync": lambda: mock.patch(
        "ottla.raft.barrier.BarrierTransport.send_after",
        lambda transport, position, synced, node, message: transport.deliver(node, message) or True,
    ),
    "raft_votes_twice": lambda: _patched(SafeSyncObj, "_voted_for", property(lambda core: None)),
    "no_idempotence": lambda: _patched(ProducerStateManager, "check", lambda *_: None),
}
