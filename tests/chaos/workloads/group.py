"""A group whose members come, go, die and stop at random while values are written to its topic, and watchers who ask
what it has committed. Who owns what, in which epoch, what was handled and what was committed is all in the history.

In the end, when everything was mended, members come, leave and die one after the other, and after each the group must
settle in time; then all that was acknowledged must have been handled, and be committed.
"""

import asyncio
import contextlib
import itertools
from typing import Any, ClassVar

from ..group.hands import Hand
from ..group.told import GROUP, Order, Told
from ..stage import Stage, chance
from .group_load import OUTSIDE, PARTITIONS, PRODUCERS, TOPIC, WATCH_EVERY_S, GroupLoad

SESSION_S = 6.0
CHANGE_EVERY_S = 4.0
PAUSE_S = (0.3, 12.0)
LOOK_S = 0.05
SETTLE_S_MAX = 30.0
DRAIN_S = 20.0
STOP_S_MAX = 25.0
CLASSIC_SHARE = 0.35
STATIC_SHARE = 0.25
ASSIGNORS = (["cooperative-sticky"], ["cooperative-sticky"], ["sticky"], ["range"], ["roundrobin"])
LAST_CHANGES = ("join", "leave", "crash", "join")
CHANGER, SETTLER = OUTSIDE, OUTSIDE + 1


class _Member:
    """One that was hired. ``owned``: the partitions that it says are its."""

    def __init__(self, order: Order, hand: Hand) -> None:
        self.order, self.hand = order, hand
        self.owned: set[int] = set()
        self.positions: dict[int, int] = {}  # of the next record to finish, where it has the partition
        self.paused = False
        self.leaving = False


class GroupWorkload:
    name = "group"
    expected_f = ("put-one", "handle", "own")
    facts: ClassVar[dict[str, object]] = {}
    check_every_s = 0.2
    kinds = ("coordinator", "slow-load", "member-cut", "lone-coordinator", "client-cut")
    read_s_max = 75.0
    settings: ClassVar[dict[str, int]] = {"group_consumer_session_timeout_ms": int(SESSION_S * 1000)}

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._load = GroupLoad(stage)
        dice = chance(stage, "group")
        self._dice = dice
        self._protocol = "classic" if dice.random() < CLASSIC_SHARE else "consumer"
        self._assignors = dice.choice(ASSIGNORS)
        self._auto = dice.random() < 0.7
        self._static = dice.random() < STATIC_SHARE
        self._members_max = dice.randint(1, stage.members_max)
        self._slow_share = dice.choice((0.0, 0.01, 0.03))
        # One of the classic protocol may die while it waits to be let in, and its session begins when it is.
        self._grace_s = SESSION_S * (2 if self._protocol == "classic" else 1)
        self._numbers = itertools.count(1)
        self._members: list[_Member] = []
        self._instances: list[str] = []  # of static members that are gone, and will be back
        self._tasks: list[asyncio.Task[None]] = []
        self._settling: asyncio.Task[None] | None = None
        self._event: dict[str, Any] = {}
        self._changed = asyncio.Event()
        self._failures: list[str] = []
        self._home_ns = 0  # in the end, until then coordinators may go back to where they were meant to be

    # --- the run -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        await self._stage.spawn(self._load.make_topic())
        for _ in range(self._dice.randint(1, self._members_max)):
            await self._join()
        self._tasks = [self._stage.spawn(self._load.produce(n)) for n in range(PRODUCERS)]
        self._tasks += [self._stage.spawn(self._change())]
        self._watching = [self._stage.spawn(self._load.watch(n)) for n in range(len(WATCH_EVERY_S))]
        self._settling = self._stage.spawn(self._settle())

    async def stop(self) -> None:
        self._load.stopping = True
        await asyncio.gather(*self._tasks)

    async def verify(self) -> None:
        """The last changes, each until it has settled; then until all is handled; then everybody leaves."""
        assert self._settling is not None
        for member in self._members:
            self._resume(member)
        if not self._members:
            await self._join()
        self._happened("mended", 3 * SESSION_S)  # leaderships go home, sessions of the dead end
        self._home_ns = self._event["due_ns"]
        await self._until_settled()
        for what in LAST_CHANGES:
            if what == "join":
                await self._join()
            elif len(self._members) > 1:
                await (self._leave if what == "leave" else self._crash)(self._dice.choice(self._members))
            await self._until_settled()
        await self._until_read()
        self._load.done = True
        await asyncio.gather(*self._watching, self._settling)
        members = list(self._members)
        for member in members:
            member.leaving = True
            member.hand.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S_MAX):
                await asyncio.gather(*(member.hand.ended.wait() for member in members))
        for member in members:
            if not member.hand.ended.is_set():
                self._failures.append(f"member {member.order.number} does not end")
                member.hand.kill()
        await self._stage.spawn(self._load.watch_once(OUTSIDE + 9))
        assert not self._failures, self._failures[:3]

    # --- members -----------------------------------------------------------------------------------------------------

    async def _change(self) -> None:
        while not self._load.stopping:
            await self._sleep(self._dice.expovariate(1 / CHANGE_EVERY_S))
            if self._load.stopping:
                return
            running = self._running()
            what = self._dice.choice(("join", "join", "leave", "crash", "pause", "restart"))
            if what == "join" or not running:
                if len(self._members) < self._members_max:
                    await self._join()
                continue
            member = self._dice.choice(running)
            if what == "pause":
                await self._pause(member)
            elif what == "crash":
                await self._crash(member)
            elif what == "leave" and len(running) > 1:
                await self._leave(member)
            elif what == "restart":
                await self._leave(member)
                await self._join()

    async def _join(self) -> None:
        number = next(self._numbers)
        instance = None
        if self._static:
            instance = self._instances.pop(0) if self._instances else f"i{number}"
        order = Order(
            number=number,
            seed=self._stage.seed * 1000 + number,
            servers=self._stage.servers,
            group=GROUP,
            topic=TOPIC,
            protocol=self._protocol,
            assignors=self._assignors,
            instance_id=instance,
            auto_commit=self._auto,
            session_s=SESSION_S,
            slow_share=self._slow_share,
        )
        self._tell_change("join", number, instance)
        member: list[_Member] = []
        early: list[Told] = []

        def hear(told: Told) -> None:
            if member:
                self._hear(member[0], told)
            else:
                early.append(told)

        member.append(_Member(order, await self._stage.hire(order, hear)))
        self._members.append(member[0])
        for told in early:
            self._hear(member[0], told)
        self._happened("join", 0.0)

    async def _leave(self, member: _Member) -> None:
        member.leaving = True
        self._tell_change("leave", member.order.number, member.order.instance_id)
        member.hand.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S_MAX):
                await member.hand.ended.wait()
        if not member.hand.ended.is_set():
            self._failures.append(f"member {member.order.number} does not end")
            member.hand.kill()
        self._gone(member)
        self._tell_change("left", member.order.number, member.order.instance_id)
        # A static member's place is kept for a session.
        self._happened("leave", self._grace_s if member.order.instance_id else 0.0)

    async def _crash(self, member: _Member) -> None:
        member.hand.kill()
        await member.hand.ended.wait()
        self._gone(member)
        self._tell_change("crash", member.order.number, member.order.instance_id)
        self._happened("crash", self._grace_s)

    def _gone(self, member: _Member) -> None:
        if member.hand.failure is not None:
            self._failures.append(member.hand.failure)
        self._members.remove(member)
        if member.order.instance_id is not None:
            self._instances.append(member.order.instance_id)

    async def _pause(self, member: _Member) -> None:
        self._tell_change("pause", member.order.number, member.order.instance_id)
        member.paused = True
        member.hand.pause()
        self._happened("pause", self._grace_s)
        self._tasks.append(self._stage.spawn(self._resume_later(member, self._dice.uniform(*PAUSE_S))))

    async def _resume_later(self, member: _Member, seconds: float) -> None:
        await self._sleep(seconds)
        self._resume(member)

    def _resume(self, member: _Member) -> None:
        if member.paused and member in self._members:
            member.paused = False
            self._tell_change("resume", member.order.number, member.order.instance_id)
            member.hand.resume()
            self._happened("resume", self._grace_s)

    def _tell_change(self, what: str, number: int, instance: str | None) -> None:
        value = {"what": what, "member": number, "instance": instance}
        self._stage.history.tell(self._now_ns(), CHANGER, "invoke", "member", value)
        self._stage.history.tell(self._now_ns(), CHANGER, "ok", "member", value)

    def _hear(self, member: _Member, told: Told) -> None:
        value, process = told.value, member.order.process(told.lane)
        self._stage.history.tell(told.time_ns, process, told.type, told.f, value, told.error)
        if told.type != "ok":
            return
        if told.f == "own":
            member.owned.update(partition for partition, _ in value["starts"])
            member.positions.update({partition: start or 0 for partition, start in value["starts"]})
        elif told.f == "disown":
            member.owned.difference_update(value["partitions"])
        elif told.f == "handle":
            self._load.handled.add(value["v"])
            self._load.waiting.discard(value["v"])
            member.positions[value["p"]] = value["o"] + 1

    # --- whether it has settled --------------------------------------------------------------------------------------

    def _happened(self, what: str, grace_s: float) -> None:
        """From now, and ``grace_s``, on the group has five seconds."""
        # A coordinator that takes another's place gives everybody a session anew, the dead too.
        began_ns = max(self._now_ns(), self._home_ns) if grace_s else self._now_ns()
        due_ns = began_ns + int(grace_s * 1e9)
        due_ns = max(due_ns, self._event.get("due_ns", 0) if not self._event.get("over") else 0)
        self._event = {"what": what, "members": len(self._members), "due_ns": due_ns}
        self._changed.set()

    async def _settle(self) -> None:
        """One operation for each change: it ends as ok when the group has settled, as info at the next change."""
        history = self._stage.history
        while not self._load.done:
            if not self._changed.is_set():
                await asyncio.sleep(LOOK_S)
                continue
            self._changed.clear()
            event = self._event
            if not self._running():
                continue  # nobody is there to have anything
            history.tell(self._now_ns(), SETTLER, "invoke", "settle", self._public(event))
            while not (self._changed.is_set() or self._load.done or self._is_settled()):
                await asyncio.sleep(LOOK_S)
            settled = not self._changed.is_set() and self._is_settled()
            event["over"] = settled
            history.tell(self._now_ns(), SETTLER, "ok" if settled else "info", "settle", self._public(event))

    @staticmethod
    def _public(event: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in event.items() if key != "over"}

    def _is_settled(self) -> bool:
        """Whether those that run share all partitions evenly."""
        owned = [member.owned for member in self._running()]
        if not owned or any(member.leaving for member in self._members):
            return False
        sizes = sorted(map(len, owned))
        return sum(sizes) == PARTITIONS == len(set().union(*owned)) and sizes[-1] - sizes[0] <= 1

    def _running(self) -> list[_Member]:
        return [member for member in self._members if not member.paused and not member.leaving]

    async def _until_settled(self) -> None:
        await self._until(lambda: bool(self._event.get("over")), SETTLE_S_MAX)

    def _all_read(self) -> bool:
        """Whether each partition's owner has got to its end: what was handled and not committed is read again."""
        read = {p: member.positions.get(p, 0) for member in self._running() for p in member.owned}
        return all(read.get(partition, 0) > last for partition, last in self._load.last.items())

    async def _until_read(self) -> None:
        """As long as there is progress: a single member may have a long way to go."""
        handled = -1
        while not (done := not self._load.waiting and self._all_read()) and len(self._load.handled) > handled:
            handled = len(self._load.handled)
            await self._until(lambda: not self._load.waiting and self._all_read(), DRAIN_S)
        if not done:
            await self._until(lambda: not self._load.waiting and self._all_read(), DRAIN_S)

    async def _until(self, condition: Any, seconds: float) -> None:
        until_s = self._stage.now_s() + seconds
        while not condition() and self._stage.now_s() < until_s:
            await asyncio.sleep(LOOK_S)

    async def _sleep(self, seconds: float) -> None:
        until_s = self._stage.now_s() + seconds
        while not self._load.stopping and (left_s := until_s - self._stage.now_s()) > 0:
            await asyncio.sleep(min(left_s, 0.5))

    def _now_ns(self) -> int:
        return int(self._stage.now_s() * 1e9)
