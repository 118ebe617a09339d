"""One end of a stream: handing over, holding back, pings, farewells."""

import asyncio

import pytest

from ottla.log.chance import SystemChance
from ottla.wire import stream as stream_module
from ottla.wire.frames import CloseCode, FrameReader, Opcode, Payload
from ottla.wire.stream import BACKLOG_BYTES, QUEUE_MESSAGES_MAX, Stream, StreamEnded

from .fake_transport import FakeHttp, FakeTransport, give
from .test_frames import encode


class End:
    """A server's end, and what its peer would see."""

    def __init__(self, *, ping_interval_s: float | None = None, client: bool = False) -> None:
        self.transport, self.http = FakeTransport(), FakeHttp()
        self.lost = 0
        self.stream = Stream(
            self.transport,  # type: ignore[arg-type]
            self.http,
            message_bytes_max=8 << 20,
            mask=SystemChance() if client else None,
            ping_interval_s=ping_interval_s,
            on_lost=self._on_lost,
        )
        self.transport.protocol = self.stream
        self.client = client
        self.messages: list[bytes] = []
        self.ends = 0

    def _on_lost(self) -> None:
        self.lost += 1

    def deliver(self) -> None:
        self.stream.deliver(self._take, self._end)

    def _take(self, message: Payload) -> None:
        self.messages.append(bytes(message))

    def _end(self) -> None:
        self.ends += 1

    def hear(self, *frames: tuple[int, bytes]) -> None:
        give(self.stream, b"".join(encode(o, p, None if self.client else b"\1\2\3\4") for o, p in frames))

    def said(self) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        reader = FrameReader(
            lambda o, p: found.append((o, bytes(p))), bytearray(1 << 18), masked=self.client, message_bytes_max=1 << 30
        )
        reader.feed(bytes(self.transport.written))
        return found


BINARY = Opcode.BINARY


@pytest.mark.parametrize("client", [False, True])
async def test_messages_are_handed_over_in_the_call_that_brings_them(client: bool) -> None:
    end = End(client=client)
    end.deliver()
    end.hear((BINARY, b"one"), (BINARY, b"two"), (BINARY, b"x" * 300_000))
    assert end.messages == [b"one", b"two", b"x" * 300_000]
    end.hear((BINARY, b"y" * 4_000_000))
    assert end.messages[3:] == [b"y" * 4_000_000]


@pytest.mark.parametrize("client", [False, True])
async def test_a_message_of_parts_is_one_message(client: bool) -> None:
    end = End(client=client)
    end.stream.send(b"a", memoryview(b"bc"), bytearray(b"d"))
    end.stream.send(b"head", b"x" * 100_000)
    assert end.said() == [(BINARY, b"abcd"), (BINARY, b"head" + b"x" * 100_000)]


async def test_what_waited_for_receive_comes_before_what_is_delivered() -> None:
    end = End()
    end.hear((BINARY, b"one"), (BINARY, b"two"))
    assert await end.stream.receive_bytes() == b"one"
    end.deliver()
    end.hear((BINARY, b"three"))
    assert end.messages == [b"two", b"three"]


async def test_a_queue_that_nobody_empties_is_bounded() -> None:
    end = End()
    count = 3 * QUEUE_MESSAGES_MAX
    end.hear(*((BINARY, bytes([n])) for n in range(count)))
    assert len(end.stream._queue) == QUEUE_MESSAGES_MAX
    end.hear(*((BINARY, b"x" * 1000) for _ in range(100)))
    assert not end.transport.reading
    assert [await end.stream.receive_bytes() for _ in range(count)] == [bytes([n]) for n in range(count)]
    for _ in range(100):
        assert len(await end.stream.receive_bytes()) == 1000
    assert end.transport.reading


async def test_a_pause_lets_little_in_and_loses_nothing() -> None:
    end = End()
    end.deliver()
    end.hear((BINARY, b"one"))
    end.stream.pause()
    end.hear((BINARY, b"two"))
    assert end.messages == [b"one"]
    assert end.transport.reading, "so that the peer's end would be noticed"
    end.hear((BINARY, b"x" * BACKLOG_BYTES))
    assert not end.transport.reading
    end.stream.resume()
    assert end.messages == [b"one", b"two", b"x" * BACKLOG_BYTES]
    assert end.transport.reading


async def test_a_message_may_pause_what_comes_behind_it_in_the_same_bytes() -> None:
    end = End()
    end.stream.deliver(lambda message: (end.messages.append(bytes(message)), end.stream.pause())[0])
    end.hear((BINARY, b"one"), (BINARY, b"two"), (BINARY, b"three"))
    assert end.messages == [b"one"]
    end.stream.resume()
    assert end.messages == [b"one", b"two"]
    end.stream.resume()
    assert end.messages == [b"one", b"two", b"three"]


async def test_what_a_lost_peer_had_sent_is_handed_over_before_its_end_is_told() -> None:
    end = End()
    end.deliver()
    end.stream.pause()
    end.hear((BINARY, b"one"))
    end.stream.connection_lost(None)
    assert end.ends == 0
    assert end.stream.closed
    end.stream.resume()
    assert (end.messages, end.ends) == ([b"one"], 1)
    assert end.lost == 1
    assert end.http.lost == [None]


async def test_the_end_is_told_once_and_aiohttp_learns_of_the_loss() -> None:
    end = End()
    end.deliver()
    error = ConnectionResetError("by peer")
    end.stream.connection_lost(error)
    end.stream.resume()
    assert end.ends == 1
    assert end.http.lost == [error]
    assert end.stream.close_code == CloseCode.ABNORMAL_CLOSURE
    with pytest.raises(StreamEnded, match="by peer"):
        end.stream.send(b"late")
    with pytest.raises(StreamEnded):
        await end.stream.receive_bytes()
    late: list[int] = []
    end.stream.deliver(lambda _: None, lambda: late.append(1))
    assert late == [1], "whoever comes late is told, too"


async def test_drain_waits_for_the_peer_and_for_nobody_who_is_gone() -> None:
    end = End()
    end.stream.pause_writing()
    assert not end.stream.writable
    draining = asyncio.create_task(end.stream.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    end.stream.resume_writing()
    await draining
    end.stream.pause_writing()
    sending = asyncio.create_task(end.stream.send_bytes(b"x"))
    await asyncio.sleep(0)
    end.stream.connection_lost(None)
    with pytest.raises(StreamEnded):
        await sending


async def test_pings_are_answered_and_text_is_refused_with_words() -> None:
    end = End()
    end.deliver()
    end.hear((Opcode.PING, b"are you there"), (Opcode.PONG, b"unasked"))
    assert end.said() == [(Opcode.PONG, b"are you there")]
    end.hear((Opcode.TEXT, b"hello"), (BINARY, b"never seen"))
    code, reason = end.said()[-1][1][:2], end.said()[-1][1][2:]
    assert int.from_bytes(code, "big") == CloseCode.UNSUPPORTED_DATA
    assert b"binary" in reason
    assert end.ends == 1
    end.hear((BINARY, b"never seen either"))
    assert end.messages == []
    assert end.transport.eof, "half closed: a reset could overtake the reason"
    assert not end.transport.aborted


async def test_a_flood_of_pings_from_who_reads_nothing_piles_up_nothing() -> None:
    end = End()
    end.deliver()
    end.stream.pause_writing()
    end.hear(*[(Opcode.PING, b"x" * 125)] * 1000)
    assert end.said() == []
    end.stream.resume_writing()
    end.hear((Opcode.PING, b"now"))
    assert end.said() == [(Opcode.PONG, b"now")]


async def test_a_lost_stream_that_was_held_back_ends_when_it_is_closed() -> None:
    end = End()
    end.deliver()
    end.stream.pause()
    end.hear((BINARY, b"for nobody"))
    end.stream.connection_lost(None)
    assert end.ends == 0
    await asyncio.wait_for(end.stream.close(), 10)
    assert (end.messages, end.ends) == ([], 1)


async def test_who_speaks_no_websocket_is_hung_up_on_even_if_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "CLOSE_WAIT_S", 0.01)
    end = End()
    end.deliver()
    head = bytes([0x82, 0xFF]) + (100_000).to_bytes(8, "big") + bytes(4)
    give(end.stream, head + bytes(100_000) + b"GET / HTTP/1.1\r\n\r\n" + head)
    give(end.stream, b"x" * 1_000_000)
    await asyncio.wait_for(end.stream.ended(), 10)
    while not end.transport.aborted:
        await asyncio.sleep(0.001)


async def test_a_farewell_is_answered_and_says_why() -> None:
    end = End()
    end.deliver()
    end.hear((BINARY, b"last"), (Opcode.CLOSE, (1001).to_bytes(2, "big") + b"going"), (BINARY, b"after"))
    assert end.messages == [b"last"]
    assert [opcode for opcode, _ in end.said()] == [Opcode.CLOSE]
    assert end.ends == 1
    assert end.transport.closing
    assert end.stream.close_code == 1001
    assert "going" in end.stream.reason
    await end.stream.close()


async def test_close_says_farewell_drops_what_comes_and_waits_for_the_answer() -> None:
    end = End()
    end.deliver()
    end.stream.pause()
    end.hear((BINARY, b"held"))
    closing = asyncio.create_task(end.stream.close(CloseCode.GOING_AWAY, b"stopping"))
    await asyncio.sleep(0)
    assert end.said() == [(Opcode.CLOSE, (1001).to_bytes(2, "big") + b"stopping")]
    with pytest.raises(StreamEnded):
        end.stream.send(b"late")
    end.hear((BINARY, b"in between"))
    assert not closing.done()
    end.hear((Opcode.CLOSE, (1001).to_bytes(2, "big")))
    await asyncio.wait_for(closing, 10)
    assert end.messages == []
    assert len(end.said()) == 1
    assert not end.transport.aborted


async def test_a_peer_that_does_not_answer_a_farewell_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "CLOSE_WAIT_S", 0.01)
    end = End()
    await asyncio.wait_for(end.stream.close(), 10)
    assert end.transport.aborted


async def test_a_silent_peer_is_pinged_and_then_left() -> None:
    end = End(ping_interval_s=0.02)
    end.deliver()
    while not end.said():
        await asyncio.sleep(0.001)
    assert end.said() == [(Opcode.PING, b"")]
    while not end.transport.aborted:
        await asyncio.sleep(0.001)
    await asyncio.wait_for(end.stream.ended(), 10)
    assert end.ends == 1
    assert "ping" in end.stream.reason


async def test_a_peer_that_we_do_not_read_is_not_left_for_its_silence() -> None:
    end = End(ping_interval_s=0.01)
    end.deliver()
    end.stream.pause()
    end.hear((BINARY, b"x" * BACKLOG_BYTES))
    assert not end.transport.reading
    while len(end.said()) < 3:  # a ping each time it would have been left
        await asyncio.sleep(0.001)
    assert not end.transport.aborted


async def test_a_peer_that_answers_pings_is_kept() -> None:
    end = End(ping_interval_s=0.02)
    end.deliver()
    for answered in range(1, 4):
        while len(end.said()) < answered:
            await asyncio.sleep(0.001)
        end.hear((Opcode.PONG, b""))
    assert not end.transport.aborted
