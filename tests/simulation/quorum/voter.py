"""A host of the simulated quorum: its clocks, its disk, and the voter that runs on it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from ottla.raft.quorum import MetadataQuorum

from ..crashing_storage import CrashingStorage
from ..patches import EPOCH_S
from .machine import Machine


class HostClock:
    """A host's clocks: its wall clock is off by ``skew_s``, its monotonic one runs at ``rate`` and may jump ahead."""

    def __init__(self, now: Callable[[], float], start_s: float) -> None:
        self._now = now
        self._since, self._shown = now(), start_s
        self._rate = 1.0
        self.skew_s = 0.0

    def now_ms(self) -> int:
        return int((EPOCH_S + self._now() + self.skew_s) * 1000)

    def monotonic(self) -> float:
        return self._shown + (self._now() - self._since) * self._rate

    def disturb(self, rate: float, ahead_s: float = 0.0) -> None:
        """From now on at this rate, after a leap."""
        self._since, self._shown, self._rate = self._now(), self.monotonic() + ahead_s, rate


@dataclass
class Voter:
    """A host and what runs on it. ``process`` is None while nothing does."""

    host: str
    node_id: int
    storage: CrashingStorage
    clock: HostClock
    incarnation: int = 0
    process: str | None = None
    quorum: MetadataQuorum | None = None
    machine: Machine = field(default_factory=Machine)
    runner: web.AppRunner | None = None
    disk_may_fail: bool = False  # a failing sync was arranged
    dies_in_write: bool = False  # where a power cut within a write was arranged: only the process ends
    stopping: bool = False

    @property
    def up(self) -> bool:
        return self.process is not None and self.quorum is not None
