"""What the controller needs of the quorum, how patient it is, and what it answers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from ottla.log.model import BrokerId

Probe = Callable[[str, int], Awaitable[bool]]
"""probe(host, port): False where the port refuses connections, True where it accepts them or that is in doubt."""


class ProposalOutcome(Protocol):
    """An enum member called OK, FAILED or UNKNOWN."""

    @property
    def name(self) -> str: ...


class ProposalView(Protocol):
    """What the quorum says about one proposal."""

    @property
    def outcome(self) -> ProposalOutcome: ...
    @property
    def index(self) -> int | None: ...
    @property
    def result(self) -> bytes | None: ...
    @property
    def reason(self) -> str: ...


class QuorumPort(Protocol):
    """What the controller needs of the quorum."""

    @property
    def is_active(self) -> bool: ...
    @property
    def leader_id(self) -> int | None: ...
    @property
    def term(self) -> int: ...
    @property
    def commit_index(self) -> int: ...
    @property
    def applied_index(self) -> int: ...

    async def propose(self, command: bytes, timeout_s: float) -> ProposalView: ...
    async def read_barrier(self, timeout_s: float) -> int: ...
    def add_listener(self, callback: Callable[[], None]) -> None: ...


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """How patient the controller is; seconds."""

    session_s: float = 3.0  # without a heartbeat for so long, a broker is fenced
    tick_s: float = 0.15  # between passes: the next heartbeat after it brings one about
    lull_s: float = 0.3  # between passes while no heartbeats come
    probe_interval_s: float = 0.5  # between probes of a broker without a control stream
    pause_s: float = 0.5  # a pass this much late: we were paused, and silence proves nothing
    propose_timeout_s: float = 5.0
    balance_s: float | None = (
        None  # between looks whether leaderships should go back; None: they never do by themselves
    )


class SubmitOutcome(Enum):
    """What became of a submitted command."""

    OK = "OK"
    FAILED = "FAILED"  # not executed, and it will not be
    UNKNOWN = "UNKNOWN"  # may or may not be executed: ask again with the same sequence
    NOT_CONTROLLER = "NOT_CONTROLLER"  # not executed: ask leader_id


@dataclass(frozen=True, slots=True)
class Submitted:
    """The outcome of one submitted command."""

    outcome: SubmitOutcome
    leader_id: BrokerId | None
    index: int | None = None  # of the command in the quorum's log, where OK
    result: bytes | None = None  # encoded Result, where OK
    reason: str = ""
