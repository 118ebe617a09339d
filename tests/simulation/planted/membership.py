"""Bugs in what the quorum decides: who is in sync, who may lead, who is fenced."""

from typing import Any

from msgspec.structs import replace

from ottla.raft import broker_decisions, election, partition_decisions
from ottla.raft.commands import UnfenceBroker
from ottla.raft.decision import Decision
from ottla.raft.election import Step
from ottla.raft.events import PartitionChanged
from ottla.raft.sessions import Sessions

from .base import Bug, put, put_at


def _any_partition_epoch(
    context: Any, partition: Any, body: Any, *, check: Any = partition_decisions._not_its_leader
) -> Any:
    return check(context, partition, replace(body, partition_epoch=partition.partition_epoch))


_WHY_INELIGIBLE = partition_decisions._why_ineligible


def _any_incarnation(image: Any, partition: Any, member: Any, epoch: Any) -> Any:
    return _WHY_INELIGIBLE(image, partition, member, image.brokers[member].broker_epoch)


def _any_replica(image: Any, partition: Any, member: Any, epoch: Any) -> str | None:
    return None if member in partition.replicas else "is not a replica of the partition"


_COME_BACK = broker_decisions._come_back


def _as_if_clean(image: Any, old: Any, body: Any, brokers: Any) -> Any:
    return _COME_BACK(image, old, replace(body, unclean=False), brokers)


_SETTLE = election.settle


def _no_elr(old: Any, isr: Any, elr: Any, brokers: Any, rules: Any, **how: Any) -> Step:
    return _SETTLE(old, isr, (), brokers, rules, **how)


def _choose_anybody(old: Any, isr: Any, elr: Any, brokers: Any, rules: Any, *, choose: Any = election._choose) -> Any:
    choice = choose(old, isr, elr, brokers, rules)
    if choice.leader is not None:
        return choice
    active = [member for member in old.replicas if brokers[member].active]
    return election._Choice(active[0], "isr") if active else choice


def _same_leader_epoch(old: Any, isr: Any, elr: Any, brokers: Any, rules: Any, **how: Any) -> Step:
    step = _SETTLE(old, isr, elr, brokers, rules, **how)
    return Step(replace(step.state, leader_epoch=max(old.leader_epoch, 0)), step.elected_from)


def _resumes(context: Any, body: Any, *, register: Any = broker_decisions.register) -> Decision:
    events, result = register(context, body)
    return Decision([event for event in events if not isinstance(event, PartitionChanged)], result)


def _unfenced_at_once(sessions: Sessions, broker: Any, now: float, *, verdict: Any = Sessions.verdict) -> Any:
    session = sessions._sessions.get(broker.broker_id)
    if session is None or session.applied_index is None or session.broker_epoch != broker.broker_epoch:
        return verdict(sessions, broker, now)
    if broker.fenced and not broker.draining and not session.condemned and now - session.since < sessions._session_s:
        return UnfenceBroker(broker.broker_id, broker.broker_epoch)
    return verdict(sessions, broker, now)


MEMBERSHIP = {
    "isr_no_cas": Bug(
        put(partition_decisions, "_not_its_leader", _any_partition_epoch),
        "AlterPartition is compare-and-set on the partition epoch",
        "KIP-497",
    ),
    "isr_takes_stale_incarnation": Bug(
        put(partition_decisions, "_why_ineligible", _any_incarnation),
        "A broker that restarted since it was seen caught up does not enter the ISR",
        "KIP-903",
    ),
    "isr_takes_fenced": Bug(
        put(partition_decisions, "_why_ineligible", _any_replica), "A fenced broker is in no ISR", "KIP-841"
    ),
    "no_unclean_shutdown_check": Bug(
        put(broker_decisions, "_come_back", _as_if_clean),
        "An unclean restart costs the replica its place in ISR and ELR",
        "KIP-966",
    ),
    "boot_id_ignored": Bug(
        put_at("ottla.broker.run_registration.was_unclean", lambda record, clean_epoch, boot_id: False),
        "A node that lost its power says so when it registers",
        "KIP-966",
    ),
    "elr_not_kept": Bug(
        put(election, "settle", _no_elr),
        "Who left the ISR below min.insync.replicas stays eligible, and nobody else is",
        "KIP-966",
    ),
    "unclean_election": Bug(
        put(election, "_choose", _choose_anybody), "A replica outside of ISR and ELR does not lead", "KIP-966"
    ),
    "leader_epoch_kept": Bug(
        put(election, "settle", _same_leader_epoch), "Another leader is another leader epoch", "KIP-101"
    ),
    "incarnation_resumes": Bug(
        put_at("ottla.raft.state_machine.register", _resumes),
        "A new incarnation resumes neither the leaderships nor the places of the old one",
        "KIP-841, KIP-903",
    ),
    "unfenced_too_early": Bug(
        put(Sessions, "verdict", _unfenced_at_once),
        "A broker is unfenced once it has applied its own fencing",
        "KIP-631",
    ),
}
