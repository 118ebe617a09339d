"""Bugs in replication: who has what, how far it is committed, whose epoch it is."""

from typing import Any

from ottla.broker.isr import InSyncReplicas
from ottla.broker.partition_follower import PartitionFollower
from ottla.broker.partition_leader import PartitionLeader
from ottla.broker.reading import read_checked
from ottla.broker.replica import Replica
from ottla.broker.replica_manager import ReplicaManager
from ottla.broker.replica_session import ReplicaSession
from ottla.log.model import Offset

from .base import Bug, put, put_at, together


def _ack_early(leader: PartitionLeader) -> bool:
    risen = leader.log_end > leader.high_watermark
    leader.high_watermark = leader.log_end
    return risen


def _below_min_insync(leader: PartitionLeader) -> bool:
    ends = [leader.followers[replica].log_end for replica in leader.isr.maximal if replica != leader.local]
    candidate = min((end for end in ends if end is not None), default=leader.log_end)
    if None in ends or candidate <= leader.high_watermark:
        return False
    leader.high_watermark = candidate
    return True


def _any_acks(leader: PartitionLeader) -> bool:
    return True


def _to_log_end(replica: Replica, asked: Any, leader: PartitionLeader, max_bytes: int, limit: Offset) -> Any:
    return read_checked(replica, asked, leader, max_bytes, leader.log_end)


def _to_high_watermark(replica: Replica, state: Any, *, follow: Any = Replica.follow) -> None:
    follow(replica, state)
    if replica.high_watermark < replica.log.log_end_offset:
        replica.log.truncate_to(replica.high_watermark)


def _fetch_counts_after_append(
    session: ReplicaSession, key: Any, entry: Any, asked: Any, *, acknowledge: Any = ReplicaSession._acknowledge
) -> None:
    acknowledge(session, key, entry, asked)
    entry.replica.follower_fetched(session.follower, entry.leader.log_end, session.clock)


def _committed_as_asked(isr: InSyncReplicas, members: Any, *, ask: Any = InSyncReplicas.ask) -> None:
    ask(isr, members)
    isr.committed = members


def _caught_up(leader: PartitionLeader, replica: Any) -> bool:
    follower = leader.followers[replica]
    return follower.live and follower.log_end is not None


def _whoever_asks(replica: Replica, epoch: Any) -> PartitionLeader:
    return replica.require_leader()


def _leads_on(
    manager: ReplicaManager,
    replica: Replica,
    topic: Any,
    state: Any,
    config: Any,
    *,
    apply: Any = ReplicaManager._apply_state,
) -> None:
    if replica.leader is None or state.leader in (None, manager.local):
        apply(manager, replica, topic, state, config)


def _unbounded_high_watermark(replica: Replica, step: Any, batches: Any, *, apply: Any = Replica.apply) -> None:
    before = replica._high_watermark
    apply(replica, step, batches)
    replica._high_watermark = before if step.high_watermark is None else step.high_watermark


REPLICATION = {
    "ack_before_sync": Bug(
        together(
            put(Replica, "_held", property(lambda replica: replica.log.log_end_offset)),
            put(Replica, "is_durable", property(lambda replica: True)),
        ),
        "Under flush=ack a record counts once it is durable",
        "Kafka flush.messages=1",
    ),
    "ack_early": Bug(
        put(PartitionLeader, "_advance", _ack_early), "What is acknowledged is on every in-sync replica", "KIP-497"
    ),
    "below_min_insync": Bug(
        together(
            put(PartitionLeader, "_advance", _below_min_insync),
            put(PartitionLeader, "enough_replicas", property(_any_acks)),
        ),
        "Nothing is committed, nor an acks=all write taken, below min.insync.replicas",
        "KIP-966",
    ),
    "read_past_high_watermark": Bug(
        put_at("ottla.broker.reading.read_checked", _to_log_end),
        "A consumer sees only what is below the high watermark",
        "Kafka design, replication",
    ),
    "no_maximal_isr": Bug(
        put(InSyncReplicas, "maximal", property(lambda isr: isr.committed)),
        "Whoever was asked to be added to the ISR counts as in it until the answer is known",
        "KIP-497",
    ),
    "isr_counted_before_committed": Bug(
        put(InSyncReplicas, "ask", _committed_as_asked),
        "An ISR change counts once the quorum has committed it",
        "KIP-497",
    ),
    "isr_joins_behind": Bug(
        put(PartitionLeader, "_has_caught_up", _caught_up),
        "Nobody joins the ISR below the high watermark or the start of the leader's epoch",
        "KIP-279, KIP-497",
    ),
    "truncate_to_high_watermark": Bug(
        put(Replica, "follow", _to_high_watermark),
        "A follower truncates by epochs, never to its high watermark",
        "KIP-101",
    ),
    "no_divergence_check": Bug(
        put_at("ottla.broker.replica_session.check_position", lambda replica, asked: None),
        "The leader compares epochs, not only offsets",
        "KIP-320",
    ),
    "sent_is_held": Bug(
        put(ReplicaSession, "_acknowledge", _fetch_counts_after_append),
        "A follower holds what it asks beyond, not what it was sent",
        "Kafka design, replication",
    ),
    "truncate_to_zero_epoch": Bug(
        put(PartitionFollower, "_common_end", staticmethod(lambda result, log_end, _: Offset(log_end))),
        "A follower that diverges cuts to the largest common epoch",
        "KIP-279",
    ),
    "acks_survive_epochs": Bug(
        put(Replica, "_fail_waiters", lambda replica: None),
        "Who waits for an acknowledgement waits for one leader epoch",
        "KIP-101",
    ),
    "no_epoch_fencing": Bug(
        together(
            put_at("ottla.broker.replica_session.check_epoch", _whoever_asks),
            put_at("ottla.broker.reading.check_epoch", _whoever_asks),
        ),
        "A fetch of another leader epoch is refused",
        "KIP-320",
    ),
    "deposed_leads_on": Bug(
        put(ReplicaManager, "_apply_state", _leads_on), "A leader that another epoch deposes stops leading", "KIP-101"
    ),
    "lease_not_rechecked": Bug(
        put(ReplicaManager, "is_current", lambda manager, replica, epoch: True),
        "An acknowledgement is given only if the leader epoch stands in the newest image",
        "etcd #20418",
    ),
    "high_watermark_unbounded": Bug(
        put(Replica, "apply", _unbounded_high_watermark),
        "The high watermark never passes the log's end, after a truncation either",
        "Kafka design, replication",
    ),
    "latest_before_epoch_start": Bug(
        put(PartitionLeader, "latest_is_known", property(lambda leader: True)),
        "A new leader tells no latest offset before it knows all that was committed before it",
        "KIP-207",
    ),
}
