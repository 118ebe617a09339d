"""The controller: runs on the quorum's leader, watches the brokers' sessions, and fences and unfences them.

Heartbeats are its memory, never commands; only what follows from them (FenceBroker, UnfenceBroker) is proposed.
It is level-triggered: every pass compares what is with what should be and proposes the difference, so a proposal that
FAILED or whose outcome is UNKNOWN is simply made again by a later pass.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

from msgspec.structs import replace

from ottla.log.clock import Clock
from ottla.log.model import BrokerEpoch, BrokerId

from .balancing import Balancer
from .commands import MAX_COMMAND_BYTES, Body, Command, ElectLeaders, FenceBroker, UnfenceBroker, encode_command
from .controller_port import ControllerSettings, Probe, QuorumPort, SubmitOutcome, Submitted
from .digests import DigestVotes
from .image import Broker, MetadataImage
from .proposals import QuorumUnavailable
from .results import Result, decode_result
from .sessions import Heartbeat, HeartbeatAnswer, Sessions
from .state_machine import MetadataStateMachine

__all__ = [
    "Controller",
    "ControllerSettings",
    "Heartbeat",
    "HeartbeatAnswer",
    "Probe",
    "QuorumPort",
    "SubmitOutcome",
    "Submitted",
]

_log = logging.getLogger(__name__)


class Controller:
    """Broker sessions and requests on the quorum's leader; elsewhere it answers who the leader is."""

    def __init__(
        self,
        *,
        quorum: QuorumPort,
        machine: MetadataStateMachine,
        clock: Clock,
        settings: ControllerSettings,
        probe: Probe,
        voters: int = 1,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._quorum = quorum
        self._machine = machine
        self._clock = clock
        self._settings = settings
        self._probe = probe
        self._sleep = sleep
        self._sessions = Sessions(settings.session_s)
        self._digests = DigestVotes(voters)
        self._balancer = None if settings.balance_s is None else Balancer(settings.balance_s)
        self._balancing: asyncio.Task[None] | None = None
        self._streams: Counter[tuple[BrokerId, BrokerEpoch]] = Counter()
        self._active_term: int | None = None
        self._last_pass: float | None = None
        self._probed_at: dict[BrokerId, float] = {}
        self._proposing: dict[BrokerId, asyncio.Task[None]] = {}
        self._probing: dict[BrokerId, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        quorum.add_listener(self._wake.set)

    def heartbeat(self, beat: Heartbeat) -> HeartbeatAnswer:
        """Renews the broker's session; a fenced one that has seen why it was fenced comes back."""
        self._notice_activation()
        if beat.digest is not None:
            self._digests.note(beat.broker_id, beat.digest)
        broker = self._machine.image.brokers.get(beat.broker_id)
        known = broker is not None and broker.broker_epoch == beat.broker_epoch
        now = self._clock.monotonic()
        if self._active_term is not None and broker is not None and known:
            self._sessions.renew(beat, now)
            self._settle(broker)
        if self._last_pass is not None and now - self._last_pass >= self._settings.tick_s:
            self._wake.set()  # now that this process is awake: a timer of its own would wake it five times a second
        return HeartbeatAnswer(
            active=self._active_term is not None,
            leader_id=self._leader_id(),
            commit_index=self._quorum.commit_index,
            fenced=broker.fenced if broker is not None and known else True,
            draining=broker.draining if broker is not None and known else False,
            diverged=self._digests.differs(beat.broker_id),
            stale=not known,
        )

    def stream_opened(self, broker_id: BrokerId, broker_epoch: BrokerEpoch) -> None:
        """This incarnation has a control stream to us: its process lives."""
        self._streams[broker_id, broker_epoch] += 1
        self._sessions.pardon(broker_id)

    def stream_closed(self, broker_id: BrokerId, broker_epoch: BrokerEpoch) -> None:
        """Its control stream ended: if its port refuses too, its process is gone and it is fenced at once."""
        self._streams[broker_id, broker_epoch] -= 1
        if self._streams[broker_id, broker_epoch] <= 0:
            del self._streams[broker_id, broker_epoch]
        self._probed_at.pop(broker_id, None)
        self._wake.set()

    async def submit(self, command: Command) -> Submitted:
        """Proposes a broker's command, stamped with our time. Cancelling it leaves the outcome UNKNOWN."""
        if not self._quorum.is_active:
            return Submitted(SubmitOutcome.NOT_CONTROLLER, self._leader_id())
        data = encode_command(replace(command, proposed_at_ms=self._clock.now_ms()))
        if len(data) > MAX_COMMAND_BYTES:
            return Submitted(SubmitOutcome.FAILED, self._leader_id(), reason="COMMAND_TOO_LARGE")
        proposal = await self._quorum.propose(data, self._settings.propose_timeout_s)
        outcome = SubmitOutcome[proposal.outcome.name]
        if outcome is SubmitOutcome.FAILED and not self._quorum.is_active:
            outcome = SubmitOutcome.NOT_CONTROLLER
        if outcome is not SubmitOutcome.OK:
            return Submitted(outcome, self._leader_id(), reason=proposal.reason)
        return Submitted(outcome, self._leader_id(), proposal.index, proposal.result)

    async def barrier(self) -> int | None:
        """An index that shows everything committed before this call; None where this node cannot tell."""
        if not self._quorum.is_active:
            return None
        try:
            return await self._quorum.read_barrier(self._settings.propose_timeout_s)
        except QuorumUnavailable:
            return None

    async def run(self) -> None:
        """Watches sessions until cancelled."""
        try:
            while True:
                self._wake.clear()
                self._pass()
                await self._rest()
        finally:
            await self._stop_tasks()

    def _pass(self) -> None:
        """One look at every broker; all bookkeeping, no await."""
        now = self._clock.monotonic()
        self._notice_activation()
        self._forgive_our_own_pause(now)
        if self._active_term is None:
            return
        image = self._machine.image
        self._sessions.keep_only(image.brokers)
        for broker in image.brokers.values():
            self._sessions.expect(broker, now)
            self._settle(broker)
            if self._needs_probe(broker, now):
                self._probed_at[broker.broker_id] = now
                self._start(self._probing, broker.broker_id, partial(self._probe_one, broker))
        self._balance(image, now)

    def _balance(self, image: MetadataImage, now: float) -> None:
        """Give leaderships back, a few at a time and one proposal after another."""
        if self._balancer is None or (self._balancing is not None and not self._balancing.done()):
            return
        elections = self._balancer.round(image, now)
        if elections is not None:
            self._balancing = asyncio.create_task(self._elect(elections), name="controller-balance")

    async def _elect(self, body: ElectLeaders) -> None:
        try:
            submitted = await self.submit(_unrequested(body))
        except Exception:
            _log.exception("leaderships were not given back: a later pass looks again")
            return
        _log.info("preferred leaders of %d partitions: %s", len(body.elections), submitted.outcome.name)

    def _notice_activation(self) -> None:
        """A new controller knows no heartbeats yet: everyone gets a full session, and a probe where no stream is."""
        term = self._quorum.term if self._quorum.is_active else None
        if term != self._active_term:
            self._active_term = term
            self._sessions.clear()
            self._probed_at.clear()
            if self._balancer is not None:
                self._balancer.clear()
            self._wake.set()

    def _forgive_our_own_pause(self, now: float) -> None:
        """Heartbeats may be waiting unread behind a pause of ours: sessions begin anew."""
        if self._last_pass is not None and now - self._last_pass > self._settings.lull_s + self._settings.pause_s:
            self._sessions.clear()
        self._last_pass = now

    def _settle(self, broker: Broker) -> None:
        """Proposes what this broker's session demands, unless a proposal about it is on its way."""
        if broker.broker_id in self._proposing:
            return
        body = self._sessions.verdict(broker, self._clock.monotonic())
        if body is not None:
            self._start(self._proposing, broker.broker_id, partial(self._propose, body))

    async def _propose(self, body: FenceBroker | UnfenceBroker) -> None:
        submitted = await self.submit(_unrequested(body))
        level = logging.WARNING if isinstance(body, FenceBroker) else logging.INFO
        _log.log(level, "%s: %s %s", body, submitted.outcome.name, _describe(submitted))

    def _needs_probe(self, broker: Broker, now: float) -> bool:
        if broker.fenced or (broker.broker_id, broker.broker_epoch) in self._streams:
            return False
        last = self._probed_at.get(broker.broker_id)
        due = last is None or now - last >= self._settings.probe_interval_s
        return due and broker.broker_id not in self._probing

    async def _probe_one(self, broker: Broker) -> None:
        accepts = await self._probe(broker.host, broker.port)
        # It may have come back while we asked.
        if not accepts and (broker.broker_id, broker.broker_epoch) not in self._streams:
            self._sessions.condemn(broker)
            self._wake.set()

    def _start(
        self, tasks: dict[BrokerId, asyncio.Task[None]], broker_id: BrokerId, work: Callable[[], Awaitable[None]]
    ) -> None:
        async def guarded() -> None:
            try:
                await work()
            except Exception:
                _log.exception("broker %s: will be looked at again by the next pass", broker_id)

        task = asyncio.create_task(guarded(), name=f"controller-broker-{broker_id}")
        tasks[broker_id] = task
        task.add_done_callback(lambda _: tasks.pop(broker_id, None))

    async def _rest(self) -> None:
        """Until something happened or, on the leader, a pass is due without it."""
        if self._active_term is None:
            await self._wake.wait()  # leading is something that happens
            return
        timer = asyncio.ensure_future(self._sleep(self._settings.lull_s))
        timer.add_done_callback(lambda done: None if done.cancelled() else self._wake.set())
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    async def _stop_tasks(self) -> None:
        tasks = [*self._proposing.values(), *self._probing.values()]
        if self._balancing is not None:
            tasks.append(self._balancing)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _leader_id(self) -> BrokerId | None:
        leader = self._quorum.leader_id
        return None if leader is None else BrokerId(leader)


def _unrequested(body: Body) -> Command:
    return Command(0, None, body)


def _describe(submitted: Submitted) -> Result | str:
    return submitted.reason if submitted.result is None else decode_result(submitted.result)
