"""Housekeeping in tests of the log: driven to its end at once, over a storage that crashes."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ottla.broker.housekeeping import Housekeeper, HousekeepingSettings, RunBlocking
from ottla.log.chance import Chance
from ottla.log.manager import LogManager
from ottla.log.model import Offset
from ottla.log.partition_log import PartitionLog
from ottla.log.records import Record, RecordBatch, batches_in
from tests.log.builders import DATA, HandClock
from tests.simulation.crashing_storage import CrashingStorage, SeededChance

T = TypeVar("T")


async def inline(call: Callable[[], T]) -> T:
    return call()


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nothing but its turn."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


def manager_of(storage: CrashingStorage, clock: HandClock | None = None) -> LogManager:
    return LogManager(storage, DATA, clock or HandClock(), SeededChance(), reserve_bytes=0)


def housekeeper_of(
    manager: LogManager,
    storage: CrashingStorage,
    high_watermark: Callable[[PartitionLog], Offset | None],
    clock: HandClock | None = None,
    *,
    memory_bytes: int = 1 << 20,
    chance: Chance | None = None,
    run_blocking: RunBlocking = inline,
) -> Housekeeper:
    return Housekeeper(
        logs=manager,
        storage=storage,
        clock=clock or HandClock(),
        chance=chance or SeededChance(),
        high_watermark=high_watermark,
        run_blocking=run_blocking,
        settings=HousekeepingSettings(dedupe_buffer_bytes=memory_bytes),
    )


def batches_of(data: bytes) -> list[RecordBatch]:
    return list(batches_in(data))


def records_of(data: bytes) -> list[Record]:
    return [record for batch in batches_in(data) for record in batch.records()]
