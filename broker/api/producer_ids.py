"""InitProducerId: ids from blocks that the quorum hands to each broker (KIP-730)."""

import asyncio

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import InitProducerIdRequest, InitProducerIdResponse
from ottla.log.model import ProducerEpoch, ProducerId
from ottla.raft.commands import AllocateProducerIds
from ottla.raft.results import ProducerIdBlock

from ..controller_channel import ControllerChannel, ControllerUnavailable
from ..replica import Refused

BLOCK_SIZE = 1_000


class ProducerIds:
    """Gives every producer an id that nobody had before. What is left of a block at a restart is never used."""

    def __init__(self, channel: ControllerChannel, timeout_s: float) -> None:
        self._channel = channel
        self._timeout_s = timeout_s
        self._next = 0
        self._end = 0
        self._refill = asyncio.Lock()

    async def init_producer_id(self, request: InitProducerIdRequest) -> InitProducerIdResponse:
        """A new producer id, at epoch 0. Raises Refused where no block can be had."""
        try:
            async with asyncio.timeout(self._timeout_s), self._refill:  # one that waits its turn waits no longer
                if self._next == self._end:
                    await self._allocate()
                self._next += 1
                return InitProducerIdResponse(ProducerId(self._next - 1), ProducerEpoch(0))
        except TimeoutError:
            raise Refused(ErrorCode.REQUEST_TIMED_OUT, "no producer ids could be had in time") from None

    async def _allocate(self) -> None:
        try:
            result, _ = await self._channel.submit(AllocateProducerIds(BLOCK_SIZE), self._timeout_s)
        except ControllerUnavailable as error:
            raise Refused(ErrorCode.REQUEST_TIMED_OUT, str(error)) from error
        if not isinstance(result, ProducerIdBlock):
            raise Refused(ErrorCode.BROKER_NOT_AVAILABLE, f"no producer ids: {result}")
        self._next, self._end = result.start, result.start + result.count
