"""Tells the quorum of replicas that this broker runs and cannot serve, so that others lead in their place (KIP-112)."""

import asyncio

import structlog

from ottla.log.model import BrokerEpoch, TopicIdPartition
from ottla.raft.commands import MAX_DAMAGED, ReplicasOffline

from .controller_channel import ControllerChannel, ControllerUnavailable
from .replica_manager import ReplicaManager

log = structlog.get_logger(__name__)

RETRY_S = 0.5


class OfflineReporter:
    """``noticed``: something may have gone offline. What is, is in the manager; what was told is remembered for one
    broker epoch."""

    def __init__(self, manager: ReplicaManager, channel: ControllerChannel) -> None:
        self._manager = manager
        self._channel = channel
        self._told: set[TopicIdPartition] = set()
        self._wake = asyncio.Event()

    def noticed(self) -> None:
        """Look again."""
        self._wake.set()

    async def run(self, epoch: BrokerEpoch) -> None:
        """Until cancelled, in this broker epoch."""
        self._told = set(self._manager.out_of_service())  # the registration has said it
        while True:
            self._wake.clear()
            news = [key for key in self._manager.out_of_service() if key not in self._told][:MAX_DAMAGED]
            if news:
                await self._tell(epoch, news)
                continue
            await self._wake.wait()

    async def _tell(self, epoch: BrokerEpoch, news: list[TopicIdPartition]) -> None:
        try:
            result, _ = await self._channel.submit(ReplicasOffline(self._manager.local, epoch, tuple(news)))
        except (ControllerUnavailable, TimeoutError) as error:
            log.warning("offline.untold", partitions=len(news), problem=str(error))
            await asyncio.sleep(RETRY_S)
            return
        log.error("offline.told", partitions=len(news), result=type(result).__name__)
        self._told.update(news)
