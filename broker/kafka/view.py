"""What this door's handlers see of the broker: its image, its requests, and the addresses to hand out."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import msgspec

from ottla.client.error_codes import ErrorCode
from ottla.client.protocol import ErrorResponse, Request, Response
from ottla.log.model import BrokerId, TopicId
from ottla.raft.image import KAFKA, MetadataImage

from ..api.dispatch import Api
from ..replica import Refused
from .caller import Caller

ResponseT = TypeVar("ResponseT", bound=Response)


class Address(NamedTuple):
    host: str
    port: int


class BrokerView:
    """``image`` gives the newest one; hold what it gives for the whole of a request. ``quorum_leader``: None where
    there is none, or none that this node knows of."""

    def __init__(
        self,
        api: Api,
        local: BrokerId,
        image: Callable[[], MetadataImage],
        quorum_leader: Callable[[], int | None],
    ) -> None:
        self.api = api
        self.local = local
        self._image = image
        self._quorum_leader = quorum_leader

    @property
    def quorum_leader(self) -> int | None:
        return self._quorum_leader()

    @property
    def image(self) -> MetadataImage:
        return self._image()

    async def ask(self, request: Request, answer: type[ResponseT], *, checked: bool = False) -> ResponseT:
        """Have the handler of every door answer. ``checked``: hold the request to the bounds of its fields first, as
        a frame's decoder does at the other door. Raises Refused."""
        if checked:
            _check_bounds(request)
        response, _ = await self.api.begin(request, memoryview(b""))
        if isinstance(response, ErrorResponse):
            raise Refused(response.error, response.message)
        assert isinstance(response, answer)
        return response

    def address(self, caller: Caller, broker_id: BrokerId) -> Address | None:
        """Where this client finds that broker's listener; None where it has none, or is fenced. A listener without a
        host of its own is found by the host that the client reached us by."""
        broker = self.image.brokers.get(broker_id)
        listener = None if broker is None or broker.fenced else broker.listener(KAFKA)
        return None if listener is None else Address(listener.host or caller.local_host, listener.port)

    def addresses(self, caller: Caller) -> dict[BrokerId, Address]:
        """Of all brokers that can be reached, by id."""
        found = {broker_id: self.address(caller, broker_id) for broker_id in sorted(self.image.brokers)}
        return {broker_id: address for broker_id, address in found.items() if address is not None}

    def topic_id(self, name: str) -> TopicId | None:
        topic = self.image.topics.get(name)
        return None if topic is None else topic.topic_id


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Request)


def _check_bounds(request: Request) -> None:
    try:
        _decoder.decode(_encoder.encode(request))
    except msgspec.ValidationError as error:
        raise Refused(ErrorCode.INVALID_REQUEST, f"not a legal request: {error}") from error


def failed(refused: Refused) -> tuple[ErrorCode, str | None]:
    """Code and words of a refusal, as responses have them."""
    return refused.error, str(refused) or None
