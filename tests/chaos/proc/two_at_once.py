"""Five voters, RF 3, min.insync.replicas 1, full ISRs, under load: two nodes are killed at once, again and again.

    python -m tests.chaos.proc.two_at_once [--times 10] [--seed 1]

Every partition has a live replica left in its ISR, and must lead again within 3 s; nothing acknowledged may be lost.
Every third time one of the two is the quorum's leader. Exits 1 if a promise is broken.
"""

import argparse
import asyncio
import contextlib
import itertools
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from ottla.client.client import connect
from tests.processes.load import PIPELINE, Load, verify

from . import room
from .arena import ProcessArena

TOPICS = ("one", "two", "three", "four")
PARTITIONS = 6
PRODUCERS = 3
SEND_PAUSE_S = 0.005
LOAD_BETWEEN = 300
"""Records of each topic acknowledged between two rounds."""
WHOLE_S_MAX = 60.0
LED_S_MAX = 3.0
GIVE_UP_S = 30.0
ROUND_LIMIT_S = 120.0


async def rounds(times: int, seed: int, directory: Path, bug: str | None) -> bool:
    """Whether all promises held."""
    chance = Random(f"two at once {seed}")
    async with ProcessArena(directory, 5, bug=bug) as arena, contextlib.AsyncExitStack() as stack:
        for host in arena.hosts:
            await arena.start(host)
        await arena.until_whole(WHOLE_S_MAX)
        await _make_topics(arena)
        loads = {topic: Load(arena.servers, topic, producers=PRODUCERS, pause_s=SEND_PAUSE_S) for topic in TOPICS}
        for load in loads.values():
            await stack.enter_async_context(load)
        led: list[float] = []
        stalls: list[float] = []
        for number in range(times):
            await asyncio.gather(*(load.until_acknowledged(LOAD_BETWEEN) for load in loads.values()))
            await arena.until_whole(WHOLE_S_MAX)
            two = await _choose(arena, chance, controller_too=number % 3 == 0)
            led_s, stall_s = await _kill(arena, two, list(loads.values()))
            led.append(led_s)
            stalls.append(stall_s)
            print(f"{number + 1}: {' and '.join(two)} killed; led after {led_s:.2f} s, longest stall {stall_s:.2f} s")
            for host in two:
                await arena.start(host)
        await arena.until_whole(WHOLE_S_MAX)
        await stack.aclose()
        kept = [await _verified(arena, topic, load) for topic, load in loads.items()]
        print(f"every partition led again after: median {statistics.median(led):.2f} s, max {max(led):.2f} s")
        print(f"longest stall of a producer: median {statistics.median(stalls):.2f} s, max {max(stalls):.2f} s")
        return max(led) <= LED_S_MAX and all(kept) and not arena.surprises


async def _make_topics(arena: ProcessArena) -> None:
    async with connect(arena.servers) as client:
        for topic in TOPICS:
            await client.admin.create_topic(
                topic, partitions=PARTITIONS, replication=3, config={"min.insync.replicas": 1}
            )


async def _choose(arena: ProcessArena, chance: Random, *, controller_too: bool) -> list[str]:
    two = chance.sample(arena.hosts, 2)
    controller = await arena.quorum_leader() if controller_too else None
    if controller is not None and controller not in two:
        two[0] = controller
    return two


async def _kill(arena: ProcessArena, two: list[str], loads: list[Load]) -> tuple[float, float]:
    """Seconds from the kill until every partition was led by a live node; and the longest time for which a producer
    had nothing acknowledged."""
    before = [{n: len(values) for n, values in load.report.acknowledged.items()} for load in loads]
    killed_s, began_s = arena.now_s(), time.monotonic()
    await asyncio.gather(*(arena.kill(host) for host in two))
    led = asyncio.create_task(_led_again(arena, two))
    async with asyncio.timeout(GIVE_UP_S):
        while not all(map(_served, loads, before)):
            await asyncio.sleep(0.01)
        led_s = await led
    return led_s - killed_s, max(
        _stall_s(moments, began_s) for load in loads for moments in load.report.acked_at.values()
    )


def _served(load: Load, before: dict[int, int]) -> bool:
    """Twice the pipeline: more than what may have been acknowledged by a killed node already."""
    return all(len(load.report.acknowledged[n]) >= count + 2 * PIPELINE for n, count in before.items())


def _stall_s(moments: list[float], since_s: float) -> float:
    """The longest gap between acknowledgements that ends after ``since_s``."""
    return max((b - a for a, b in itertools.pairwise(moments) if b > since_s), default=0.0)


async def _led_again(arena: ProcessArena, dead: list[str]) -> float:
    """When, by the newest view of those that live, no partition was led by nobody or by the dead any more."""
    lost = {int(host.removeprefix("b")) for host in dead}
    while True:
        view = await arena.newest()
        states = [state for topic in view.topics for state in topic.partitions] if view is not None else []
        if states and all(state.leader is not None and state.leader not in lost for state in states):
            return arena.now_s()
        await asyncio.sleep(0.01)


async def _verified(arena: ProcessArena, topic: str, load: Load) -> bool:
    try:
        stored = await verify(arena.servers, topic, load.report)
    except AssertionError as error:
        print(f"{topic}: {error}")
        return False
    errors = load.report.errors
    print(f"{topic}: {load.report.total} acknowledged, {stored} stored; errors {len(errors)} {errors[:2]}")
    return not errors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bug", help="plant one of tests.simulation.planted")
    options = parser.parse_args()
    if not room.inside():
        reason = room.why_not()
        if reason is not None:
            print(reason, file=sys.stderr)
            return 2
        limit_s = (options.times + 2) * ROUND_LIMIT_S
        return room.run_inside("tests.chaos.proc.two_at_once", sys.argv[1:], limit_s=limit_s)
    room.enter()
    directory = Path(tempfile.mkdtemp(prefix="ottla-two-"))
    kept = asyncio.run(rounds(options.times, options.seed, directory, options.bug))
    if kept:
        shutil.rmtree(directory)
    else:
        print(f"logs and data: {directory}")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
