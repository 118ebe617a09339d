"""The node whose metadata differs from the majority's is found, be it the leader; nobody else is accused."""

from hypothesis import given, strategies as st

from ottla.log.model import BrokerId
from ottla.raft.commands import AllocateProducerIds, Command, encode_command
from ottla.raft.digests import DIGEST_EVERY, KEPT, DigestVotes, ImageDigest
from ottla.raft.state_machine import MetadataStateMachine

A, B, C = BrokerId(1), BrokerId(2), BrokerId(3)


def test_one_of_three_differs():
    votes = DigestVotes(3)
    for broker, digest in ((A, b"x"), (B, b"y")):
        votes.note(broker, ImageDigest(1000, digest))
    assert not any(map(votes.differs, (A, B, C))), "one against one decides nothing"
    votes.note(C, ImageDigest(1000, b"x"))
    assert [votes.differs(broker) for broker in (A, B, C)] == [False, True, False]


def test_digests_of_different_indexes_are_not_compared():
    votes = DigestVotes(3)
    for number, broker in enumerate((A, B, C)):
        votes.note(broker, ImageDigest(1000 * number, b"%d" % number))
    assert not any(map(votes.differs, (A, B, C)))


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 9), st.sampled_from([b"x", b"y"])), max_size=60))
def test_only_who_stands_against_a_majority_is_accused_and_memory_is_bounded(reports):
    votes = DigestVotes(5)
    newest: dict[tuple[int, int], bytes] = {}
    for broker, thousand, digest in reports:
        votes.note(BrokerId(broker), ImageDigest(thousand, digest))
        newest[broker, thousand] = digest
        assert len(votes._heard) <= KEPT
        for accused in filter(votes.differs, map(BrokerId, range(1, 6))):
            against = [
                sum(newest.get((other, t)) not in (None, own) for other in range(1, 6))
                for (who, t), own in newest.items()
                if who == accused
            ]
            assert max(against) >= 3


def test_equal_histories_make_equal_digests_at_the_same_index_and_a_flipped_bit_another():
    machines = [MetadataStateMachine() for _ in range(3)]
    for index in range(1, DIGEST_EVERY + 5):
        command = encode_command(Command(0, None, AllocateProducerIds(1)))
        if index % 7:  # no-ops of the quorum are indexes without a command
            for machine in machines:
                machine.apply(index, 1, command)
    assert machines[0].digest == machines[1].digest
    assert machines[0].digest is not None
    assert machines[0].digest.index == DIGEST_EVERY
    other = MetadataStateMachine()
    for index in range(1, DIGEST_EVERY + 5):
        if index % 7:
            count = 2 if index == 500 else 1
            other.apply(index, 1, encode_command(Command(0, None, AllocateProducerIds(count))))
    assert other.digest is not None
    assert (other.digest.index, other.digest.digest != machines[0].digest.digest) == (DIGEST_EVERY, True)
