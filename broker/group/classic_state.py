"""A group of the classic protocol: its states, its members, and its record. Pure.

Members and generation outlive a coordinator by the GroupMetadata record, written whenever the group becomes stable or
empty; a rebalance that is under way does not, and its members start it again.
"""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from ottla.client.group_protocol import JoinProtocol
from ottla.client.subscription_bytes import decode_subscription

from .outcome import Waiter
from .records import GROUP, ClassicGroupValue, ClassicMemberValue, GroupKey, GroupRecord

CONSUMERS = "consumer"
"""The protocol type of groups whose members' bytes are a consumer's."""


class State(StrEnum):
    """By Kafka's names. A dead group is one that is not in the shard's table any more."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"  # members are awaited to join
    COMPLETING = "CompletingRebalance"  # the leader's assignment is awaited
    STABLE = "Stable"


MAY_FOLLOW: dict[State, frozenset[State]] = {
    State.EMPTY: frozenset({State.PREPARING}),
    State.PREPARING: frozenset({State.COMPLETING, State.EMPTY}),
    State.COMPLETING: frozenset({State.STABLE, State.PREPARING}),
    State.STABLE: frozenset({State.PREPARING}),
}
"""A missing cell is a bug of ours."""


@dataclass(slots=True)
class ClassicMember:
    """One member. ``joining`` and ``syncing``: who waits for the answer."""

    member_id: str
    instance_id: str | None
    client_id: str
    session_s: float
    rebalance_s: float
    protocols: tuple[JoinProtocol, ...]
    assignment: bytes = b""
    client_host: str = ""
    joining: Waiter | None = None
    syncing: Waiter | None = None

    def metadata(self, protocol: str | None) -> bytes:
        """Its subscription in that assignor's bytes."""
        return next((bytes(each.metadata) for each in self.protocols if each.name == protocol), b"")

    @property
    def names(self) -> list[str]:
        return [protocol.name for protocol in self.protocols]


class ClassicGroup:
    """``generation`` counts rebalances, and only rises. ``pending``: ids given out to members that will join with
    them (KIP-394). ``empty_since_ms``: wall clock; what expiry is counted from."""

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.state = State.EMPTY
        self.generation = 0
        self.protocol_type = ""
        self.protocol: str | None = None
        self.leader: str | None = None
        self.members: dict[str, ClassicMember] = {}
        self.instances: dict[str, str] = {}
        self.pending: set[str] = set()
        self.empty_since_ms = 0
        self.initial_end_s: float | None = None  # until then the first rebalance waits for more members, at most
        self.to_sync: set[str] = set()  # of the members of this generation, those that have not synced yet
        self.changed = False  # members have gone, and the others have not been told yet

    def go(self, state: State) -> None:
        assert state in MAY_FOLLOW[self.state], f"{self.state} to {state}"
        self.state = state

    def replay(self, value: ClassicGroupValue) -> None:
        """Become what the record says: after a failover, or because the record has just been written."""
        self.protocol_type, self.generation = value.protocol_type, value.generation
        self.protocol, self.leader, self.empty_since_ms = value.protocol, value.leader, value.timestamp_ms
        self.members = {member.member_id: self._member(member, value.protocol) for member in value.members}
        self.instances = {m.instance_id: m.member_id for m in self.members.values() if m.instance_id is not None}
        self.state = State.STABLE if self.members else State.EMPTY

    def _member(self, value: ClassicMemberValue, protocol: str | None) -> ClassicMember:
        member = self.members.get(value.member_id)
        if member is not None:
            member.assignment = value.assignment
            return member
        return ClassicMember(
            member_id=value.member_id,
            instance_id=value.instance_id,
            client_id=value.client_id,
            client_host=value.client_host,
            session_s=value.session_timeout_ms / 1000,
            rebalance_s=value.rebalance_timeout_ms / 1000,
            protocols=(JoinProtocol(protocol, value.subscription),) if protocol else (),
            assignment=value.assignment,
        )

    def record(self, now_ms: int, assignments: dict[str, bytes]) -> GroupRecord:
        """The group as it is, with these assignments."""
        members = tuple(
            ClassicMemberValue(
                member_id=member.member_id,
                instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                rebalance_timeout_ms=int(member.rebalance_s * 1000),
                session_timeout_ms=int(member.session_s * 1000),
                subscription=member.metadata(self.protocol),
                assignment=assignments.get(member.member_id, b""),
            )
            for member in self.members.values()
        )
        value = ClassicGroupValue(self.protocol_type, self.generation, self.protocol, self.leader, now_ms, members)
        return GroupRecord(GroupKey(GROUP, self.group_id), value)

    def read_topics(self) -> set[str] | None:
        """What the members subscribe to; None where that cannot be told, or not now."""
        if self.protocol_type != CONSUMERS or self.state is not State.STABLE:
            return None
        try:
            return {
                topic
                for member in self.members.values()
                for topic in decode_subscription(member.metadata(self.protocol)).topics
            }
        except ValueError:
            return None

    @property
    def rebalance_s(self) -> float:
        """How long a rebalance may wait for its members: the longest that any of them asks for."""
        return max((member.rebalance_s for member in self.members.values()), default=0.0)

    def supports(self, names: list[str]) -> bool:
        """Whether all members, and one more with these assignors, have one in common."""
        return not self.members or any(name in self.common() for name in names)

    def common(self) -> set[str]:
        """The assignors that all members know."""
        sets = [set(member.names) for member in self.members.values()]
        return set.intersection(*sets) if sets else set()

    def choose_protocol(self) -> str:
        """The assignor that most members like best, of those that all know."""
        common = self.common()
        votes = Counter(next(name for name in member.names if name in common) for member in self.members.values())
        return min(votes, key=lambda name: (-votes[name], name))
