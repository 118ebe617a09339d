"""A member of the classic protocol as a client would be, one request at a time."""

import itertools
from dataclasses import dataclass, field

from ottla.broker.group.classic_state import ClassicGroup, State
from ottla.client.assignors import ASSIGNORS, MemberSubscription
from ottla.client.error_codes import ErrorCode
from ottla.client.group_protocol import (
    HeartbeatRequest,
    JoinGroupRequest,
    JoinGroupResponse,
    JoinProtocol,
    LeaveGroupRequest,
    LeavingMember,
    MemberAssignment,
    SyncGroupRequest,
    SyncGroupResponse,
)
from ottla.client.subscription_bytes import (
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from ottla.log.model import TopicIdPartition, TopicPartition

from .worlds import GROUP, World

SERIAL = itertools.count()
"""Tells processes apart that have the same name, one after the other."""
OUT, JOINING, JOINED, SYNCING, GIVEN, IN = "out", "joining", "joined", "syncing", "given", "in"


@dataclass
class ClassicReader:
    """``owned``: what it works on; ``given``: what it was told to, and has not taken in yet."""

    world: World
    name: str
    assignor: str = "cooperative-sticky"
    topics: tuple[str, ...] = ("t",)
    instance_id: str | None = None
    member_id: str = ""
    generation: int = -1
    owned: frozenset[TopicPartition] = frozenset()
    given: frozenset[TopicPartition] = frozenset()
    phase: str = OUT
    waiter: object = None
    joined: JoinGroupResponse | None = None
    attempts: int = 0
    serial: int = field(default_factory=SERIAL.__next__)

    @property
    def cooperative(self) -> bool:
        return ASSIGNORS[self.assignor].cooperative

    @property
    def works_on(self) -> frozenset[TopicIdPartition]:
        found = ((self.world.topics.get(topic), n) for topic, n in self.owned)
        return frozenset(TopicIdPartition(topic[0], n) for topic, n in found if topic is not None)

    def may_commit(self) -> bool:
        """Whether the coordinator would take a commit of it now."""
        group = self.world.shard.groups.get(GROUP)
        member = None if group is None else group.members.get(self.member_id)
        if member is None:
            return False
        if isinstance(group, ClassicGroup):
            return self.generation == group.generation and group.state is not State.COMPLETING
        return member.classic and member.current.epoch == self.generation

    def step(self, *, lost: bool = False) -> object:
        """What it does next. ``lost``: its answer never comes."""
        match self.phase:
            case "out":
                return self._join(lost)
            case "joined":
                return self._sync(lost)
            case "joining" | "syncing":
                return self._take(self.world.answers.get(self.waiter))
            case "given":
                return self._apply()
        answer = self.world.ask(HeartbeatRequest(GROUP, self.generation, self.member_id, self.instance_id))
        return answer if lost else self._check(answer if isinstance(answer, ErrorCode) else answer.error)

    def _ask(self, request, phase: str, lost: bool):
        self.attempts += 1
        self.waiter = f"{self.name}:{self.serial}:{self.attempts}"
        answer = self.world.ask(request, self.waiter)
        if lost:
            self.phase = OUT
            return answer
        self.phase = phase
        return self._take(answer)

    def _join(self, lost: bool):
        if not self.cooperative:
            self.owned = frozenset()
        told = encode_subscription(MemberSubscription(self.topics, self.owned, max(0, self.generation)))
        protocols = (JoinProtocol(self.assignor, told),)
        request = JoinGroupRequest(
            GROUP, 10_000, 20_000, self.member_id, self.instance_id, "consumer", protocols, client_id=self.name
        )
        return self._ask(request, JOINING, lost)

    def _sync(self, lost: bool):
        joined = self.joined
        assignments: tuple[MemberAssignment, ...] = ()
        if joined.leader == self.member_id and not joined.skip_assignment:
            members = {m.member_id: decode_subscription(m.metadata, m.group_instance_id) for m in joined.members}
            counts = {name: count for name, (_, count) in self.world.topics.items()}
            wanted = {topic for member in members.values() for topic in member.topics}
            given = ASSIGNORS[self.assignor].assign(members, {t: n for t, n in counts.items() if t in wanted})
            assignments = tuple(
                MemberAssignment(member, encode_assignment(given.get(member, frozenset()))) for member in members
            )
        request = SyncGroupRequest(
            GROUP,
            joined.generation_id,
            self.member_id,
            self.instance_id,
            joined.protocol_type,
            joined.protocol_name,
            assignments,
        )
        return self._ask(request, SYNCING, lost)

    def _take(self, answer):
        if answer is None:
            return None
        error = answer if isinstance(answer, ErrorCode) else answer.error
        if error is ErrorCode.MEMBER_ID_REQUIRED:
            self.member_id, self.phase = answer.member_id, OUT
        elif error is not ErrorCode.NONE:
            self._check(error)
        elif isinstance(answer, JoinGroupResponse):
            self.member_id, self.generation = answer.member_id, answer.generation_id
            self.joined, self.phase = answer, JOINED
        elif isinstance(answer, SyncGroupResponse):
            self.given, self.phase = decode_assignment(answer.assignment), GIVEN
        return answer

    def _apply(self) -> None:
        """What is not given any more is let go of; the next join says so."""
        moved = self.owned - self.given
        self.owned = self.given
        self.phase = OUT if moved and self.cooperative else IN

    def _check(self, error: ErrorCode) -> ErrorCode:
        if error is ErrorCode.NONE:
            return error
        self.phase = OUT
        if error is not ErrorCode.REBALANCE_IN_PROGRESS:
            self.owned, self.generation = frozenset(), -1
            if error is not ErrorCode.ILLEGAL_GENERATION:
                self.member_id = ""
        return error

    def coordinator_is_gone(self) -> None:
        """Who waits is told to ask another."""
        if self.phase in (JOINING, SYNCING):
            self.phase = OUT

    def leave(self) -> None:
        """Everything is let go of first."""
        self.owned = frozenset()
        self.world.ask(LeaveGroupRequest(GROUP, (LeavingMember(self.member_id, self.instance_id),)))
        self.phase, self.member_id, self.generation = OUT, "", -1
