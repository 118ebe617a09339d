"""A real cluster for tests, in this process: real nodes, free ports, temporary data.

    with cluster(nodes=3) as servers:                        # async with does it, too
        async with ottla.connect(servers) as client: ...
        servers.kill(2)

Every node has a thread and an event loop of its own, so that it goes on while a test blocks, serves blocking and
asyncio tests alike, and can be paused as a whole, as SIGSTOP would. This module is for tests only: with
node_thread.py it is the one place of the SDK that knows the broker, and loads it when a cluster is started
(decision 0013).
"""

import asyncio
import contextlib
import random
import shutil
import socket
import tempfile
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .errors import ConfigError, OttlaError
from .loading import without_collector
from .node_thread import NodeThread
from .servers import Address
from .severable import SeverableLoop
from .sides import check_node, sides_to_cut

QUICK: dict[str, Any] = {
    "group_consumer_heartbeat_interval_ms": 200,
    "group_initial_rebalance_delay_ms": 0,
}
"""Defaults of a test: members of a group hear of a rebalance at their next heartbeat, which is 1 s away elsewhere."""
PORTS = range(12_000, 32_000)
"""Below the range that outgoing connections take theirs from, so that a node's port is still free after a restart."""


def cluster(nodes: int = 1, *, kafka: bool = False, **settings: Any) -> "LocalCluster":
    """A cluster of so many nodes, 1 to 7, to be entered. ``kafka``: it serves Kafka clients too (``kafka_servers``).
    ``settings``: of every node, as in docs/configuration.md with underscores, e.g. ``num_partitions=3``. Raises
    ConfigError."""
    return LocalCluster(nodes, kafka=kafka, **settings)


def _forget_handlers() -> None:
    """aiohttp keeps a thousand handlers with their middlewares, for the life of the process, and behind each stands
    its node: a suite of many clusters would hold them all."""
    from aiohttp import web_app

    cache = getattr(web_app, "_cached_build_middleware", None)
    if cache is not None:
        cache.cache_clear()


class LocalCluster:
    """Iterate over it for its servers. Nodes are numbered from 1. All methods block, for a moment, and may be called
    from a coroutine: nodes do not run in its loop."""

    def __init__(self, nodes: int = 1, *, kafka: bool = False, **settings: Any) -> None:
        if type(nodes) is not int or not 1 <= nodes <= 7:
            raise ConfigError(f"nodes is {nodes!r:.100}.", hint="It is 1 to 7.")
        if not isinstance(kafka, bool):
            raise ConfigError(f"kafka is {kafka!r:.100}.", hint="It is True or False: ports are chosen by the cluster.")
        self._size = nodes
        self._kafka = kafka
        self._settings = settings
        self._directory: Path | None = None
        self._runs = False
        self._nodes: dict[int, NodeThread] = {}
        self._nodes_own: set[int] = set()  # see SeverableLoop

    # --- life --------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._runs:
            raise OttlaError("the cluster runs already.", code="OTTLA-RUNNING", hint="Make another: cluster().")
        with without_collector():
            from ottla.broker.config import load_settings
            from ottla.broker.node import Node  # noqa: F401 - each node's thread needs it

        self._runs = True
        self._directory = Path(tempfile.mkdtemp(prefix="ottla-test-"))
        ports = _free_ports(2 * self._size)
        # Sorted, so that a node's number is its id: ids are positions in the sorted list of addresses.
        addresses = [str(Address("127.0.0.1", port)) for port in sorted(ports[: self._size])]
        doors = [str(Address("127.0.0.1", port)) if self._kafka else "off" for port in ports[self._size :]]
        join = ",".join(addresses) if self._size > 1 else None
        try:
            for number, (address, kafka) in enumerate(zip(addresses, doors, strict=True), 1):
                data = str(self._directory / f"n{number}")
                own = {"data": data, "http": address, "join": join, "kafka": kafka}
                self._nodes[number] = NodeThread(
                    number, load_settings({**QUICK, **self._settings, **own}), self._nodes_own
                )
            for node in self._nodes.values():
                node.begin()
            for node in self._nodes.values():
                node.until_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.heal()
        ending = [node.ask_to_end() for node in self._nodes.values()]
        for end in ending:
            end()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._runs = False
        _forget_handlers()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    # --- where it is -------------------------------------------------------------------------------------------------

    @property
    def servers(self) -> list[str]:
        """``HOST:PORT`` of every node, running or not."""
        return [node.address for node in self._nodes.values()]

    @property
    def kafka_servers(self) -> list[str]:
        """``HOST:PORT`` of every node's Kafka port; empty without ``kafka=True``."""
        return [node.kafka_address for node in self._nodes.values()] if self._kafka else []

    def __iter__(self) -> Iterator[str]:
        return iter(self.servers)

    def running(self) -> list[int]:
        """Numbers of the nodes that were not killed, paused ones among them."""
        return [number for number, node in self._nodes.items() if node.is_running]

    # --- faults ------------------------------------------------------------------------------------------------------

    def kill(self, node: int) -> None:
        """As kill -9 looks from outside: it hands nothing over, finishes nothing, and its connections break. What it
        had written is there when it is started again, as after a death of the process, not of the machine."""
        self._node(node).ask_to_end()()

    def start(self, node: int) -> None:
        """Start a killed node again, on its data, and wait until it is ready."""
        found = self._node(node)
        if not found.is_running:
            found.begin()
        found.until_ready()

    def pause(self, node: int) -> None:
        """Its event loop stands still, as after SIGSTOP: connections stay, nothing is answered. ``resume`` ends it."""
        self._node(node).pause()

    def resume(self, node: int) -> None:
        """Undo ``pause``."""
        self._node(node).resume()

    def partition(self, *sides: Collection[int]) -> None:
        """Cut the network between these sets of nodes, silently and in both directions, in addition to what is cut; a
        set alone is cut off from all others. Clients still reach everybody (``cut_clients``). Raises ConfigError."""
        groups = sides_to_cut(sides, self._numbers())
        for group in groups:
            ports = {self._node(other).port for others in groups if others is not group for other in others}
            for number in group:
                self._node(number).in_loop(partial(_sever, ports))

    def cut_clients(self, *nodes: int) -> None:
        """Cut all clients off from these nodes, from every one if none is named: silently and in both directions, in
        addition to what is cut. Nodes still reach each other."""
        for node in [self._node(number) for number in nodes or self._nodes]:
            node.in_loop(lambda loop: loop.sever_clients())

    def heal(self) -> None:
        """Mend the network, and let paused nodes go on."""
        for node in self._nodes.values():
            node.resume()
            node.in_loop(lambda loop: loop.heal())

    def _node(self, number: int) -> "NodeThread":
        return self._nodes[check_node(number, self._numbers())]

    def _numbers(self) -> list[int]:
        """Of those that there are. Raises OTTLA-CLOSED."""
        if not self._runs:
            hint = "It runs within: with cluster() as servers."
            raise OttlaError("the cluster does not run.", code="OTTLA-CLOSED", hint=hint)
        return list(self._nodes)


def _sever(ports: set[int], loop: SeverableLoop) -> None:
    loop.sever(ports)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found
