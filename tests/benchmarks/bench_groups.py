"""What a group coordinator's decisions cost, without disk and network: one process, one core.

python -m tests.benchmarks.bench_groups
"""

import time
from collections.abc import Callable

from ottla.broker.group.hosted import decode_batches, make_batch
from ottla.broker.group.records import CommittedOffset, GroupRecord, OffsetCommitKey
from ottla.broker.group.shard import Shard
from ottla.client.group_protocol import CommitPartition, OffsetCommitRequest
from ottla.log.model import Offset
from tests.broker.group.worlds import Reader, World, topic_id

MEMBERS = 200
PARTITIONS = 1_000
RECORDS = 200_000


def rate(what: str, count: int, work: Callable[[], object]) -> None:
    started_s = time.perf_counter()
    work()
    seconds = time.perf_counter() - started_s
    print(f"{what:58} {count / seconds:12,.0f}/s  {seconds / count * 1e6:10.1f} us each")


def a_world() -> World:
    return World(topics={"t": (topic_id("t"), PARTITIONS)})


def steady_heartbeats() -> None:
    world = a_world()
    readers = [Reader(world, f"m{n}") for n in range(MEMBERS)]
    rate(f"joins, the target computed anew each time (to {MEMBERS} members)", MEMBERS, lambda: beat(readers))
    for _ in range(4):
        beat(readers)
    rate(f"heartbeats of a settled group of {MEMBERS}", MEMBERS * 20, lambda: [beat(readers) for _ in range(20)])


def beat(readers: list[Reader]) -> None:
    for reader in readers:
        reader.beat()


def commits() -> None:
    world = a_world()
    ten = tuple(CommitPartition("t", n, 1) for n in range(10))
    requests = [OffsetCommitRequest("g", None, "", ten) for _ in range(2_000)]
    rate("commits of 10 partitions", len(requests), lambda: [world.ask(request) for request in requests])


def load() -> None:
    records = [
        GroupRecord(
            OffsetCommitKey(f"group-{n % 1_000}", "orders", n % 50),
            CommittedOffset(Offset(n), None, "", n, topic_id("t")),
        )
        for n in range(RECORDS)
    ]
    data = b"".join(make_batch(records[at : at + 1_000], 1) for at in range(0, RECORDS, 1_000))
    shard = Shard(a_world().limits, lambda name: None)

    def replay() -> None:
        for record in decode_batches(data)[0]:
            shard.replay(record)

    rate(f"records read by a new coordinator ({len(data) / RECORDS:.0f} bytes each)", RECORDS, replay)


if __name__ == "__main__":
    steady_heartbeats()
    commits()
    load()
