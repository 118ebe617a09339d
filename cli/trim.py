"""`ottla topic trim`: records below an offset or a time go."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from .consume import Moment, parse_place
from .output import Output, show_rows
from .problems import UsageProblem
from .sdk import with_client

if TYPE_CHECKING:
    from ottla.client.client import Client

COLUMNS = ("partition", "start", "new_start", "records")


class TrimPlan(NamedTuple):
    """``starts``: the first offset of each partition, and what it is to become."""

    topic: str
    starts: dict[int, tuple[int, int]]

    @property
    def records(self) -> int:
        """Offsets that are given up; where the topic is compacted, fewer records."""
        return sum(after - before for before, after in self.starts.values())

    def show(self, output: Output) -> None:
        """A row per partition."""
        rows = [
            {"partition": number, "start": before, "new_start": after, "records": after - before}
            for number, (before, after) in sorted(self.starts.items())
        ]
        show_rows(rows, COLUMNS, output)


def plan_trim(servers: str, topic: str, to: str, partitions: Sequence[int]) -> TrimPlan:
    """What would go. Raises UsageProblem."""
    place = parse_place(to, "--to")
    if place == "earliest":
        raise UsageProblem("--to start would trim nothing; give end, an offset or @TIME")

    async def look(client: "Client") -> TrimPlan:
        async with client.consumer(topic, partitions=tuple(partitions) or None) as consumer:
            starts, ends = await consumer.beginning_offsets(), await consumer.end_offsets()
            if isinstance(place, Moment):
                found = await consumer.offsets_for_times(dict.fromkeys(starts, place.timestamp_ms))
                targets = {number: ends[number] if at is None else at for number, at in found.items()}
            else:
                targets = {number: min(place, end) if isinstance(place, int) else end for number, end in ends.items()}
        return TrimPlan(topic, {number: (start, max(start, targets[number])) for number, start in starts.items()})

    return with_client(servers, look, is_removal=True)


def trim(servers: str, plan: TrimPlan) -> None:
    """Do it."""
    targets: dict[int, int | None] = {
        number: after for number, (before, after) in plan.starts.items() if after > before
    }
    if targets:
        with_client(servers, lambda client: client.admin.delete_records(plan.topic, targets))
