"""Election as a table: who leads, given who is in sync, who is eligible and who is there."""

import pytest

from ottla.log.model import BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, PartitionEpoch
from ottla.raft.election import drained, elected, settle, with_isr, without, without_unclean
from ottla.raft.image import Broker, Partition, Rules


def ids(members: str) -> tuple[BrokerId, ...]:
    return tuple(BrokerId(int(member)) for member in members)


def brokers(fenced: str = "", draining: str = "") -> dict[BrokerId, Broker]:
    return {
        BrokerId(n): Broker(
            broker_id=BrokerId(n),
            broker_epoch=BrokerEpoch(n),
            incarnation_id="i",
            directory_id=DirectoryId("d"),
            host="h",
            port=1,
            rack=None,
            fenced=str(n) in fenced,
            draining=str(n) in draining,
            fenced_index=n,
        )
        for n in range(1, 5)
    }


def partition(isr: str, elr: str = "", leader: int | None = None, last: int | None = None) -> Partition:
    return Partition(
        replicas=ids("231"),
        isr=ids(isr),
        elr=ids(elr),
        last_known_leader=None if last is None else BrokerId(last),
        leader=None if leader is None else BrokerId(leader),
        leader_epoch=LeaderEpoch(5),
        partition_epoch=PartitionEpoch(9),
    )


@pytest.mark.parametrize(
    ("isr", "elr", "last", "fenced", "draining", "leader", "source", "isr_after", "elr_after"),
    [
        ("231", "", None, "", "", 2, "isr", "231", ""),  # the first replica is preferred
        ("31", "", None, "2", "", 3, "isr", "31", ""),
        ("231", "", None, "", "2", 3, "isr", "231", ""),  # a draining one only if there is no other
        ("2", "3", None, "", "2", 2, "isr", "2", "3"),
        ("", "31", None, "", "", 3, "elr", "3", "1"),  # then the ELR, and the chosen one is alone in sync
        ("", "31", None, "3", "", 1, "elr", "1", "3"),
        ("", "31", None, "1", "3", None, None, "", "31"),  # draining enters no ISR, so it is not elected into one
        ("", "31", 2, "31", "", None, None, "", "31"),  # not the last known leader while the ELR has members
        ("", "", 2, "", "", 2, "last_known_leader", "2", ""),
        ("", "", 2, "2", "", None, None, "", ""),
        ("", "", None, "", "", None, None, "", ""),  # never anybody else
    ],
)
def test_election_order(
    isr: str,
    elr: str,
    last: int | None,
    fenced: str,
    draining: str,
    leader: int | None,
    source: str | None,
    isr_after: str,
    elr_after: str,
) -> None:
    before = partition("", elr, None, last)
    step = settle(before, ids(isr), ids(elr), brokers(fenced, draining), Rules(2))
    assert (step.state.leader, step.elected_from) == (leader, source)
    assert (step.state.isr, step.state.elr) == (ids(isr_after), ids(elr_after))
    assert step.state.leader_epoch == 5 + (leader is not None)
    assert step.state.last_known_leader == (last if leader is None else None)
    assert step.state.partition_epoch == 9 + (step.state != before)


@pytest.mark.parametrize(
    ("isr", "elr", "leaving", "minimum", "isr_after", "elr_after"),
    [
        ("231", "", "1", 2, "23", ""),  # min.insync is still there: what it lacks from now on may be committed
        ("231", "", "1", 3, "23", "1"),
        ("23", "", "3", 2, "2", "3"),
        ("231", "", "31", 2, "2", "31"),  # both were in sync when the ISR fell below
        ("2", "3", "2", 2, "3", "2"),  # and the eligible one leads
        ("2", "", "2", 1, "", "2"),
        ("2", "", "2", 2, "", "2"),
    ],
)
def test_entering_the_elr(isr: str, elr: str, leaving: str, minimum: int, isr_after: str, elr_after: str) -> None:
    step = without(partition(isr, elr, 2), set(ids(leaving)), brokers(leaving), Rules(minimum))
    assert (step.state.isr, step.state.elr) == (ids(isr_after), ids(elr_after))


def test_the_elr_empties_when_min_insync_is_reached() -> None:
    assert with_isr(partition("2", "1", 2), ids("23"), brokers(), Rules(2)).state.elr == ()
    assert with_isr(partition("2", "1", 2), ids("23"), brokers(), Rules(3)).state.elr == ids("1")
    assert with_isr(partition("2", "3", 2), ids("23"), brokers(), Rules(3)).state.elr == ()  # by joining the ISR


def test_min_insync_lowered_empties_the_elr_with_the_command_that_settles_it() -> None:
    assert settle(partition("2", "1", 2), ids("2"), ids("1"), brokers(), Rules(1)).state == partition_after("2", 2)


def partition_after(isr: str, leader: int) -> Partition:
    state = partition(isr, "", leader)
    return Partition(state.replicas, state.isr, (), None, state.leader, state.leader_epoch, PartitionEpoch(10))


def test_an_unclean_stop_leaves_both_sets() -> None:
    there = brokers("2")
    assert without_unclean(partition("23", "", 2), BrokerId(2), there, Rules(2), keeps_last_known=True).state.elr == ()
    step = without_unclean(partition("", "21", None, 2), BrokerId(2), there, Rules(2), keeps_last_known=True)
    assert (step.state.leader, step.state.isr, step.state.elr) == (1, ids("1"), ())
    kept = without_unclean(partition("2", "", 2), BrokerId(2), there, Rules(1), keeps_last_known=True)
    assert (kept.state.leader, kept.state.last_known_leader, kept.state.leader_epoch) == (None, 2, 6)
    lost = without_unclean(partition("", "", None, 2), BrokerId(2), there, Rules(1), keeps_last_known=False)
    assert (lost.state.last_known_leader, lost.state.partition_epoch) == (None, 10)


def test_draining_stays_where_min_insync_needs_it() -> None:
    step = drained(partition("23", "", 2), BrokerId(2), brokers(draining="2"), Rules(2))
    assert (step.state.leader, step.state.isr) == (3, ids("23"))
    step = drained(partition("23", "", 2), BrokerId(2), brokers(draining="2"), Rules(1))
    assert (step.state.leader, step.state.isr) == (3, ids("3"))
    alone = partition("2", "", 2)
    assert drained(alone, BrokerId(2), brokers(draining="2"), Rules(1)).state is alone


def test_a_leader_in_good_standing_stays_though_another_is_preferred() -> None:
    led = partition("231", "", 1)
    assert elected(led, brokers(), Rules(2)).state is led
