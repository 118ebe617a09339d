"""After everything was mended: are the replicas of a partition the same below its high watermark?"""

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from .findings import Findings

Batch = tuple[int, int, int]
"""Base offset, leader epoch, CRC."""


class ReplicaDump(msgspec.Struct):
    """One replica, as its files have it. ``end_offset`` is one past its last record."""

    partition: str
    node: str
    batches: list[Batch]
    epochs: list[tuple[int, int]]  # leader epoch, start offset
    high_watermark: int
    end_offset: int
    start_offset: int = 0


def check_replicas(dumps: Iterable[ReplicaDump]) -> Findings:
    """The high watermark is the highest that any replica knows; below it lies nothing that may differ.

    ``replica-divergence``: the same offset holds different batches; ``replica-gap``: a batch is missing between others;
    ``replica-behind``: the log ends below the high watermark; ``epochs-differ``: the leader epoch caches.
    """
    findings = Findings()
    partitions: dict[str, list[ReplicaDump]] = defaultdict(list)
    for dump in dumps:
        partitions[dump.partition].append(dump)
    for partition, replicas in sorted(partitions.items()):
        high_watermark = max(replica.high_watermark for replica in replicas)
        _check_batches(partition, replicas, high_watermark, findings)
        _check_epochs(partition, replicas, high_watermark, findings)
    return findings


def _check_batches(partition: str, replicas: list[ReplicaDump], high_watermark: int, findings: Findings) -> None:
    held = {replica.node: {batch[0]: batch for batch in replica.batches} for replica in replicas}
    offsets = sorted({offset for batches in held.values() for offset in batches if offset < high_watermark})
    for replica in replicas:
        if replica.end_offset < high_watermark:
            example = {"end_offset": replica.end_offset, "high_watermark": high_watermark}
            findings.fault("replica-behind", partition=partition, node=replica.node, **example)
    for offset in offsets:
        expecting = [replica for replica in replicas if replica.start_offset <= offset < replica.end_offset]
        there = {replica.node: held[replica.node].get(offset) for replica in expecting}
        present = {batch for batch in there.values() if batch is not None}
        example = {"partition": partition, "offset": offset, "nodes": there}
        if len(present) > 1:
            findings.fault("replica-divergence", **example)
        elif len(present) == 1 and None in there.values():
            findings.fault("replica-gap", **example)


def _check_epochs(partition: str, replicas: list[ReplicaDump], high_watermark: int, findings: Findings) -> None:
    """Of the epochs that began below the high watermark, and behind where every log starts."""
    start = max(replica.start_offset for replica in replicas)
    caches = {
        replica.node: [
            list(entry) for entry in replica.epochs if start < entry[1] < min(high_watermark, replica.end_offset)
        ]
        for replica in replicas
        if replica.end_offset >= high_watermark
    }
    if len({str(cache) for cache in caches.values()}) > 1:
        findings.fault("epochs-differ", partition=partition, high_watermark=high_watermark, caches=caches)
