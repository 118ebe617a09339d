"""How a handler has the quorum decide: through the controller channel, answered once this node shows the change."""

import asyncio
from collections.abc import Awaitable, Callable

from ottla.client.error_codes import ErrorCode
from ottla.raft.commands import Body
from ottla.raft.decision import Context, Decision
from ottla.raft.image import Topic
from ottla.raft.results import Refused as QuorumRefused, Result

from ..controller_channel import ControllerChannel, ControllerUnavailable
from ..replica import Refused
from ..replica_manager import ReplicaManager


class QuorumDoor:
    """``wait_applied`` raises TimeoutError."""

    def __init__(
        self,
        *,
        manager: ReplicaManager,
        channel: ControllerChannel,
        wait_applied: Callable[[int, float], Awaitable[None]],
        timeout_s: float,
    ) -> None:
        self._manager = manager
        self._channel = channel
        self._wait_applied = wait_applied
        self._timeout_s = timeout_s

    async def decide(self, body: Body, change_id: str) -> tuple[Result, int]:
        """The quorum's result, and the metadata index that shows it, which this node has reached. Raises Refused."""
        try:
            result, index = await self._channel.submit(body, self._timeout_s, change_id=change_id or None)
            if isinstance(result, QuorumRefused):
                raise Refused(ErrorCode.named(result.code), result.message)
            await self._wait_applied(index, self._timeout_s)
        except (ControllerUnavailable, TimeoutError):
            raise Refused(
                ErrorCode.REQUEST_TIMED_OUT, "the metadata quorum did not decide in time; the change may still happen"
            ) from None
        return result, index

    def rehearse(self, decide: Callable[[Context], Decision]) -> tuple[Result, int]:
        """What the quorum would decide if its newest image were ours; nothing is proposed. Raises Refused."""
        image = self._manager.image
        result = decide(Context(image, image.index + 1, None)).result
        if isinstance(result, QuorumRefused):
            raise Refused(ErrorCode.named(result.code), result.message)
        return result, image.index

    async def topic(self, name: str) -> Topic:
        """The topic, in an image that holds all that was committed when we were asked: an old one must neither deny
        a topic that has been made nor name one that has been made again since. Raises Refused."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._wait_applied(await self._channel.commit_index(), self._timeout_s)
        except TimeoutError:
            raise Refused(
                ErrorCode.REQUEST_TIMED_OUT, "the metadata quorum does not answer; this node may not know every topic"
            ) from None
        topic = self._manager.image.topics.get(name)
        if topic is None:
            raise Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name}")
        return topic
