"""Who is in sync, who may lead and who does (KIP-966, KIP-841): pure steps from one partition state to the next."""

from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

from msgspec.structs import replace

from ottla.log.model import BrokerId, LeaderEpoch, PartitionEpoch

from .image import Broker, Partition

Brokers = Mapping[BrokerId, Broker]
Source = Literal["isr", "elr", "last_known_leader"]


class Step(NamedTuple):
    """A partition's next state, and whence its new leader came (None where the leader is the old one or nobody)."""

    state: Partition
    elected_from: Source | None


class _Choice(NamedTuple):
    leader: BrokerId | None
    source: Source


def without(partition: Partition, leaving: Collection[BrokerId], brokers: Brokers, minimum: int) -> Step:
    """These stop or fall behind, with what they hold intact.

    A replica whose leaving takes or keeps the ISR below ``minimum`` holds all that was committed: it enters the ELR.
    """
    isr = [member for member in partition.isr if member not in leaving]
    left = [member for member in partition.isr if member in leaving]
    return settle(partition, isr, [*partition.elr, *left], brokers, minimum)


def without_unclean(
    partition: Partition, broker: BrokerId, brokers: Brokers, minimum: int, *, keeps_last_known: bool
) -> Step:
    """This one came back from an unclean stop and may lack what was committed: it leaves ISR and ELR.

    Where that empties both it may still lead as the last known leader, unless its data is another disk's or was
    damaged (``keeps_last_known`` False): then nobody does before an operator says so.
    """
    isr = [member for member in partition.isr if member != broker]
    others_left_below = [member for member in partition.elr if member != broker]
    step = settle(partition, isr, others_left_below, brokers, minimum)
    if keeps_last_known or step.state.last_known_leader != broker:
        return step
    epoch = PartitionEpoch(partition.partition_epoch + 1)
    return Step(replace(step.state, last_known_leader=None, partition_epoch=epoch), step.elected_from)


def drained(partition: Partition, broker: BrokerId, brokers: Brokers, minimum: int) -> Step:
    """This one, draining in ``brokers``, hands over its leadership and leaves the ISR where min.insync can spare it."""
    rest = [member for member in partition.isr if member != broker]
    spared = len(rest) >= max(1, minimum)
    return settle(partition, rest if spared else partition.isr, partition.elr, brokers, minimum)


def with_isr(partition: Partition, isr: Collection[BrokerId], brokers: Brokers, minimum: int) -> Step:
    """The leader's new ISR; those it leaves out are treated as ``without`` does."""
    left = [member for member in partition.isr if member not in isr]
    return settle(partition, isr, [*partition.elr, *left], brokers, minimum)


def elected(partition: Partition, brokers: Brokers, minimum: int) -> Step:
    """A broker came back: the partition has a leader now if anybody may lead it."""
    return settle(partition, partition.isr, partition.elr, brokers, minimum)


def settle(
    old: Partition, isr: Collection[BrokerId], elr: Collection[BrokerId], brokers: Brokers, minimum: int
) -> Step:
    """The partition once its ISR and ELR are these: led, normalised, its epochs raised where something changed."""
    choice = _choose(old, isr, elr, brokers)
    # Elected from outside the ISR, a leader is alone in sync; the rest catch up with it.
    in_sync = {choice.leader} if choice.leader is not None and choice.leader not in isr else set(isr)
    eligible = set(elr) - in_sync if len(in_sync) < minimum else set()
    changed = choice.leader != old.leader
    new = replace(
        old,
        isr=_ordered(old, in_sync),
        elr=_ordered(old, eligible),
        leader=choice.leader,
        last_known_leader=None if choice.leader is not None else (old.leader or old.last_known_leader),
        leader_epoch=LeaderEpoch(old.leader_epoch + changed),
    )
    if new == old:
        return Step(old, None)
    new = replace(new, partition_epoch=PartitionEpoch(old.partition_epoch + 1))
    return Step(new, choice.source if changed and choice.leader is not None else None)


def _choose(old: Partition, isr: Collection[BrokerId], elr: Collection[BrokerId], brokers: Brokers) -> _Choice:
    """ISR first (the present leader, then by preference; a draining one only if there is no other), then unfenced
    ELR, then, only when both are empty, the last known leader."""
    in_sync = [member for member in old.replicas if member in isr]
    staying = [member for member in in_sync if brokers[member].active] or in_sync
    if staying:
        return _Choice(old.leader if old.leader in staying else staying[0], "isr")
    for member in old.replicas:
        if member in elr and brokers[member].active:
            return _Choice(member, "elr")
    last = old.leader if old.leader is not None else old.last_known_leader
    if not elr and last is not None and brokers[last].active:
        return _Choice(last, "last_known_leader")
    return _Choice(None, "isr")


def _ordered(partition: Partition, members: Iterable[BrokerId | None]) -> tuple[BrokerId, ...]:
    chosen = set(members)
    return tuple(member for member in partition.replicas if member in chosen)
