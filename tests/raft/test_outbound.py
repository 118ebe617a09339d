"""What goes to one peer: its order, its bounds, and what becomes of it when the connection does not take it."""

import asyncio
from collections.abc import Callable

from ottla.raft.codec import AppendEntries, Message, ResponseVote, decode
from ottla.raft.outbound import SEQUENCE, Outbound
from ottla.wire.stream import StreamEnded

BULK = AppendEntries(1, 1, 1, 0, ((b"x", 2, 1),))
LARGE = AppendEntries(1, 1, 1, 0, ((bytes(1 << 20), 2, 1),))


class FakeStream:
    """Takes what it is given, or does not."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, Message]] = []
        self.room = asyncio.Event()
        self.room.set()
        self.lost = False
        self.on_end: Callable[[], None] = lambda: None

    @property
    def writable(self) -> bool:
        return self.room.is_set()

    def deliver(self, on_message: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self.on_end = on_end

    def send(self, head: bytes, data: bytes) -> None:
        if self.lost:
            raise StreamEnded("lost")
        self.sent.append((SEQUENCE.unpack(head)[0], decode(data)))

    async def drain(self) -> None:
        await self.room.wait()
        if self.lost:
            raise StreamEnded("lost")

    def messages(self) -> list[Message]:
        return [message for _, message in self.sent]


def opened(stream: FakeStream) -> tuple[Outbound, asyncio.Event]:
    link = Outbound()
    assert not link.up
    return link, link.open(stream)  # type: ignore[arg-type]


async def test_messages_leave_at_once_and_are_numbered() -> None:
    stream = FakeStream()
    link, over = opened(stream)
    assert link.up
    link.put(BULK)
    link.put(ResponseVote(1))
    assert stream.sent == [(0, BULK), (1, ResponseVote(1))]
    assert not over.is_set()


async def test_a_heartbeat_overtakes_bulk_and_only_the_newest_goes() -> None:
    stream = FakeStream()
    link, _ = opened(stream)
    stream.room.clear()
    first = ResponseVote(9)
    for message in (first, BULK, AppendEntries(1, 1, 1, 0), ResponseVote(1), AppendEntries(1, 2, 1, 0)):
        link.put(message)
    assert stream.messages() == [first], "the rest waits for the peer"
    stream.room.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert stream.messages() == [first, AppendEntries(1, 2, 1, 0), BULK, ResponseVote(1)]
    assert [number for number, _ in stream.sent] == [0, 1, 2, 3]


async def test_a_queue_that_overflows_gives_its_connection_up() -> None:
    stream = FakeStream()
    link, over = opened(stream)
    stream.room.clear()
    for _ in range(18):
        link.put(LARGE)
    assert over.is_set()
    assert not link.up
    link.close()
    again = FakeStream()
    link.open(again)  # type: ignore[arg-type]
    assert link.up
    link.put(ResponseVote(1))
    assert again.sent == [(0, ResponseVote(1))], "nothing of the old one, and numbered anew"


async def test_what_an_ended_connection_had_not_sent_is_dropped() -> None:
    stream = FakeStream()
    link, over = opened(stream)
    stream.room.clear()
    link.put(BULK)
    link.put(ResponseVote(1))
    stream.lost = True
    stream.room.set()
    await asyncio.wait_for(over.wait(), 10)
    link.close()
    assert stream.messages() == [BULK]
    again = FakeStream()
    link.open(again)  # type: ignore[arg-type]
    assert again.sent == []


async def test_a_lost_connection_is_known_at_once() -> None:
    stream = FakeStream()
    link, over = opened(stream)
    stream.lost = True
    link.put(BULK)
    assert over.is_set()
    assert not link.up
    other = FakeStream()
    link.close()
    over = link.open(other)  # type: ignore[arg-type]
    other.on_end()
    assert over.is_set()
