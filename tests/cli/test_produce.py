"""`ottla produce` against brokers in this process: what it counts, and how it names what was refused."""

import os

import pytest

from ottla.cli.produce import ProduceOptions, _Lines
from ottla.cli.record_text import BadRecord, parse_json_record
from ottla.client.client import connect
from ottla.client.errors import OttlaError, TopicNotFound
from tests.client.fake_broker import FakeCluster

OPTIONS = ProduceOptions("t", None, (), None, "all", "none", True)


@pytest.mark.parametrize(
    ("refused", "error", "said"),
    [
        (b'{"value": "x", "partition": 9}', TopicNotFound, "line 2: t has partitions 0 to 0, not 9."),
        (b"[1]", BadRecord, "line 2: "),
    ],
)
async def test_a_refused_line_is_named_and_only_what_is_stored_counts(
    refused: bytes, error: type[OttlaError], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = b'{"value": "kept"}'
    reading, writing = os.pipe()
    os.write(writing, b"\n".join((first, refused)) + b"\n")
    os.close(writing)
    try:
        async with FakeCluster() as cluster, connect(cluster.servers) as client:
            cluster.create("t")
            async with client.producer() as producer:
                lines = _Lines(producer, OPTIONS, parse_json_record, (), client.cluster.clock)
                with pytest.raises(error) as caught:
                    await lines.send_all(reading)
            assert str(caught.value).startswith(said)
            assert (lines._stored, lines._bytes) == (1, len(first))
            assert [record.value for record in cluster.topics["t"].partitions[0].records()] == [b"kept"]
    finally:
        os.close(reading)
    assert capsys.readouterr().err.startswith("1 record in ")
