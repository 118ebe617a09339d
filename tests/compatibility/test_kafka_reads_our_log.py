"""Kafka's dump tool, and the classes a Kafka broker opens a log with, read what we write.

Needs java and a directory of Kafka's jars (org.apache.kafka:kafka_2.13 with what it depends on), named by
OTTLA_KAFKA_JARS; recorded files take their place elsewhere (tests/log/test_golden.py).
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ottla.log.compression import Compression
from ottla.log.config import LogConfig
from ottla.log.model import LeaderEpoch, TopicId
from ottla.log.partition_log import PartitionLog
from ottla.log.storage import SystemStorage
from tests.log.builders import NOW_MS, PARTITION, HandClock, batch

TOPIC_ID = TopicId("BBBBBBBBBBBBBBBBBBBBBQ")
JARS = os.environ.get("OTTLA_KAFKA_JARS", "")
COMPLAINTS = re.compile(
    r"mismatch|non-consecutive|failed|not found|corrupt|exception|invalid|isvalid: false|out of order"
)

pytestmark = [
    pytest.mark.skipif(not shutil.which("java"), reason="java is not installed"),
    pytest.mark.skipif(
        not Path(JARS).is_dir() or not JARS, reason="OTTLA_KAFKA_JARS names no directory of Kafka's jars"
    ),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data") / str(PARTITION)
    log = PartitionLog.open(
        SystemStorage(),
        directory,
        topic_partition=PARTITION,
        topic_id=TOPIC_ID,
        config=LogConfig(segment_bytes=20_000, index_interval_bytes=500),
        clock=HandClock(),
    )
    codecs = list(Compression)
    sequences = [0, 0, 0]
    for number in range(300):
        producer, count = number % 3, 1 + number % 4
        data = batch(
            count,
            value=bytes(range(number % 250)),
            producer=(100 + producer, 2, sequences[producer]),
            compression=codecs[number % len(codecs)],
            timestamps=[NOW_MS + number * 7 % 1000 - 10 * each for each in range(count)],
        )
        log.append_as_leader(data, LeaderEpoch(number // 40))
        sequences[producer] += count
    assert log.segment_count > 2
    log.settle()
    log.close()
    return directory


def java(*arguments: str) -> str:
    done = subprocess.run(
        ["java", "-cp", f"{JARS}/*", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("option", ["--print-data-log", "--deep-iteration", "--index-sanity-check"])
def test_the_dump_tool_has_no_complaint(directory: Path, option: str) -> None:
    kinds = (
        (".index", ".timeindex") if option == "--index-sanity-check" else (".log", ".index", ".timeindex", ".snapshot")
    )
    files = sorted(str(path) for path in directory.iterdir() if path.suffix in kinds)
    printed = java("kafka.tools.DumpLogSegments", option, "--files", ",".join(files))
    complaints = [line for line in printed.splitlines() if COMPLAINTS.search(line.lower())]
    assert complaints == []
    for path in files:
        assert path in printed
    if option == "--print-data-log":
        assert printed.count("baseOffset: ") == 300
        assert printed.count("producerId: 101 ") >= 100


def test_kafka_opens_it(directory: Path) -> None:
    printed = java(str(Path(__file__).with_name("KafkaLog.java")), "read", str(directory)).splitlines()
    assert sum(line.startswith("batch ") for line in printed) == 300
    assert [line for line in printed if line.startswith("producer ")] == [
        "producer 100 epoch 2 sequences 248-249 offsets 741-742",
        "producer 101 epoch 2 sequences 247-249 offsets 743-745",
        "producer 102 epoch 2 sequences 246-249 offsets 746-749",
    ]
    assert sum(line.startswith("epoch ") for line in printed) == 8
    assert printed[-1] == f"topic {TOPIC_ID}"
