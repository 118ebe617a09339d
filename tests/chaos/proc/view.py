"""What the nodes say of the cluster: asked over the SDK's own stream and /health/ready, each answer bounded in time."""

import asyncio
import contextlib
from collections.abc import Iterable

import aiohttp

from ottla.client.connection import Connection
from ottla.client.errors import OttlaError
from ottla.client.protocol import MetadataRequest, MetadataResponse
from ottla.log.chance import SystemChance

ANSWER_S_MAX = 1.0


class View:
    """An async context. Addresses are ``host:port``."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._connections: dict[str, Connection] = {}

    async def __aenter__(self) -> "View":
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False)
        return self

    async def __aexit__(self, *exception: object) -> None:
        for connection in self._connections.values():
            await connection.close()
        assert self._session is not None
        await self._session.close()

    async def ready(self, address: str) -> bool:
        """Whether that node serves clients."""
        assert self._session is not None
        try:
            timeout = aiohttp.ClientTimeout(total=ANSWER_S_MAX)
            async with self._session.get(f"http://{address}/health/ready", timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def metadata(self, address: str, *, current: bool = False) -> MetadataResponse | None:
        """All topics and brokers as that node has them; ``current`` needs the quorum. None where it does not tell."""
        with contextlib.suppress(OttlaError, TimeoutError):
            async with asyncio.timeout(ANSWER_S_MAX):
                connection = await self._connected(address)
                answer = await connection.request(MetadataRequest(None, current=current), timeout_s=ANSWER_S_MAX)
            if isinstance(answer.message, MetadataResponse):
                return answer.message
        return None

    async def newest(self, addresses: Iterable[str]) -> MetadataResponse | None:
        """Of all that tell within the time, the one that has seen most."""
        told = await asyncio.gather(*(self.metadata(address) for address in addresses))
        known = [answer for answer in told if answer is not None]
        return max(known, key=lambda answer: (answer.quorum_term, answer.metadata_index), default=None)

    async def _connected(self, address: str) -> Connection:
        connection = self._connections.get(address)
        if connection is None or not connection.usable:
            assert self._session is not None
            host, _, port = address.rpartition(":")
            connection = self._connections[address] = await Connection.open(
                self._session, host, int(port), SystemChance()
            )
        return connection


def trouble(answer: MetadataResponse) -> str | None:
    """A partition without a leader, or with a replica out of sync; None if there is no such."""
    for topic in answer.topics:
        for partition in topic.partitions:
            where = f"{topic.name}-{partition.partition}"
            if partition.leader is None:
                return f"{where} has no leader"
            if set(partition.isr) != set(partition.replicas):
                return f"{where} has ISR {sorted(partition.isr)} of {sorted(partition.replicas)}"
    return None
