"""Asks the quorum for the ISR changes that leaders want, one at a time per partition."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from ottla.log.clock import Clock
from ottla.log.failpoints import failpoint
from ottla.log.model import BrokerEpoch, BrokerId
from ottla.raft.commands import AlterPartition
from ottla.raft.results import PartitionAltered

from .background_tasks import BackgroundTasks
from .controller_channel import ControllerChannel
from .partition_leader import PartitionLeader
from .replica import Replica
from .replica_manager import ReplicaManager

log = structlog.get_logger(__name__)

CHECK_INTERVAL_S = 0.1
"""How often leaders are asked whether their ISR should change."""
IDLE_S = 1.0
"""How often a broker that leads nothing looks whether it does; ``roles_changed`` tells it sooner."""


class IsrKeeper:
    """Looks at every leader now and then; changes are compare-and-set through the quorum (KIP-497)."""

    def __init__(
        self,
        manager: ReplicaManager,
        channel: ControllerChannel,
        clock: Clock,
        wait_applied: Callable[[int], Awaitable[None]],
    ) -> None:
        self._manager = manager
        self._channel = channel
        self._clock = clock
        self._wait_applied = wait_applied
        self._asking = BackgroundTasks(lambda error: manager.on_bug(error))
        self._wake = asyncio.Event()
        self.shrinks = 0
        self.expands = 0

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self.check()
                if self._manager.led:
                    await asyncio.sleep(CHECK_INTERVAL_S)
                else:
                    await self._until_roles_change()
        finally:
            self._asking.cancel()

    def roles_changed(self) -> None:
        """A new image may have made this broker a leader."""
        self._wake.set()

    async def _until_roles_change(self) -> None:
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_S):
                await self._wake.wait()

    def check(self) -> None:
        """Start what should be started; no await."""
        now_s = self._clock.monotonic()
        for replica in self._manager.led:
            leader = replica.leader
            assert leader is not None
            members = leader.propose_isr(now_s, self._manager.may_join_isr)
            if members is not None:
                # The command is made in this very step: the epochs it names are those that the decision was made in.
                command = self._command(replica, leader, members)
                leader.isr.ask(members)
                self._asking.begin(self._ask(replica, leader, command), f"isr-{replica.name}")

    def _command(self, replica: Replica, leader: PartitionLeader, members: frozenset[BrokerId]) -> AlterPartition:
        return AlterPartition(
            topic_id=replica.topic_id,
            partition=replica.partition,
            leader_epoch=leader.leader_epoch,
            partition_epoch=leader.isr.partition_epoch,
            new_isr=tuple((member, self._epoch_of(leader, member)) for member in sorted(members)),
        )

    @failpoint("leader.ask_isr")
    async def _ask(self, replica: Replica, leader: PartitionLeader, command: AlterPartition) -> None:
        shrunk = len(command.new_isr) < len(leader.isr.committed)
        result, index = await self._channel.submit(command)
        if isinstance(result, PartitionAltered):
            self.shrinks, self.expands = self.shrinks + shrunk, self.expands + (not shrunk)
        log.info(
            "isr.asked",
            partition=str(replica.name),
            epoch=leader.leader_epoch,
            isr=[member for member, _ in command.new_isr],
            result=type(result).__name__,
            reason=getattr(result, "code", None),
        )
        # Until the image shows the outcome, the wider of the two sets is assumed.
        await self._wait_applied(index)
        self._manager.isr_resolved(replica, leader)

    def _epoch_of(self, leader: PartitionLeader, member: BrokerId) -> BrokerEpoch:
        """The incarnation whose log we know: the one at the other end of the session (KIP-903)."""
        follower = leader.followers.get(member)
        if follower is not None and follower.session is not None:
            return follower.session.broker_epoch
        registration = self._manager.image.brokers.get(member)
        return registration.broker_epoch if registration is not None else BrokerEpoch(0)
