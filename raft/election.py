"""Who is in sync, who may lead and who does (KIP-966, KIP-841): pure steps from one partition state to the next."""

from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

from msgspec.structs import replace

from ottla.log.model import BrokerId, LeaderEpoch, PartitionEpoch

from .image import Broker, Partition, Rules

Brokers = Mapping[BrokerId, Broker]
Source = Literal["isr", "elr", "last_known_leader", "unclean"]


class Step(NamedTuple):
    """A partition's next state, and whence its new leader came (None where the leader is the old one or nobody)."""

    state: Partition
    elected_from: Source | None


class _Choice(NamedTuple):
    leader: BrokerId | None
    source: Source


def without(partition: Partition, leaving: Collection[BrokerId], brokers: Brokers, rules: Rules) -> Step:
    """These stop or fall behind, with what they hold intact.

    A replica whose leaving takes or keeps the ISR below the minimum holds all that was committed: it enters the ELR.
    """
    isr = [member for member in partition.isr if member not in leaving]
    left = [member for member in partition.isr if member in leaving]
    return settle(partition, isr, [*partition.elr, *left], brokers, rules)


def without_unclean(
    partition: Partition, broker: BrokerId, brokers: Brokers, rules: Rules, *, keeps_last_known: bool
) -> Step:
    """This one came back from an unclean stop and may lack what was committed: it leaves ISR and ELR.

    Where that empties both it may still lead as the last known leader, unless its data is another disk's or was
    damaged (``keeps_last_known`` False): then nobody does before an operator says so.
    """
    isr = [member for member in partition.isr if member != broker]
    others_left_below = [member for member in partition.elr if member != broker]
    step = settle(partition, isr, others_left_below, brokers, rules)
    if keeps_last_known or step.state.last_known_leader != broker:
        return step
    epoch = PartitionEpoch(partition.partition_epoch + 1)
    return Step(replace(step.state, last_known_leader=None, partition_epoch=epoch), step.elected_from)


def taken_offline(partition: Partition, broker: BrokerId, brokers: Brokers, rules: Rules) -> Step:
    """This one runs and cannot serve its copy any more: the disk refused it, or its bytes are bad. What it had not
    synced may be gone, so it leaves ISR and ELR, and until it starts again nobody elects it."""
    marked = replace(partition, offline=_ordered(partition, {*partition.offline, broker}))
    isr = [member for member in partition.isr if member != broker]
    elr = [member for member in partition.elr if member != broker]
    return settle(marked, isr, elr, brokers, rules, before=partition)


def drained(partition: Partition, broker: BrokerId, brokers: Brokers, rules: Rules) -> Step:
    """This one, draining in ``brokers``, hands over its leadership and leaves the ISR where min.insync can spare it."""
    rest = [member for member in partition.isr if member != broker]
    spared = len(rest) >= max(1, rules.minimum)
    return settle(partition, rest if spared else partition.isr, partition.elr, brokers, rules)


def with_isr(partition: Partition, isr: Collection[BrokerId], brokers: Brokers, rules: Rules) -> Step:
    """The leader's new ISR; those it leaves out are treated as ``without`` does."""
    left = [member for member in partition.isr if member not in isr]
    return settle(partition, isr, [*partition.elr, *left], brokers, rules)


def elected(partition: Partition, brokers: Brokers, rules: Rules) -> Step:
    """A broker came back: the partition has a leader now if anybody may lead it."""
    return settle(partition, partition.isr, partition.elr, brokers, rules)


def preferred(partition: Partition, brokers: Brokers, rules: Rules) -> Step | None:
    """The preferred leader leads; None where it does already, or may not: not in sync, not willing, nobody leads."""
    first = partition.replicas[0]
    if partition.leader in (None, first) or first not in partition.isr or not brokers[first].willing:
        return None
    return settle(replace(partition, leader=first), partition.isr, partition.elr, brokers, rules, before=partition)


def unclean(partition: Partition, brokers: Brokers, rules: Rules, wanted: BrokerId | None) -> Step | None:
    """A leader that may lack what was committed, by an operator's order: ``wanted``, or the last known leader, or the
    first live replica. None where there is a leader, or none of them lives."""
    if partition.leader is not None:
        return None
    order = [partition.last_known_leader, *partition.replicas] if wanted is None else [wanted]
    able = [member for member in order if member in partition.replicas and member not in partition.offline]
    live = [member for member in able if brokers[member].active]
    if not live:
        return None
    step = settle(replace(partition, leader=live[0]), live[:1], (), brokers, rules, before=partition)
    return Step(step.state, "unclean")


def settle(
    old: Partition,
    isr: Collection[BrokerId],
    elr: Collection[BrokerId],
    brokers: Brokers,
    rules: Rules,
    *,
    before: Partition | None = None,
) -> Step:
    """The partition once its ISR and ELR are these: led, normalised, its epochs raised where something changed.
    ``before``: what it was, where ``old`` says already what it should be."""
    before = old if before is None else before
    if _is_reassigned(old, isr, rules):
        old, rules = replace(old, replicas=old.target, adding=(), removing=()), rules._replace(minimum=rules.goal)
    isr, elr = set(isr).intersection(old.replicas), set(elr).intersection(old.replicas)
    choice = _choose(old, isr, elr, brokers, rules)
    # Elected from outside the ISR, a leader is alone in sync; the rest catch up with it.
    in_sync = {choice.leader} if choice.leader is not None and choice.leader not in isr else isr
    eligible = elr - in_sync if len(in_sync) < rules.minimum else set()
    changed = choice.leader != before.leader
    # A replica that goes ends the epoch: what it still has to say must not count if it is ever one again.
    ended = changed or not set(before.replicas) <= set(old.replicas)
    new = replace(
        old,
        isr=_ordered(old, in_sync),
        elr=_ordered(old, eligible),
        leader=choice.leader,
        last_known_leader=None if choice.leader is not None else (old.leader or old.last_known_leader),
        leader_epoch=LeaderEpoch(before.leader_epoch + ended),
        offline=_ordered(old, old.offline),
    )
    source = choice.source if changed and choice.leader is not None else None
    if _is_reassigned(new, new.isr, rules):  # by the election: whoever leads alone may be all that is wanted
        return Step(settle(new, new.isr, new.elr, brokers, rules, before=before).state, source)
    if new == before:
        return Step(before, None)
    new = replace(new, partition_epoch=PartitionEpoch(before.partition_epoch + 1))
    return Step(new, source)


def _is_reassigned(partition: Partition, isr: Collection[BrokerId], rules: Rules) -> bool:
    """Whether the target replicas can do without those that go (KIP-455): all that come are in sync, and enough of
    the target is for a write to be safe."""
    if not partition.reassigning or not all(member in isr for member in partition.adding):
        return False
    return sum(member in isr for member in partition.target) >= max(1, rules.goal)


def _choose(
    old: Partition, isr: Collection[BrokerId], elr: Collection[BrokerId], brokers: Brokers, rules: Rules
) -> _Choice:
    """ISR first (the present leader, then by preference; a drained or draining one only if there is no other), then
    unfenced ELR, then, only when both are empty, the last known leader unless the topic forbids it."""
    in_sync = [member for member in old.replicas if member in isr]
    staying = [member for member in in_sync if brokers[member].willing]
    staying = staying or [member for member in in_sync if brokers[member].active] or in_sync
    if staying:
        return _Choice(old.leader if old.leader in staying else staying[0], "isr")
    for member in sorted(old.replicas, key=lambda member: brokers[member].drained):
        if member in elr and brokers[member].active:
            return _Choice(member, "elr")
    last = old.leader if old.leader is not None else old.last_known_leader
    able = last in old.replicas and last not in old.offline
    if rules.last_known and not elr and last is not None and able and brokers[last].active:
        return _Choice(last, "last_known_leader")
    return _Choice(None, "isr")


def _ordered(partition: Partition, members: Iterable[BrokerId | None]) -> tuple[BrokerId, ...]:
    chosen = set(members)
    return tuple(member for member in partition.replicas if member in chosen)
