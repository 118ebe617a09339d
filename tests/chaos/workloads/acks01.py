"""The queue's workload with acks 0 and 1: loss is allowed; order, and what was once read, is not."""

from typing import ClassVar

from ..stage import Stage
from .queue import QueueWorkload


class Acks01Workload(QueueWorkload):
    """Every second process asks the leader alone, the others nobody."""

    name = "acks01"
    sends_last = False
    facts: ClassVar[dict[str, object]] = {"hidden_retries": True}

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)

    def options_of(self, number: int) -> dict[str, object]:
        return {**self.options, "acks": number % 2}
