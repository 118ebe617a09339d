"""The entrance: one client, any number of producers and consumers on its streams."""

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from ottla.log.chance import Chance
from ottla.log.clock import Clock

from .admin import Admin
from .cluster import Cluster
from .consumer import Consumer
from .errors import ConfigError
from .producer import Producer
from .producer_options import ProducerOptions
from .reading import ConsumerOptions
from .servers import parse_servers


def connect(servers: str | Iterable[str], *, clock: Clock | None = None, chance: Chance | None = None) -> "Client":
    """A client of the cluster that ``servers`` (``"host:port[,host:port]"`` or a list) belong to; any of its nodes
    will do. Nothing is opened before it is used or entered. Raises ConfigError."""
    return Client(Cluster(parse_servers(servers), clock=clock, chance=chance))


class Client:
    """Use it as a context manager: entering raises ConnectFailed where no node answers. Close producers and consumers
    before it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.admin = Admin(cluster)

    async def __aenter__(self) -> Self:
        try:
            await self.cluster.refresh()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def producer(self, **options: Any) -> Producer:
        """A producer; ``options`` are the fields of ProducerOptions. Raises ConfigError."""
        _check_names(ProducerOptions, options)
        return Producer(self.cluster, ProducerOptions(**options))

    def consumer(
        self, topic: str, *, start: str | int = "earliest", partitions: Iterable[int] | None = None, **options: Any
    ) -> Consumer:
        """A consumer of a topic without a group; ``start``: "earliest", "latest" or an offset; ``partitions``: None
        for all, also those that come later; ``options``: the fields of ConsumerOptions. Raises ConfigError."""
        _check_names(ConsumerOptions, options)
        numbers = None if partitions is None else tuple(partitions)
        return Consumer(self.cluster, topic, start, numbers, ConsumerOptions(**options))

    async def close(self) -> None:
        """Close every stream. Idempotent."""
        await self.cluster.close()


def _check_names(options_type: type, options: dict[str, Any]) -> None:
    import difflib

    names = list(options_type.__dataclass_fields__)  # type: ignore[attr-defined]
    for name in options:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(names)}."
            raise ConfigError(f"there is no option {name!r}.", hint=hint)
