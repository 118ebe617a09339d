"""Bugs in how partitions move and how brokers are drained."""

from typing import Any

from msgspec.structs import replace

from ottla.raft import election, reassignment
from ottla.raft.election import Step
from ottla.raft.image import Broker, Partition

from .base import Bug, put, put_at, together

_SETTLE = election.settle


def _over_at_once(partition: Partition, isr: Any, rules: Any) -> bool:
    return partition.reassigning and any(member in partition.target for member in partition.replicas)


def _in_sync_when_added(old: Any, isr: Any, elr: Any, brokers: Any, rules: Any, **how: Any) -> Step:
    live = [member for member in old.adding if brokers[member].active]
    return _SETTLE(old, [*isr, *live], elr, brokers, rules, **how)


def _leader_stays(old: Any, isr: Any, elr: Any, brokers: Any, rules: Any, *, before: Any = None) -> Step:
    was = before or old
    step = _SETTLE(old, isr, elr, brokers, rules, before=before)
    if was.leader is None or was.leader in step.state.replicas or step.state == was:
        return step
    kept = replace(step.state, leader=was.leader, leader_epoch=was.leader_epoch)
    return Step(kept, None)


def _epoch_goes_on(old: Any, isr: Any, elr: Any, brokers: Any, rules: Any, *, before: Any = None) -> Step:
    was = before or old
    step = _SETTLE(old, isr, elr, brokers, rules, before=before)
    return Step(replace(step.state, leader_epoch=was.leader_epoch + (step.state.leader != was.leader)), None)


def _settled_by(replacement: Any) -> Any:
    """Wherever it is called from."""
    return together(
        put(election, "settle", replacement),
        put(reassignment, "settle", replacement),
        put_at("ottla.raft.config_decisions.settle", replacement),
    )


MOVES = {
    "removed_before_caught_up": Bug(
        put(election, "_is_reassigned", _over_at_once), "Who goes stays until who comes is in sync", "KIP-455"
    ),
    "added_counts_at_once": Bug(
        put(reassignment, "settle", _in_sync_when_added), "A replica that comes is not in sync yet", "KIP-455"
    ),
    "leader_outside_target": Bug(
        _settled_by(_leader_stays), "A leader that goes hands over in the same step", "KIP-455"
    ),
    "drain_ignored": Bug(
        put(Broker, "willing", property(lambda broker: broker.active)),
        "A drained broker leads nothing that another can",
        "Ottla's own",
    ),
    "epoch_kept_when_a_replica_goes": Bug(
        _settled_by(_epoch_goes_on),
        "What a replica that went still says counts for nothing",
        "Kafka's KRaft controller",
    ),
}
