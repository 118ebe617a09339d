"""One member: reads, handles, commits, and tells all of it. As a process: python -m tests.chaos.group.member ORDER."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import msgspec

import ottla.client as sdk
from ottla.client.classic_membership import ClassicMembership
from ottla.client.commits import Identity
from ottla.client.error_codes import ErrorCode
from ottla.client.group_consumer import GroupConsumer
from ottla.client.group_protocol import (
    CommitPartition,
    ConsumerGroupHeartbeatRequest,
    HeartbeatRequest,
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetFetchRequest,
)
from ottla.client.in_hand import InHand
from ottla.log.model import TopicPartition

from .told import BEATS, COMMITS, FETCHES, HANDLER, Order, Told

HANDLE_S = (0.0, 0.02)
SLOW_S = (0.4, 1.5)
COMMIT_INTERVAL_S = 0.7
MAX_POLL_S = 60.0
MAX_WAIT_MS = 2000
LOOK_S = 0.5
"""How long it waits for a record before it looks whether it is to stop."""
MANUAL_SHARE = 0.2
"""Of the records after which one who commits by hand does so."""
PROBE_SHARE = 0.01
"""Of the records after which a commit in an older epoch is tried, which must be refused."""
AGAIN_S = 0.3
ASK_S = 5.0

Tell = Callable[[Told], None]


async def live(order: Order, tell: Tell, stopping: asyncio.Event) -> None:
    """Be a member until told to stop; then commit and leave."""
    member = _Member(order, tell)
    while not stopping.is_set():
        with contextlib.suppress(sdk.OttlaError):
            async with sdk.connect(order.servers) as client:
                await member.read(client, stopping)
        if not stopping.is_set():
            await asyncio.sleep(AGAIN_S)


class _Member:
    def __init__(self, order: Order, tell: Tell) -> None:
        self._order = order
        self._tell = tell
        self._dice = Random(f"member {order.seed}")
        self._past: list[Identity] = []
        self._proven = -1  # the newest epoch in which something was acknowledged to this process
        self._consumer: GroupConsumer[bytes, bytes] | None = None
        self._stopping = asyncio.Event()
        self._ask: Any = None

    async def read(self, client: sdk.Client, stopping: asyncio.Event) -> None:
        """With one consumer, until it or the member ends. Raises OttlaError."""
        order, self._stopping = self._order, stopping
        own = {"assignors": tuple(order.assignors), "session_timeout_s": order.session_s}
        ways = own if order.protocol == "classic" else {}
        made = client.consumer(
            order.topic,
            group=order.group,
            protocol=order.protocol,
            instance_id=order.instance_id,
            auto_commit=order.auto_commit,
            commit_interval_s=COMMIT_INTERVAL_S,
            max_poll_interval_s=MAX_POLL_S,
            max_wait_ms=MAX_WAIT_MS,
            on_assigned=self._assigned,
            on_revoked=self._revoked,
            on_lost=self._lost,
            **ways,
        )
        self._consumer, self._past, self._proven = made, [], -1
        self._listen_to(made)
        async with made as consumer:
            while not stopping.is_set():
                try:
                    record = await asyncio.wait_for(anext(consumer), LOOK_S)
                except TimeoutError:
                    continue
                await self._handle(record)
                await self._perhaps_commit(consumer)
            if not order.auto_commit:
                with contextlib.suppress(sdk.OttlaError):
                    await consumer.commit()

    # --- the handler -------------------------------------------------------------------------------------------------

    async def _handle(self, record: Any) -> None:
        value = {"p": record.partition, "o": record.offset, "v": int(record.value)}
        slow = self._dice.random() < self._order.slow_share
        await asyncio.sleep(self._dice.uniform(*(SLOW_S if slow else HANDLE_S)))
        self._note(HANDLER, "ok", "handle", {**value, **self._who()})

    async def _perhaps_commit(self, consumer: GroupConsumer[bytes, bytes]) -> None:
        if not self._order.auto_commit and self._dice.random() < MANUAL_SHARE:
            with contextlib.suppress(sdk.OttlaError):
                await consumer.commit()
        if self._dice.random() < PROBE_SHARE:
            await self._probe()

    async def _probe(self) -> None:
        """A commit as whoever this member was before it had its present epoch. Refused, or it is a fault."""
        old = [who for who in self._past if who.epoch is not None and who.epoch < self._proven]
        if not old:
            return
        who, partition = self._dice.choice(old), self._dice.randrange(4)
        value = {"p": partition, "epoch": who.epoch, "member": who.member_id, "now": self._proven}
        request = OffsetCommitRequest(
            self._order.group,
            who.epoch,
            who.member_id,
            (CommitPartition(self._order.topic, partition, 0),),
            who.instance_id,
        )
        self._note(HANDLER, "invoke", "old-commit", value)
        try:
            answer = await self._ask(request, OffsetCommitResponse, timeout_s=ASK_S)
        except sdk.OttlaError as error:
            self._note(HANDLER, "info", "old-commit", value, str(error)[:100])
        else:
            refused = answer.error or answer.partitions[0].error
            self._note(HANDLER, "fail" if refused else "ok", "old-commit", value, refused.name if refused else None)

    # --- what the group gives and takes ------------------------------------------------------------------------------

    async def _assigned(self, keys: Iterable[TopicPartition]) -> None:
        assert self._consumer is not None
        starts = [[key.partition, self._consumer.position(*key)] for key in sorted(keys)]
        self._prove()
        self._note_at_once("own", {"starts": starts, **self._who()})

    async def _revoked(self, keys: Iterable[TopicPartition]) -> None:
        """While all leave, partitions go from hand to hand faster than records come: who commits by hand does it now,
        or the last to have one may have had no time to."""
        if self._stopping.is_set() and not self._order.auto_commit:
            assert self._consumer is not None
            with contextlib.suppress(sdk.OttlaError):
                await self._consumer.commit()
        self._let_go(keys, "revoked")

    async def _lost(self, keys: Iterable[TopicPartition]) -> None:
        self._let_go(keys, "lost")

    def _let_go(self, keys: Iterable[TopicPartition], how: str) -> None:
        self._note_at_once("disown", {"partitions": sorted(key.partition for key in keys), "how": how, **self._who()})

    def _note_at_once(self, f: str, value: dict[str, Any]) -> None:
        """The handler has its own lane, and may be at work: these come between its halves on another."""
        self._note(FETCHES, "invoke", f, value)
        self._note(FETCHES, "ok", f, value)

    # --- who it is, and what it asks ---------------------------------------------------------------------------------

    def _identity(self) -> Identity:
        assert self._consumer is not None
        who = self._consumer._membership.identity()
        if not self._past or self._past[-1] != who:
            self._past = [*self._past[-8:], who]
        return who

    def _prove(self) -> None:
        self._proven = max(self._proven, self._identity().epoch or -1)

    def _who(self) -> dict[str, Any]:
        """Its epoch: the one that gave it what it owns. A generation of the classic protocol that was joined and never
        given its partitions may be counted again by another coordinator (decision 0012)."""
        assert self._consumer is not None
        who, membership = self._identity(), self._consumer._membership
        epoch = membership._owned_in if isinstance(membership, ClassicMembership) else who.epoch
        return {"epoch": epoch, "member": who.member_id}

    def _listen_to(self, consumer: GroupConsumer[bytes, bytes]) -> None:
        """Every attempt of its commits, fetches of offsets and heartbeats is an operation; and a record is handled from
        when it is handed out: a partition may be lost before the handler has begun with it."""

        def handed_out(record: Any) -> None:
            value = {"p": record.partition, "o": record.offset, "v": int(record.value), **self._who()}
            self._note(HANDLER, "invoke", "handle", value)

        class Heard(InHand):
            """Tells of every record that the handler gets: it is set, and nothing is called."""

            def __setattr__(self, name: str, value: Any) -> None:
                super().__setattr__(name, value)
                if name == "record" and value is not None:
                    handed_out(value)

        consumer._hand.__class__ = Heard
        coordinator = consumer._commits._coordinator
        ask = self._ask = coordinator.ask

        async def heard(request: Any, answer_type: Any, *, timeout_s: float) -> Any:
            told = self._told_of(request)
            if told is None:
                return await ask(request, answer_type, timeout_s=timeout_s)
            lane, f, value = told
            self._note(lane, "invoke", f, value)
            try:
                answer = await ask(request, answer_type, timeout_s=timeout_s)
            except BaseException as error:
                self._note(
                    lane, "info" if f == "commit" else "fail", f, value, f"{type(error).__name__}: {error}"[:100]
                )
                raise
            self._answered(lane, f, value, answer)
            return answer

        coordinator.ask = heard  # type: ignore[method-assign]

    def _told_of(self, request: Any) -> tuple[int, str, dict[str, Any]] | None:
        self._identity()
        if isinstance(request, OffsetCommitRequest):
            offsets = [[each.partition, each.offset] for each in request.partitions]
            value = {
                "offsets": offsets,
                "epoch": request.generation_id_or_member_epoch,
                "member": request.member_id,
                "auto": self._order.auto_commit,
            }
            return COMMITS, "commit", value
        if isinstance(request, OffsetFetchRequest):
            return FETCHES, "fetch", {"partitions": [each.partition for each in request.partitions or ()]}
        if isinstance(request, ConsumerGroupHeartbeatRequest) and request.member_epoch >= 0:
            return BEATS, "beat", {"epoch": request.member_epoch}
        if isinstance(request, HeartbeatRequest):
            return BEATS, "beat", {"epoch": request.generation_id}
        return None

    def _answered(self, lane: int, f: str, value: dict[str, Any], answer: Any) -> None:
        if answer.error is not ErrorCode.NONE:
            self._note(lane, "fail", f, value, answer.error.name)
            return
        if f == "commit":
            stored = {each.partition for each in answer.partitions if each.error is ErrorCode.NONE}
            value = {**value, "offsets": [each for each in value["offsets"] if each[0] in stored]}
            if value["epoch"] is not None and stored:
                self._proven = max(self._proven, value["epoch"])
        elif f == "fetch":
            value = {"offsets": [[each.partition, each.offset] for each in answer.partitions]}
        self._note(lane, "ok", f, value)

    def _note(self, lane: int, type: Any, f: str, value: Any, error: str | None = None) -> None:
        self._tell(Told(time.monotonic_ns(), lane, type, f, value, error))


def _to_output(told: Told) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
    sys.stdout.buffer.flush()


async def _main(order: Order) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await live(order, _to_output, stopping)


if __name__ == "__main__":
    asyncio.run(_main(msgspec.json.decode(sys.argv[1], type=Order)))
