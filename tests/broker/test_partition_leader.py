"""The leader's rules: what may be acknowledged, and who is in sync."""

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ottla.broker.partition_leader import PartitionLeader, SessionClock
from ottla.log.model import BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch

A, B, C = BrokerId(1), BrokerId(2), BrokerId(3)
LAG_S = 5.0


def make_leader(isr=(A, B, C), *, high_watermark=0, log_end=0, min_insync=2, now_s=0.0) -> PartitionLeader:
    return PartitionLeader(
        local=A,
        leader_epoch=LeaderEpoch(1),
        partition_epoch=PartitionEpoch(0),
        replicas=(A, B, C),
        isr=isr,
        min_insync=min_insync,
        high_watermark=Offset(high_watermark),
        log_end=Offset(log_end),
        now_s=now_s,
        lag_s_max=LAG_S,
    )


def stream(now_s: float = 0.0) -> SessionClock:
    return SessionClock(now_s, BrokerEpoch(7))


def anyone(_: BrokerId) -> bool:
    return True


def test_the_high_watermark_waits_for_every_member_of_the_isr():
    leader = make_leader()
    assert not leader.appended(Offset(10))
    assert not leader.fetched(B, Offset(10), stream())
    assert leader.high_watermark == 0
    assert leader.fetched(C, Offset(7), stream())
    assert leader.high_watermark == 7


def test_the_high_watermark_stands_still_below_min_insync_whatever_is_acknowledged():
    leader = make_leader(isr=(A,))
    assert not leader.enough_replicas
    assert not leader.appended(Offset(10))
    assert not leader.fetched(B, Offset(10), stream())
    assert leader.high_watermark == 0
    assert leader.isr_committed((A, B), PartitionEpoch(1))
    assert leader.high_watermark == 10


def test_a_member_asked_for_already_holds_the_high_watermark_back():
    """KIP-497: the quorum may have committed the expansion before we hear of it."""
    leader = make_leader(isr=(A, B))
    leader.appended(Offset(10))
    leader.fetched(B, Offset(10), stream())
    leader.fetched(C, Offset(10), stream())
    leader.isr.ask(frozenset({A, B, C}))
    leader.appended(Offset(20))
    assert not leader.fetched(B, Offset(20), stream())
    assert leader.high_watermark == 10
    assert leader.fetched(C, Offset(20), stream())


def test_a_member_whose_removal_is_asked_for_still_counts():
    leader = make_leader()
    leader.appended(Offset(10))
    leader.fetched(B, Offset(10), stream(LAG_S + 1))
    assert leader.propose_isr(LAG_S + 1, anyone) == {A, B}
    leader.isr.ask(frozenset({A, B}))
    assert leader.high_watermark == 0
    assert leader.propose_isr(LAG_S + 2, anyone) is None
    assert leader.isr_committed((A, B), PartitionEpoch(1))
    assert leader.high_watermark == 10


def test_a_slow_follower_leaves_the_isr_only_after_the_lag():
    leader = make_leader()
    leader.appended(Offset(10))
    assert leader.propose_isr(LAG_S, anyone) is None
    assert leader.propose_isr(LAG_S + 0.1, anyone) == {A}


def test_a_follower_always_one_append_behind_is_not_slow():
    leader = make_leader()
    for second in range(20):
        leader.appended(Offset(10 * (second + 1)))
        leader.fetched(B, Offset(10 * second), stream(second))
        leader.fetched(C, Offset(10 * second), stream(second))
    assert leader.propose_isr(20.0, anyone) is None


def test_any_request_of_a_stream_renews_all_its_entries_at_the_log_end():
    leader = make_leader()
    leader.appended(Offset(10))
    session = stream(1.0)
    leader.fetched(B, Offset(10), session)
    leader.fetched(C, Offset(10), stream(1.0))
    session.heard_at_s = 100.0
    assert leader.propose_isr(101.0, anyone) == {A, B}


def test_a_renewal_before_an_append_is_not_forgotten_with_it():
    leader = make_leader()
    session = stream(0.0)
    for follower in (B, C):
        leader.fetched(follower, Offset(0), session)
    session.heard_at_s = 50.0
    leader.appended(Offset(10))
    assert leader.propose_isr(50.0 + LAG_S - 1, anyone) is None


def test_a_closed_stream_renews_nothing():
    leader = make_leader()
    session = stream(0.0)
    leader.fetched(B, Offset(0), session)
    leader.fetched(C, Offset(0), stream(0.0))
    session.closed, session.heard_at_s = True, 100.0
    proposed = leader.propose_isr(LAG_S + 1, anyone)
    assert proposed is not None
    assert B not in proposed


def test_joining_needs_the_high_watermark_and_the_start_of_the_epoch():
    leader = make_leader(isr=(A, B), log_end=10)
    leader.appended(Offset(12))
    leader.fetched(B, Offset(12), stream())
    assert leader.high_watermark == 12
    leader.fetched(C, Offset(9), stream())
    assert leader.propose_isr(0.0, anyone) is None
    leader.fetched(C, Offset(12), stream())
    assert leader.propose_isr(0.0, lambda broker: broker != C) is None
    assert leader.propose_isr(0.0, anyone) == {A, B, C}


def test_latest_is_unknown_until_the_epoch_start_is_committed():
    leader = make_leader(high_watermark=3, log_end=10)
    assert not leader.latest_is_known
    leader.fetched(B, Offset(10), stream())
    leader.fetched(C, Offset(10), stream())
    assert leader.latest_is_known


class LeaderHistory(RuleBasedStateMachine):
    """Against a model that keeps every fetch: the high watermark is never above what all of the ISR hold."""

    def __init__(self) -> None:
        super().__init__()
        self.leader = make_leader()
        self.held = {B: 0, C: 0}
        self.now_s = 0.0
        self.epoch = 0
        self.last = 0

    @rule(count=st.integers(1, 5))
    def append(self, count: int) -> None:
        self.leader.appended(Offset(self.leader.log_end + count))

    @rule(follower=st.sampled_from([B, C]), part=st.integers(0, 4))
    def fetch(self, follower: BrokerId, part: int) -> None:
        gap = self.leader.log_end - self.held[follower]
        self.held[follower] += gap * part // 4
        self.leader.fetched(follower, Offset(self.held[follower]), stream(self.now_s))

    @rule(seconds=st.floats(0, 4))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def propose(self) -> None:
        members = self.leader.propose_isr(self.now_s, anyone)
        if members is not None:
            self.leader.isr.ask(members)

    @precondition(lambda self: self.leader.isr.pending is not None)
    @rule(granted=st.booleans())
    def resolve(self, granted: bool) -> None:
        if granted:
            self.epoch += 1
            pending = self.leader.isr.pending
            assert pending is not None
            self.leader.isr_committed(pending, PartitionEpoch(self.epoch))
        self.leader.isr_resolved()

    @invariant()
    def committed_is_held_by_the_isr(self) -> None:
        for member in self.leader.isr.committed - {A}:
            assert self.leader.high_watermark <= max(self.held[member], 0)
        assert self.leader.high_watermark <= self.leader.log_end
        assert self.leader.high_watermark >= self.last
        self.last = self.leader.high_watermark


TestLeaderHistory = LeaderHistory.TestCase
TestLeaderHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
