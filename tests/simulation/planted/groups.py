"""Bugs in consumer groups, on the coordinator and in the SDK."""

import asyncio
from collections.abc import Iterable
from typing import Any

from ottla.broker.api.groups import GroupsApi
from ottla.broker.group import consumer_group, reconcile
from ottla.broker.group.classic import ClassicProtocol
from ottla.broker.group.hosted import HostedShard, Pending, _tell
from ottla.broker.group.shard import Shard
from ottla.client.commits import Commits, Place
from ottla.client.error_codes import ErrorCode
from ottla.client.group_member import GroupMember
from ottla.client.group_partitions import GroupPartitions
from ottla.client.in_hand import InHand
from ottla.log.model import TopicPartition

from .base import Bug, put, put_at, together


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _tells_at_once(shard: HostedShard, replies: list[Any]) -> None:
    for future, response in replies:
        _tell(future, response)


def _tells_all_the_same(pending: Pending, replica: Any, error: ErrorCode) -> None:
    for future, response, _ in pending._take():
        _tell(future, response)


async def _takes_itself_for_the_coordinator(api: GroupsApi) -> None:
    return None


def _gives_what_others_hold(
    owners: Any, member_id: str, *rest: Any, given: Any = reconcile._given
) -> reconcile.CurrentValue:
    return given({}, member_id, *rest)


def _silence_lets_go(group: Any, member_id: str, owned: Any, *, step: Any = consumer_group.reconcile) -> Any:
    return step(group, member_id, frozenset() if owned is None else owned)


def _admits_the_fenced(
    decision: Any, request: Any, *rest: Any, admit: Any = consumer_group._admit
) -> tuple[str, ...] | None:
    known = decision.group.members.get(request.member_id)
    if request.member_epoch > 0 and (known is None or known.current.epoch != request.member_epoch):
        return None if known is None else known.said.topics
    return admit(decision, request, *rest)


async def _loads_what_is_known_to_be_committed(
    shard: HostedShard, run_blocking: Any, *, load: Any = HostedShard.load
) -> bool:
    class _Log:
        def __init__(self, log: Any, end: int) -> None:
            self._log, self._end = log, end

        def __getattr__(self, name: str) -> Any:
            return getattr(self._log, name)

        def read(self, offset: int, size: int, _: int) -> Any:
            return self._log.read(offset, size, self._end) if offset < self._end else b""

    replica = shard.replica

    class _Replica:
        log = _Log(replica.log, replica.high_watermark)

        def __getattr__(self, name: str) -> Any:
            return getattr(replica, name)

    shard.replica = _Replica()  # type: ignore[assignment]
    try:
        return bool(await load(shard, run_blocking))
    finally:
        shard.replica = replica


def _answers_before_it_is_loaded(shard: HostedShard, *arguments: Any, init: Any = HostedShard.__init__) -> None:
    init(shard, *arguments)
    shard.loaded = True


def _finished_is_fetched(parts: GroupPartitions, keys: Iterable[TopicPartition]) -> dict[TopicPartition, Place]:
    return {
        key: Place(found.position, None, found.target.topic_id)
        for key in keys
        if (found := parts.fetcher.partitions.get(key)) is not None
        and found.position is not None
        and parts.commits.stored.get(key) != found.position
    }


class _Everything(frozenset[Any]):
    def __contains__(self, key: object) -> bool:
        return True


def _commits_whatever(commits: Commits, *arguments: Any, init: Any = Commits.__init__) -> None:
    init(commits, *arguments)
    commits._owned = _Everything


async def _commits_when_it_is_back(parts: GroupPartitions, keys: Any, *, lose: Any = GroupPartitions.lose) -> None:
    places = parts.finished(keys)
    await lose(parts, keys)

    async def commit() -> None:
        while parts.membership.identity().epoch is None:
            await asyncio.sleep(0.01)
        await parts.try_commit(places, 10.0)

    parts.late = asyncio.create_task(commit())  # type: ignore[attr-defined]


async def _waits_for_no_handler(hand: InHand, keys: Any, timeout_s: float) -> None:
    return None


def _fenced_keeps_all(member: GroupMember, *, fence: Any = GroupMember.fence) -> None:
    fence(member)
    member._lost = False
    member.due_s = 0.0


GROUPS = {
    "offset_commit_no_generation": Bug(
        put(Shard, "_check_commit", _nothing),
        "A commit of an older generation or epoch, or of who is no member, is refused",
        "Kafka GroupCoordinator",
    ),
    "commit_acked_early": Bug(
        put(HostedShard, "_reply", _tells_at_once),
        "A coordinator answers when what it wrote is committed",
        "Kafka CoordinatorRuntime",
    ),
    "deposed_coordinator_acks": Bug(
        put(Pending, "lost", _tells_all_the_same),
        "What a deposed coordinator wrote is acknowledged to nobody",
        "Kafka CoordinatorRuntime",
    ),
    "deposed_coordinator_tells": Bug(
        put(GroupsApi, "_still_coordinator", _takes_itself_for_the_coordinator),
        "A fetch of offsets asks the quorum whether this still is the coordinator",
        "decision 0012",
    ),
    "coordinator_loads_too_little": Bug(
        put(HostedShard, "load", _loads_what_is_known_to_be_committed),
        "A new coordinator reads its log to the end, not to the high watermark that it has heard of",
        "Kafka CoordinatorLoader",
    ),
    "coordinator_answers_unloaded": Bug(
        put(HostedShard, "__init__", _answers_before_it_is_loaded),
        "A coordinator answers when it has read its log",
        "Kafka CoordinatorRuntime",
    ),
    "sessions_end_with_their_coordinator": Bug(
        put(Shard, "loaded", _nothing),
        "A member that is not heard of is out, also where its coordinator has changed",
        "Kafka GroupMetadataManager",
    ),
    "given_before_let_go": Bug(
        put_at("ottla.broker.group.reconcile._given", _gives_what_others_hold),
        "A partition is given to a member when the one before has let it go",
        "KIP-848",
    ),
    "silence_lets_go": Bug(
        put_at("ottla.broker.group.consumer_group.reconcile", _silence_lets_go),
        "Who does not say what it owns owns what it had",
        "KIP-848",
    ),
    "fenced_heartbeat_accepted": Bug(
        put_at("ottla.broker.group.consumer_group._admit", _admits_the_fenced),
        "Who was put out of a group, or has an older epoch, joins anew and owns nothing",
        "KIP-848",
    ),
    "classic_session_never_ends": Bug(
        put(ClassicProtocol, "_touch", _nothing),
        "A classic member that is not heard of is out",
        "Kafka's classic groups",
    ),
    "commits_what_is_fetched": Bug(
        put(GroupPartitions, "finished", _finished_is_fetched),
        "A commit behind the handler covers what it has finished",
        "Kafka consumers' auto-commit",
    ),
    "commits_what_was_lost": Bug(
        together(
            put(Commits, "__init__", _commits_whatever),
            put(Commits, "let_go", _nothing),
            put(GroupPartitions, "lose", _commits_when_it_is_back),
        ),
        "A member commits nothing for a partition that it does not own any more",
        "KIP-447",
    ),
    "revokes_under_the_handler": Bug(
        put(InHand, "free_of", _waits_for_no_handler),
        "A partition is let go when the handler is done with its records",
        "KIP-848",
    ),
    "fenced_member_keeps_all": Bug(
        put(GroupMember, "fence", _fenced_keeps_all),
        "Who learns that it was put out drops what it had, before it joins again",
        "KIP-848",
    ),
}
