"""A node that stops owes its Kafka clients an answer to all that they asked, and an end that is none of an accident."""

import asyncio
import struct
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ottla.broker.assembly import Parts
from ottla.broker.config import load_settings
from ottla.broker.http.streams import InflightBudget
from ottla.broker.kafka.door import KafkaDoor
from ottla.broker.kafka.versions import ApiKey
from ottla.broker.metrics import Metrics
from ottla.broker.node import Node

from .kio_bytes import frame_of, inner, on_the_wire, read_response, request_class, split_header

LONG = timedelta(minutes=5)
HANGS_S = 30.0
TOPIC, GROUP = "t", "g"
NOT_COORDINATOR, REBALANCE_IN_PROGRESS, MEMBER_ID_REQUIRED = 16, 27, 79


class Peer:
    """A client, on a socket that tells a reset from an end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, entity: Any) -> None:
        self._writer.write(on_the_wire(frame_of(entity)))

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self, key: ApiKey, version: int) -> Any:
        async with asyncio.timeout(HANGS_S):
            size = struct.unpack(">i", await self._reader.readexactly(4))[0]
            _, body = split_header(key, version, await self._reader.readexactly(size))
        return read_response(key, version, body)

    async def ask(self, entity: Any) -> Any:
        self.send(entity)
        return await self.answer(ApiKey(entity.__api_key__), entity.__version__)

    async def has_ended(self) -> bool:
        """Whether the next there is is the end. Raises ConnectionResetError where it is none."""
        async with asyncio.timeout(HANGS_S):
            rest = await self._reader.read()
        self._writer.close()
        return rest == b""

    def close(self) -> None:
        self._writer.transport.abort()


class Stopping:
    """A node of one, which can hand nothing over, and its clients."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._peers: list[Peer] = []

    async def peer(self) -> Peer:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.node.kafka_port))
        self._peers.append(peer)
        return peer

    def close(self) -> None:
        for peer in self._peers:
            peer.close()


@pytest.fixture
async def stopping(tmp_path: Path) -> AsyncIterator[Stopping]:
    settings = load_settings(
        {
            "data": str(tmp_path),
            "http": "127.0.0.1:0",
            "kafka": "127.0.0.1:0",
            "num_partitions": 1,
            "offsets_topic_num_partitions": 1,
            "group_initial_rebalance_delay_ms": 0,
        }
    )
    node = Node(settings, version="test")
    await node.start()
    found = Stopping(node)
    yield found
    found.close()
    if node.state != "stopped":
        await node.stop(drain=False)


def fetch(wait: timedelta = LONG) -> Any:
    schema = request_class(ApiKey.FETCH, 12)
    topic, partition = inner(schema, "topics"), inner(schema, "topics", "partitions")
    asked = partition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)
    wanted = (topic(topic=TOPIC, partitions=(asked,)),)
    return schema(max_wait=wait, min_bytes=1, max_bytes=1 << 20, topics=wanted, forgotten_topics_data=())


def join(member_id: str) -> Any:
    schema = request_class(ApiKey.JOIN_GROUP, 5)
    protocol = inner(schema, "protocols")(name="range", metadata=b"")
    return schema(
        group_id=GROUP,
        session_timeout=timedelta(seconds=30),
        rebalance_timeout=LONG,
        member_id=member_id,
        protocol_type="consumer",
        protocols=(protocol,),
    )


async def joined(peer: Peer) -> Any:
    """A member of a generation of its own."""
    for _ in range(50):
        asked = await peer.ask(join(""))
        if asked.error_code == MEMBER_ID_REQUIRED:
            return await peer.ask(join(asked.member_id))
        await peer.ask(request_class(ApiKey.FIND_COORDINATOR, 2)(key=GROUP, key_type=0))
        await asyncio.sleep(0.1)
    raise AssertionError("there is no coordinator")


@pytest.fixture
def all_answered(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Before it is set the node lets go of nothing, which would tell who waits, too."""
    event, stop = asyncio.Event(), Parts.stop

    async def held(self: Parts) -> None:
        await event.wait()
        await stop(self)

    monkeypatch.setattr(Parts, "stop", held)
    return event


async def test_what_waits_is_answered_and_every_connection_ends_without_a_reset(
    stopping: Stopping, polled: asyncio.Event, all_answered: asyncio.Event
) -> None:
    reading, first, second, idle, half = [await stopping.peer() for _ in range(5)]
    await idle.ask(request_class(ApiKey.METADATA, 4)(topics=None, allow_auto_topic_creation=False))
    half.write(struct.pack(">i", 1000) + b"half a request")
    create = request_class(ApiKey.CREATE_TOPICS, 5)
    topic = inner(create, "topics")(name=TOPIC, num_partitions=1, replication_factor=1, assignments=(), configs=())
    await idle.ask(create(topics=(topic,), timeout=LONG, validate_only=False))
    member = await joined(first)
    asked = await second.ask(join(""))
    second.send(join(asked.member_id))  # waits for the first to join again
    heartbeat = request_class(ApiKey.HEARTBEAT, 3)(
        group_id=GROUP, generation_id=member.generation_id, member_id=member.member_id, group_instance_id=None
    )
    while (await first.ask(heartbeat)).error_code != REBALANCE_IN_PROGRESS:
        pass
    while (await reading.ask(fetch(timedelta(0)))).responses[0].partitions[0].error_code:
        await asyncio.sleep(0.01)  # its log is being opened
    polled.clear()
    reading.send(fetch())
    reading.send(fetch())
    await polled.wait()

    stop = asyncio.create_task(stopping.node.stop())
    for _ in range(2):
        [partition] = (await reading.answer(ApiKey.FETCH, 12)).responses[0].partitions
        assert (partition.error_code, partition.records or b"") == (0, b"")
    assert (await second.answer(ApiKey.JOIN_GROUP, 5)).error_code == NOT_COORDINATOR
    all_answered.set()
    for peer in (reading, first, second, idle, half):
        assert await peer.has_ended()
    await stop


async def test_who_does_not_close_is_not_waited_for_for_long(stopping: Stopping) -> None:
    peer = await stopping.peer()
    await peer.ask(request_class(ApiKey.API_VERSIONS, 0)())
    async with asyncio.timeout(HANGS_S):
        await stopping.node.stop()
    assert await peer.has_ended()


class Slow:
    """A connection that ends when the test says so."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def finish(self) -> None:
        self.told.append("finish")

    def hang_up(self) -> None:
        self.told.append("hang up")


@pytest.mark.parametrize("finishing", [True, False])
async def test_who_takes_a_last_answer_has_a_moment_to(tmp_path: Path, finishing: bool) -> None:
    settings = load_settings({"data": str(tmp_path), "kafka": "127.0.0.1:0"})
    door, slow = KafkaDoor(settings, Metrics(), InflightBudget(1)), Slow()
    door._connections[slow] = None  # type: ignore[index]
    if finishing:
        door.finish()
    closing = asyncio.create_task(door.close())
    for _ in range(5):
        await asyncio.sleep(0)
    assert slow.told == (["finish"] if finishing else ["hang up"])
    door.closed(slow)  # type: ignore[arg-type]
    await closing
    assert slow.told == (["finish"] if finishing else ["hang up"])


async def test_nobody_is_let_in_any_more(stopping: Stopping) -> None:
    await stopping.node.stop()
    with pytest.raises(ConnectionRefusedError):
        await stopping.peer()
