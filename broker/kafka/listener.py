"""The Kafka port of a node: where it is, what it is told to others as, and what can go wrong with it."""

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from ottla.client.errors import OttlaError
from ottla.raft.image import KAFKA, Listener

from ..config import Settings, is_loopback
from ..http.streams import InflightBudget
from ..metrics import Metrics

if TYPE_CHECKING:
    from ..assembly import Parts
    from .door import KafkaDoor

log = structlog.get_logger(__name__)


class KafkaPortTaken(OttlaError):
    """Nobody can listen there."""


@dataclass(frozen=True, slots=True)
class KafkaListener:
    """``listener``: as it is registered in the quorum."""

    door: "KafkaDoor"
    port: int
    listener: Listener

    def serve(self, parts: "Parts") -> None:
        """Let clients in: the node is ready."""
        from .door import Served
        from .view import BrokerView

        view = BrokerView(parts.api, parts.node_id, lambda: parts.manager.image, lambda: parts.quorum.leader_id)
        self.door.serve(Served(view, lambda: parts.logs.has_room, parts.logs.wait_for_room))


async def open_kafka(settings: Settings, metrics: Metrics, inflight: InflightBudget) -> KafkaListener | None:
    """Take the port; None where the door is off. Raises KafkaPortTaken."""
    address = settings.kafka_address
    if address is None:
        return None
    from .door import KafkaDoor  # a node without this door has no use for its modules

    door = KafkaDoor(settings, metrics, inflight)
    try:
        port = await door.bind(*address)
    except OSError as error:
        raise KafkaPortTaken(
            f"{address[0]}:{address[1]} cannot be listened on: {error.strerror or error}.",
            code="OTTLA-PORT-IN-USE" if error.errno == errno.EADDRINUSE else "OTTLA-CANNOT-LISTEN",
            hint="Use --kafka HOST:PORT, or --kafka off, or stop whoever has it.",
        ) from error
    host, told = settings.advertised_kafka(port)
    if host and is_loopback(host) and not is_loopback(address[0]):
        log.warning(
            "kafka.advertised.loopback",
            listening=f"{address[0]}:{port}",
            told=f"{host}:{told}",
            hint="Clients on other machines will be sent to themselves. Set --advertise or kafka.advertise.",
        )
    return KafkaListener(door, port, Listener(KAFKA, told, host))
