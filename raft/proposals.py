"""What becomes of a proposal, in the words of those who propose."""

import enum
from typing import NamedTuple

import msgspec
from pysyncobj.config import FAIL_REASON

from .compaction import CompactionSettings
from .pysyncobj_core import Applied


class Outcome(enum.Enum):
    """What is known of a proposal."""

    OK = "ok"  # committed and applied here
    FAILED = "failed"  # it will never be applied anywhere
    UNKNOWN = "unknown"  # it may be applied, now or later; ask the state machine


class Proposal(NamedTuple):
    """``index`` and ``result`` (what ``apply`` returned) with OK; ``reason`` says why not."""

    outcome: Outcome
    index: int | None  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    result: bytes | None
    reason: str


class QuorumUnavailable(Exception):
    """This node cannot say what is current: it does not lead, or a majority did not answer in time."""


class QuorumSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, but for ``compaction``."""

    heartbeat_s: float = 0.1
    election_min_s: float = 0.5
    election_max_s: float = 1.0
    propose_timeout_s: float = 5.0
    hand_over_s: float = 0.5  # how long a stopping leader waits for its successor
    compaction: CompactionSettings = CompactionSettings()  # entries and bytes


_FAILED = {
    FAIL_REASON.QUEUE_FULL: "QUEUE_FULL",
    FAIL_REASON.NOT_LEADER: "NOT_LEADER",
    FAIL_REASON.MISSING_LEADER: "NOT_LEADER",
    FAIL_REASON.DISCARDED: "DISCARDED",
}


def failed(reason: str) -> Proposal:
    """It will never be applied."""
    return Proposal(Outcome.FAILED, None, None, reason)


def proposal_of(applied: Applied) -> Proposal:
    """The engine's outcome as a Proposal."""
    if applied.error == FAIL_REASON.SUCCESS:
        return Proposal(Outcome.OK, applied.index, applied.result, "")
    if applied.raised is not None:
        return Proposal(Outcome.FAILED, applied.index, None, f"APPLY_RAISED: {applied.raised}")
    if applied.error in _FAILED:
        return failed(_FAILED[applied.error])
    return Proposal(Outcome.UNKNOWN, None, None, f"PySyncObj reason {applied.error}")
