"""The door to time. Product code asks a Clock, never the time module."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from; the simulator has its own."""

    def now_ms(self) -> int:
        """Wall-clock milliseconds since 1970-01-01 UTC. May jump; for timestamps only."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; for every timeout and deadline."""
        ...


class SystemClock:
    """This machine's clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()
