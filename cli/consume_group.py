"""`ottla consume -g GROUP`: as a member of a group. Its offsets are committed once the records are written out."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ottla.client.error_codes import ErrorCode
from ottla.client.errors import RequestFailed

if TYPE_CHECKING:
    from ottla.client.client import Client
    from ottla.client.consumer import ConsumerRecord
    from ottla.client.group_consumer import GroupConsumer

BATCH_RECORDS = 500
BATCH_WAIT_S = 0.02
LOOK_S = 0.05


class Printer(Protocol):
    """Where records go."""

    full: asyncio.Event

    def print(self, record: "ConsumerRecord") -> bool: ...

    def flush(self) -> None: ...


async def read_as_member(
    client: "Client", group: str, wanted: Sequence[str] | str, start: str, rack: str, printer: Printer, *, follow: bool
) -> None:
    """Print what the group gives us of some topics, or of those that a pattern means: for ever, or until nothing is
    left of it."""
    if isinstance(wanted, str):
        joined = client.consumer(pattern=wanted, group=group, start=start, rack=rack, auto_commit=False)
    else:
        joined = client.consumer(wanted, group=group, start=start, rack=rack, auto_commit=False)
    async with joined as consumer:
        reading = asyncio.ensure_future(_read(consumer, printer))
        drained = asyncio.ensure_future(_until_drained(consumer)) if not follow else asyncio.ensure_future(_for_ever())
        try:
            done, _ = await asyncio.wait([reading, drained], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except RequestFailed as error:
            if error.error is ErrorCode.OFFSET_OUT_OF_RANGE:
                error.hint = f"Stop all its members, and set where it reads on: ottla group seek {group} --to start|end"
            raise
        finally:
            for task in (reading, drained):
                task.cancel()
            await asyncio.gather(reading, drained, return_exceptions=True)


async def _read(consumer: "GroupConsumer", printer: Printer) -> None:
    committing: list[asyncio.Task[None]] = []
    try:
        async for batch in consumer.batches(BATCH_RECORDS, BATCH_WAIT_S):
            ends = {(record.topic, record.partition): record.offset + 1 for record in batch if printer.print(record)}
            printer.flush()  # a commit says that somebody has it
            committing = [*(task for task in committing if not task.done()), consumer.commit_nowait(ends)]
            if printer.full.is_set():
                return
    finally:
        await _all_settled(committing)


async def _all_settled(committing: Sequence[asyncio.Task[None]]) -> None:
    """What was written out is committed, also where whoever reads has been told to end: by the limit, or Ctrl-C. Each
    commit has its own time limit. Raises what kept the last one from being stored."""
    pending = set(committing)
    while pending:
        with contextlib.suppress(asyncio.CancelledError):
            _, pending = await asyncio.wait(pending)
    for task in committing[-1:]:
        task.result()


async def _until_drained(consumer: "GroupConsumer") -> None:
    """Until we have partitions, all is read of them, and committed."""
    while True:
        await asyncio.sleep(LOOK_S)
        lag = consumer.lag()
        if lag and all(behind == 0 for behind in lag.values()):
            committed = await consumer.committed()
            if all(
                (committed[key] or 0) >= (consumer.position(*key) or 0) for key in lag if key in consumer.assignment
            ):
                return


async def _for_ever() -> None:
    await asyncio.Event().wait()
