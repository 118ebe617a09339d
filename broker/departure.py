"""How a node leaves in good order: what it leads is handed over, what it owes is answered, what it holds is durable."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from ottla.log.clock import Clock
from ottla.log.errors import LogError
from ottla.log.failpoints import failpoint
from ottla.log.model import BrokerEpoch
from ottla.log.run_blocking import RunBlocking
from ottla.raft.commands import DrainBroker

from .assembly import Parts
from .checkpoints import checkpoint
from .controller_channel import ControllerUnavailable

log = structlog.get_logger(__name__)

LOOK_S = 0.05
ANSWER_WAIT_S = 1.0
"""How long a draining node waits for the answers it still owes."""
NO_QUORUM_S = 2.0
"""Without a quorum for so long, it hands nothing over: where all nodes stop at once, there is nobody to take it."""


class Departure:
    """``drain`` while clients are served still; ``finish`` when nothing speaks to others any more."""

    def __init__(self, parts: Parts, epoch: BrokerEpoch, clock: Clock, run_blocking: RunBlocking) -> None:
        self._parts = parts
        self._epoch = epoch
        self._clock = clock
        self._run_blocking = run_blocking

    async def drain(self, timeout_s: float, answered: Callable[[], Awaitable[None]]) -> None:
        """Give every leadership away that another replica can take; then nobody waits for this node. ``answered``:
        returns once nothing is owed."""
        led = self._parts.manager.led
        log.info("node.draining", leading=len(led))
        try:
            async with asyncio.timeout(timeout_s):
                await self._unless_without_quorum(self._hand_over())
        except (ControllerUnavailable, TimeoutError) as error:
            log.warning("node.drain.incomplete", problem=str(error), leading=len(self._parts.manager.led))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_WAIT_S):
                await answered()

    @failpoint("node.hand_over")
    async def _hand_over(self) -> None:
        _, index = await self._parts.channel.submit(DrainBroker(self._parts.node_id, self._epoch))
        await self._parts.wait_applied(index)

    async def _unless_without_quorum(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work``, or give it up with TimeoutError once there has been no controller for a while."""
        task = asyncio.create_task(work)
        with_leader_s = self._clock.monotonic()
        try:
            while not task.done():
                now_s = self._clock.monotonic()
                if self._parts.quorum.leader_id is not None:
                    with_leader_s = now_s
                if now_s - with_leader_s > NO_QUORUM_S:
                    raise TimeoutError("no quorum to hand over to")
                await asyncio.wait({task}, timeout=LOOK_S)
            await task
        finally:
            task.cancel()

    @failpoint("node.finish")
    async def finish(self) -> None:
        """Everything durable, then the file that says so."""
        logs = self._parts.logs
        await checkpoint(self._parts, self._run_blocking)
        try:
            # Each waits for the disk a few times, so side by side; what comes then has little left to do.
            await asyncio.gather(*(self._run_blocking(each.settle) for each in logs.logs()))
            await self._run_blocking(lambda: logs.write_clean_shutdown(self._epoch))
        except (LogError, OSError) as error:
            log.warning("node.stopped", clean=False, problem=str(error))
        else:
            log.info("node.stopped", clean=True, epoch=self._epoch)
