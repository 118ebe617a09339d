"""What a workload is given: where the cluster is, how time passes, and where to write down what happened."""

import asyncio
from collections.abc import Coroutine
from random import Random
from typing import Any, Protocol

from .group.hands import Hand, Hear
from .group.told import Order
from .history import History


class Stage(Protocol):
    """One run, simulated or real. ``spawn`` runs client code; ``now_s`` is the time of the history."""

    servers: list[str]
    seed: int
    rate: float  # operations per second, of all clients together
    clients: int
    history: History

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]": ...

    def now_s(self) -> float: ...

    async def hire(self, order: Order, hear: Hear) -> Hand:
        """A member of a group, in a process of its own."""
        ...

    @property
    def members_max(self) -> int:
        """So many at a time."""
        ...


class Workload(Protocol):
    """``start`` once the cluster is ready; ``stop`` when everything was mended; then ``verify`` reads what there is."""

    name: str
    expected_f: tuple[str, ...]  # operations of which some must succeed
    facts: dict[str, object]  # what the checkers cannot read off a history: fields of RunFacts
    # Beside these, where a workload needs them: ``durable``; ``settings``, numbers of the nodes' settings; ``kinds``,
    # faults of its own; ``check_every_s``, how often invariants are looked at; and ``read_s_max``, how long a real run
    # may ``verify``.

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def verify(self) -> None: ...


def chance(stage: Stage, purpose: str) -> Random:
    """A generator of its own for each purpose, so that one more draw here changes nothing there."""
    return Random(f"{purpose} {stage.seed}")
