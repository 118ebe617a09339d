"""What workloads are given on real processes: this process's event loop and its clock."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from ..group.hands import Hear, RealHand
from ..group.told import Order
from ..history import History
from .arena import ProcessArena


class ProcessStage:
    """Clients run in the runner's process, at 127.0.0.1: no fault of the network reaches them, but for loss."""

    def __init__(self, arena: ProcessArena, seed: int, *, rate: float, clients: int) -> None:
        self.servers = arena.servers
        self.seed = seed
        self.rate = rate
        self.clients = clients
        self.history = History(lambda: int(arena.now_s() * 1e9))
        self._arena = arena

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        return asyncio.create_task(work)

    def now_s(self) -> float:
        return self._arena.now_s()

    members_max = 8  # each is a process, on however few cores

    async def hire(self, order: Order, hear: Hear) -> RealHand:
        began_ns = time.monotonic_ns() - int(self._arena.now_s() * 1e9)
        return await RealHand.hire(order, hear, began_ns, self._arena.directory / "members.log")
