"""Any bytes on the port: a clear coded error or a closed connection; the log unchanged, the node alive."""

import asyncio
import contextlib
import json
import random
import struct

import aiohttp
import msgspec
import pytest

from ottla.client.client import connect
from ottla.client.connection import Connection
from ottla.client.error_codes import ErrorCode
from ottla.client.frames import PREFIX, decode_response, encode_frame
from ottla.client.protocol import (
    ErrorResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    ProducePartition,
    ProduceRequest,
    ProduceResponse,
)
from ottla.log.chance import SystemChance
from ottla.log.records import BatchBuilder

from .harness import Cluster, NodeProcess

pytestmark = pytest.mark.processes

MEMORY_BYTES_MAX = 250 << 20


@pytest.fixture(scope="module")
def node_directory(tmp_path_factory):
    return tmp_path_factory.mktemp("bad-input")


@pytest.fixture
async def node(tmp_path):
    async with Cluster(tmp_path, 1, "--set", "handshake.timeout.ms=500") as cluster:
        async with connect(cluster.servers) as client:
            await client.admin.create_topic("t", partitions=1, replication=1)
            async with client.producer() as producer:
                await producer.send("t", b"kept")
        yield cluster.node(1)


@pytest.fixture
async def stream(node):
    async with aiohttp.ClientSession() as session:
        connection = await Connection.open(session, "127.0.0.1", node.port, SystemChance())
        yield connection
        await connection.close()


async def assert_unharmed(node: NodeProcess) -> None:
    """It is alive, holds what it held and nothing else, and has not grown."""
    assert node.running, node.log[-2000:]
    async with connect([node.address]) as client, client.consumer("t") as consumer:
        assert [record.value async for record in consumer.read_to_end()] == [b"kept"]
    assert node.rss_bytes() < MEMORY_BYTES_MAX


def batch(**fields) -> bytes:
    builder = BatchBuilder()
    builder.append(b"k", b"v", timestamp_ms=1)
    return builder.build(**fields)


async def topic_id(node: NodeProcess) -> str:
    async with connect([node.address]) as client:
        (topic,) = await client.admin.list_topics()
        assert topic.topic_id is not None
        return topic.topic_id


async def test_random_bytes_on_the_port(node):
    noise = random.Random(5)
    endless_header = b"GET / HTTP/1.1\r\nx: " + b"y" * 20_000 + b"\r\n\r\n"
    for data in (*(noise.randbytes(size) for size in (1, 10, 1_000, 100_000)), endless_header):
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        writer.write(data)
        async with asyncio.timeout(20):
            await reader.read()
        writer.close()
    await assert_unharmed(node)
    assert "Traceback" not in node.log, "a stranger's bytes fill no log"


async def test_a_connection_that_says_nothing_is_closed(node):
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    async with asyncio.timeout(20):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)
    writer.close()


def bad_frames() -> list[bytes]:
    noise = random.Random(6)
    good = encode_frame(1, FetchRequest(0, 1, 1, ()))
    return [
        b"",
        b"\0" * 8,
        good[:-3],
        good + b"x",
        struct.pack(">II", 0xFFFFFFFF, 5) + b"abcde",
        struct.pack(">II", 9, 0xFFFFFFFF) + b"abcde",
        *(noise.randbytes(size) for size in (5, 50, 5_000)),
    ]


@pytest.mark.parametrize("frame", bad_frames(), ids=lambda frame: f"{len(frame)} bytes")
async def test_bad_frames_get_a_coded_error_and_the_stream_ends(node, frame):
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://{node.address}/v1/stream", compress=0) as ws,
    ):
        await ws.send_bytes(frame)
        async with asyncio.timeout(20):
            answer = await ws.receive()
            assert answer.type is aiohttp.WSMsgType.BINARY
            number, message, _ = decode_response(answer.data)
            assert number == 0
            assert isinstance(message, ErrorResponse)
            assert message.error is ErrorCode.INVALID_REQUEST
            assert (await ws.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    await assert_unharmed(node)


async def test_a_message_that_is_no_request_is_answered_and_the_stream_goes_on(node):
    header = msgspec.msgpack.encode((1, ["produce", -1, 1000, [["x", -1, 5]]]))
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://{node.address}/v1/stream", compress=0) as ws,
        asyncio.timeout(20),
    ):
        await ws.send_bytes(PREFIX.pack(4 + len(header), len(header)) + header)
        number, message, _ = decode_response((await ws.receive()).data)
        assert (number, message.error) == (1, ErrorCode.INVALID_REQUEST)
        await ws.send_bytes(encode_frame(2, FetchRequest(0, 1, 1, ())))
        assert decode_response((await ws.receive()).data).correlation_id == 2
    await assert_unharmed(node)


async def test_a_frame_over_the_limit_ends_the_stream(node):
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://{node.address}/v1/stream", compress=0) as ws,
    ):
        async with asyncio.timeout(20):
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                await ws.send_bytes(b"x" * (40 << 20))
            answer = await ws.receive()
            assert answer.type is not aiohttp.WSMsgType.BINARY
    await assert_unharmed(node)


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 0x55
    return bytes(changed)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (flipped(batch(), 40), ErrorCode.CORRUPT_MESSAGE),
        (batch()[:-1], ErrorCode.CORRUPT_MESSAGE),
        (batch() + b"x", ErrorCode.CORRUPT_MESSAGE),
        (b"", ErrorCode.CORRUPT_MESSAGE),
        (b"\xff" * 100, ErrorCode.CORRUPT_MESSAGE),
        (flipped(batch(), 16), ErrorCode.CORRUPT_MESSAGE),
        (batch(producer_id=5, producer_epoch=0, base_sequence=7), ErrorCode.UNKNOWN_PRODUCER_ID),
    ],
)
async def test_bad_batches_are_refused_and_the_stream_goes_on(node, stream, data, error):
    target = ProducePartition(await topic_id(node), 0, len(data))
    answer = (await stream.request(ProduceRequest(-1, 5_000, (target,)), (data,), timeout_s=20)).message
    assert isinstance(answer, ProduceResponse)
    found = answer.partitions[0]
    assert found.error in (error, ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT, ErrorCode.INVALID_RECORD)
    assert found.message
    await assert_unharmed(node)


async def test_an_oversize_batch_is_refused(node, stream):
    builder = BatchBuilder()
    builder.append(None, b"x" * (2 << 20), timestamp_ms=1)
    data = builder.build()
    target = ProducePartition(await topic_id(node), 0, len(data))
    answer = (await stream.request(ProduceRequest(-1, 5_000, (target,)), (data,), timeout_s=20)).message
    assert answer.partitions[0].error is ErrorCode.MESSAGE_TOO_LARGE
    await assert_unharmed(node)


async def test_unknown_topics_partitions_and_acks(node, stream):
    data, known = batch(), await topic_id(node)
    for topic, partition, acks, error in (
        ("?" * 22, 0, -1, ErrorCode.UNKNOWN_TOPIC_ID),
        (known, 9, -1, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (known, 0, 7, ErrorCode.INVALID_REQUIRED_ACKS),
    ):
        request = ProduceRequest(acks, 5_000, (ProducePartition(topic, partition, len(data)),))
        answer = (await stream.request(request, (data,), timeout_s=20)).message
        assert answer.partitions[0].error is error
    fetched = (await stream.request(FetchRequest(0, 1, 1000, (FetchPartition(known, 0, 99),)), timeout_s=20)).message
    assert isinstance(fetched, FetchResponse)
    assert fetched.partitions[0].error is ErrorCode.OFFSET_OUT_OF_RANGE
    await assert_unharmed(node)


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({"content-type": "application/json"}, b"{", 400, "OTTLA-INVALID-REQUEST"),
        ({"content-type": "application/json"}, b"\xff\xfe", 400, "OTTLA-INVALID-REQUEST"),
        ({"content-type": "application/json"}, b"[" * 100_000, 400, "OTTLA-INVALID-REQUEST"),
        ({"content-type": "application/json"}, b" ", 400, "OTTLA-INVALID-REQUEST"),
        ({"content-type": "application/json"}, b'{"valu":1}', 400, "OTTLA-INVALID-REQUEST"),
        ({"content-type": "application/json"}, b'{"partition_id":-1}', 400, "OTTLA-INVALID-REQUEST"),
        ({"content-type": "application/json"}, b'{"value":null,"timestamp":-9}', 400, "OTTLA-INVALID-TIMESTAMP"),
        ({"content-type": "text/plain"}, b"hello", 415, "OTTLA-UNSUPPORTED-MEDIA-TYPE"),
    ],
)
async def test_bad_json_is_a_problem_with_a_code(node, headers, body, status, code):
    url = f"http://{node.address}/v3/clusters/-/topics/t/records"
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as response:
        assert response.status == status
        assert response.content_type == "application/problem+json"
        assert json.loads(await response.read())["code"] == code
    await assert_unharmed(node)


async def test_records_by_http(node):
    base = f"http://{node.address}"
    document = {"value": {"type": "JSON", "data": {"id": 1}}, "key": {"type": "STRING", "data": "k"}}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{base}/v3/clusters/-/topics/made/records", json=document) as response:
            stored = await response.json()
            assert (response.status, stored["topic_name"], stored["offset"]) == (200, "made", 0)
        async with session.get(f"{base}/v1/topics/made/records?from=start&limit=10") as response:
            (record,) = await response.json()
            assert record["value"] == {"type": "JSON", "data": {"id": 1}}
            assert record["key"] == {"type": "STRING", "data": "k"}
        async with session.get(f"{base}/v1/topics/absent/records") as response:
            assert response.status == 404
            assert (await response.json(content_type=None))["code"] == "OTTLA-UNKNOWN-TOPIC-OR-PARTITION"
        async with session.get(f"{base}/v1/topics/made/records?from=yesterday") as response:
            assert response.status == 400
        events = {"accept": "text/event-stream"}
        async with session.get(f"{base}/v1/topics/made/records?from=start", headers=events) as response:
            lines = [await response.content.readline() for _ in range(5)]
            assert lines[0].startswith(b"retry: ")
            lines = [line for line in lines if line.startswith((b"id: ", b"data: "))][-2:]
            assert lines[0].startswith(b"id: ")
            assert b'"id":1' in lines[1]
        async with session.get(f"{base}/v1/topics/made/records?limit=1", headers=events) as response:
            assert (await response.read()).count(b"data: ") == 1  # and then it ends
        for query in ("limit=0", "limit=1&limit=2"):
            async with session.get(f"{base}/v1/topics/made/records?{query}") as response:
                assert response.status == 400
        async with session.get(f"{base}/metrics") as response:
            assert b"ottla_partitions_led" in await response.read()
        async with session.get(f"{base}/health/live") as response:
            assert response.status == 200
        async with session.get(f"{base}/nothing-here") as response:
            assert (await response.json(content_type=None))["code"] == "OTTLA-NO-SUCH-PATH"


async def test_a_node_with_another_secret_stays_out(tmp_path):
    for name, secret in (("right", b"r" * 32), ("wrong", b"w" * 32)):
        (tmp_path / name).write_bytes(secret)
    cluster = Cluster(tmp_path, 3, "--secret-file", str(tmp_path / "right"))
    async with cluster:
        intruder = cluster.node(3)
        await intruder.stop()
        process = NodeProcess(3, intruder.port, intruder.directory, [])
        process._arguments = [*intruder._arguments[:-1], str(tmp_path / "wrong")]
        await process.start()
        try:
            async with asyncio.timeout(30):
                while "OTTLA-WRONG-SECRET" not in process.log:
                    await asyncio.sleep(0.05)
            assert not process._is_ready()
            async with connect([cluster.node(1).address]) as client, client.producer() as producer:
                await producer.send("still-works", b"x")
        finally:
            await process.kill()
