"""The controller's end of a broker's control stream: it ends with whoever takes no answers."""

import asyncio

from ottla.broker import control_messages as control
from ottla.broker.http.internal import _ControlConversation
from ottla.log.model import BrokerEpoch, BrokerId
from ottla.raft.sessions import Heartbeat, HeartbeatAnswer
from ottla.wire.frames import Opcode
from ottla.wire.stream import WRITE_BUFFER_BYTES, Stream
from tests.wire.fake_transport import FakeHttp, FakeTransport, give
from tests.wire.test_frames import encode

ANSWER = HeartbeatAnswer(active=True, leader_id=BrokerId(1), commit_index=7, fenced=False, draining=False)


class FullTransport(FakeTransport):
    """Its peer reads nothing: above the limit whoever writes is told to wait."""

    def write(self, data: bytes) -> None:
        super().write(data)
        if len(self.written) > WRITE_BUFFER_BYTES and self.protocol is not None:
            self.protocol.pause_writing()


class FakeController:
    def __init__(self) -> None:
        self.open: list[BrokerEpoch] = []

    def heartbeat(self, beat: Heartbeat) -> HeartbeatAnswer:
        return ANSWER

    def stream_opened(self, broker: BrokerId, epoch: BrokerEpoch) -> None:
        self.open.append(epoch)

    def stream_closed(self, broker: BrokerId, epoch: BrokerEpoch) -> None:
        self.open.remove(epoch)


async def test_a_broker_that_takes_no_answers_to_its_heartbeats_is_hung_up_on() -> None:
    transport, controller = FullTransport(), FakeController()
    stream = Stream(transport, FakeHttp(), message_bytes_max=1 << 20)  # type: ignore[arg-type]
    transport.protocol = stream
    conversation = _ControlConversation(stream, controller, BrokerId(2))  # type: ignore[arg-type]
    serving = asyncio.create_task(conversation.run())
    await asyncio.sleep(0)
    beat = control.encode(1, control.Beat(Heartbeat(BrokerId(2), BrokerEpoch(5), 0)))
    give(stream, encode(Opcode.BINARY, beat, b"\1\2\3\4"))
    assert controller.open == [BrokerEpoch(5)]
    for _ in range(WRITE_BUFFER_BYTES // 10):
        give(stream, encode(Opcode.BINARY, beat, b"\1\2\3\4"))
    assert len(transport.written) < WRITE_BUFFER_BYTES + 1000, "what is not taken does not pile up"
    transport.abort()
    await asyncio.wait_for(serving, 10)
    assert controller.open == []
