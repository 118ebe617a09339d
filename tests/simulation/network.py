"""TCP in memory: seeded delays, loss as the delay of a retransmission, resets, and cuts of one or both directions.

A process lives on a host (``b2#3`` on ``b2``) and listens at the host's address. Bytes of one connection keep their
order; those of two do not, so what an old connection carried may come after what a new one did. A cut direction holds
what is sent until it is healed, as a retransmitting sender would. A killed process's connections are reset by its
kernel; a host without power answers nothing, and resets what it no longer knows once it is back.
"""

import asyncio
import errno
import itertools
import zlib
from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loop import SimulatedLoop

Address = tuple[str, int]
Pair = tuple[str, str]  # hosts: from, to

DELAY_S = (0.000_2, 0.002)
LOSS = 0.002
RETRANSMISSION_S = 0.2
SYN_RETRY_S = 0.5
CONNECT_TIMEOUT_S = 60.0
SEND_BUFFER_BYTES = 256 << 10
BINARY_FRAME = 0x82  # how a whole binary message of a WebSocket begins; aiohttp writes one such at a time


def host_of(process: str) -> str:
    """``b2#3`` lives on ``b2``."""
    return process.partition("#")[0]


class _Ended:
    """In place of data: the sender has no more (``error`` None), or the connection is gone."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error


class FakeSocket:
    """As much of a socket as servers and aiohttp ask for."""

    family, type, proto = 2, 1, 6

    def __init__(self, address: Address) -> None:
        self.address = address

    def getsockname(self) -> Address:
        return self.address

    def close(self) -> None:
        """Nothing is held."""


class Listener(asyncio.AbstractServer):
    """A listening port of one process."""

    def __init__(self, network: "Network", process: str, factory: Callable[[], asyncio.BaseProtocol], address: Address):
        self.process, self.factory, self.address = process, factory, address
        self.sockets = [FakeSocket(address)]
        self._network = network

    def close(self) -> None:
        if self._network.listeners.get(self.address) is self:
            del self._network.listeners[self.address]

    def is_serving(self) -> bool:
        return self._network.listeners.get(self.address) is self

    async def wait_closed(self) -> None:
        """At once."""


def _give(protocol: Any, data: bytes) -> None:
    """To either kind of protocol, as asyncio's transports do."""
    if not isinstance(protocol, asyncio.BufferedProtocol):
        protocol.data_received(data)
        return
    while data:
        buffer = protocol.get_buffer(len(data))
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        data = data[size:]
        protocol.buffer_updated(size)


class SimulatedTransport(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, network: "Network", process: str, local: Address, remote: Address) -> None:
        super().__init__()
        self.process, self.host = process, host_of(process)
        self.peer: SimulatedTransport | None = None
        self.dead = False
        self.last_arrival_s = 0.0  # of what this end sent: later bytes come later
        self.held: list[bytes | _Ended] = []  # sent into a cut
        self.number = 0  # of the connection: a later one has a higher
        self.dialed = False  # this end opened it
        self._network = network
        self._addresses = {"sockname": local, "peername": remote}
        self._protocol: asyncio.Protocol | None = None
        self._closing = False
        self._sent_eof = False
        self._unacknowledged = 0
        self._high = SEND_BUFFER_BYTES
        self._low = SEND_BUFFER_BYTES // 4
        self._writing_paused = False
        self._reading_paused = False
        self._received: deque[bytes | _Ended] = deque()  # by the kernel, not yet by the process
        self._draining = False

    # asyncio.Transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._addresses.get(name, default)

    def is_closing(self) -> bool:
        return self._closing

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def is_reading(self) -> bool:
        return not self._reading_paused

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        self._reading_paused = False
        self._drain_soon()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = SEND_BUFFER_BYTES if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return max(0, self._unacknowledged - self._low)

    def can_write_eof(self) -> bool:
        return True

    def write(self, data: Any) -> None:
        if self.dead or self._closing or self._sent_eof or not len(data):
            return
        content = bytes(data)
        self._unacknowledged += len(content)
        self._network.send(self, content)
        if self._unacknowledged > self._high and not self._writing_paused:
            self._writing_paused = True
            assert self._protocol is not None
            self._protocol.pause_writing()

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        if not self._sent_eof and not self.dead:
            self._sent_eof = True
            self._network.send(self, _Ended())

    def close(self) -> None:
        if self._closing:
            return
        self.write_eof()
        self._closing = True
        self._network.loop.call_soon(self._lost, None)

    def abort(self) -> None:
        if self.dead:
            return
        self._closing = True
        self._network.send(self, _Ended(_reset()))
        self._network.loop.call_soon(self._lost, None)

    # The network's side

    def made(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        protocol.connection_made(self)
        self._drain_soon()

    def arrived(self, data: bytes | _Ended) -> None:
        """The kernel has it; the process reads when it runs and wants to."""
        self._received.append(data)
        self._drain_soon()

    def acknowledged(self, size: int) -> None:
        self._unacknowledged -= size
        if self._writing_paused and self._unacknowledged <= self._low and not self.dead:
            self._writing_paused = False
            self._network.soon(self.process, self._resume_writing)

    def vanish(self) -> None:
        """The process is gone; nobody is told."""
        self.dead = self._closing = True
        self._network.forget(self)

    def _resume_writing(self) -> None:
        if not self.dead and self._protocol is not None:
            self._protocol.resume_writing()

    def _drain_soon(self) -> None:
        if not self._draining and self._received:
            self._draining = True
            self._network.soon(self.process, self._drain)

    def _drain(self) -> None:
        self._draining = False
        while self._received and not self.dead and self._protocol is not None:
            data = self._received[0]
            if self._reading_paused and not (isinstance(data, _Ended) and data.error is not None):
                return
            self._received.popleft()
            self._read(data, self._protocol)

    def _read(self, data: bytes | _Ended, protocol: asyncio.Protocol) -> None:
        if isinstance(data, bytes):
            if self.peer is not None:
                self._network.acknowledge(self, len(data))
            if not self._closing:
                _give(protocol, data)
        elif data.error is not None:
            self._lost(data.error)
        elif not self._closing and not protocol.eof_received():
            self.close()

    def _lost(self, error: Exception | None) -> None:
        if self.dead:
            return
        self.vanish()
        assert self._protocol is not None
        self._protocol.connection_lost(error)


class Network:
    """Every listener and connection of a run. ``loss``: chance that a segment is sent again."""

    def __init__(self, loop: "SimulatedLoop", chance: Random) -> None:
        self.loop = loop
        self.loss = LOSS
        self.listeners: dict[Address, Listener] = {}
        self.hosts: dict[str, str] = {}  # address -> host
        self.dark: set[str] = set()  # hosts without power
        self.cuts: set[Pair] = set()
        self.slow: dict[Pair, float] = {}  # extra seconds at most, per direction
        self.duplicated: dict[Pair, float] = {}  # chance that a WebSocket's binary frame comes twice, per direction
        self.effects: Counter[str] = Counter()  # what faults did to segments: stopped, slowed, resent, ...
        self._chance = chance
        self._transports: dict[SimulatedTransport, None] = {}
        self._holding: dict[SimulatedTransport, None] = {}
        self._ports = itertools.count(40_000)
        self._numbers = itertools.count(1)
        self._newest: dict[Pair, int] = {}  # the latest connection that frames came over, per direction

    # --- what goes on ------------------------------------------------------------------------------------------------

    def listen(self, process: str, factory: Any, host: str, port: int) -> Listener:
        address = (host, port or next(self._ports))
        if address in self.listeners:
            raise OSError(errno.EADDRINUSE, "address in use")
        self.listeners[address] = Listener(self, process, factory, address)
        return self.listeners[address]

    async def connect(self, process: str, factory: Any, address: Address) -> Any:
        """As create_connection. A cut or dark way is tried again, until the time is up."""
        source, target = host_of(process), self.hosts[address[0]]
        deadline = self.loop.now + CONNECT_TIMEOUT_S
        while self._blocked(source, target) or self._blocked(target, source):
            await asyncio.sleep(SYN_RETRY_S)
            if self.loop.now >= deadline:
                raise OSError(errno.ETIMEDOUT, "connect timed out")
        await asyncio.sleep(self._delay(source, target) + self._delay(target, source))
        listener = self.listeners.get(address)
        if listener is None:
            self.loop.trace.record("refused", process, address)
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"connect to {address} refused")
        self.loop.trace.record("connected", process, listener.process)
        local = (f"of-{source}", next(self._ports))
        near = SimulatedTransport(self, process, local, address)
        far = SimulatedTransport(self, listener.process, address, local)
        near.peer, far.peer = far, near
        near.number = far.number = next(self._numbers)
        near.dialed = True
        self._transports[near] = self._transports[far] = None
        self.soon(listener.process, _accept, listener, far)
        protocol = factory()
        near.made(protocol)
        return near, protocol

    def send(self, sender: SimulatedTransport, data: bytes | _Ended) -> None:
        assert sender.peer is not None
        if sender.held or self._blocked(sender.host, sender.peer.host):
            sender.held.append(data)
            self._holding[sender] = None
            self.effects["stopped"] += 1
            return
        self._fly(sender, data)
        again = self.duplicated.get((sender.host, sender.peer.host)) if self.duplicated else None
        if again and isinstance(data, bytes) and data[0] == BINARY_FRAME and self._chance.random() < again:
            self.effects["duplicated"] += 1
            self._fly(sender, data)

    def _fly(self, sender: SimulatedTransport, data: bytes | _Ended) -> None:
        assert sender.peer is not None
        delay = self._delay(sender.host, sender.peer.host)
        arrives_at = sender.last_arrival_s = max(sender.last_arrival_s + 1e-9, self.loop.now + delay)
        content = (len(data), zlib.crc32(data)) if isinstance(data, bytes) else repr(data.error)
        self.loop.trace.record("sent", sender.process, sender.peer.process, content)
        self.loop.call_at(arrives_at, self._arrive, sender, data, context=self.loop.context_of(""))

    def _arrive(self, sender: SimulatedTransport, data: bytes | _Ended) -> None:
        receiver = sender.peer
        assert receiver is not None
        if self._blocked(sender.host, receiver.host):
            sender.held.append(data)
            self._holding[sender] = None
            self.effects["stopped"] += 1
        elif not receiver.dead:
            if isinstance(data, bytes) and data[0] == BINARY_FRAME:
                self._note_order(sender.number, (sender.host, receiver.host))
            receiver.arrived(data)
        elif isinstance(data, bytes) and not sender.dead and not self._blocked(receiver.host, sender.host):
            self.send(receiver, _Ended(_reset()))  # nobody knows this connection there any more

    def _note_order(self, number: int, pair: Pair) -> None:
        if number < self._newest.get(pair, 0):
            self.effects["reordered"] += 1
        else:
            self._newest[pair] = number

    def acknowledge(self, receiver: SimulatedTransport, size: int) -> None:
        assert receiver.peer is not None
        receiver.peer.acknowledged(size)

    def soon(self, process: str, call: Callable[..., None], *arguments: Any) -> None:
        self.loop.call_soon(call, *arguments, context=self.loop.context_of(process))

    def forget(self, transport: SimulatedTransport) -> None:
        self._transports.pop(transport, None)

    def _delay(self, source: str, target: str) -> float:
        delay = self._chance.uniform(*DELAY_S)
        while self._chance.random() < self.loss:
            delay += RETRANSMISSION_S
            self.effects["resent"] += 1
        slow = self.slow.get((source, target)) if self.slow else None
        if slow is None:
            return delay
        self.effects["slowed"] += 1
        return delay + self._chance.uniform(0, slow)

    def _blocked(self, source: str, target: str) -> bool:
        return (source, target) in self.cuts or source in self.dark or target in self.dark

    # --- faults ------------------------------------------------------------------------------------------------------

    def cut(self, pairs: set[Pair]) -> None:
        """Nothing gets from the first host of a pair to the second."""
        self.cuts |= pairs

    def heal(self) -> None:
        """Every way is open and fast, and nothing comes twice; what was held is sent."""
        self.cuts.clear()
        self.slow.clear()
        self.duplicated.clear()
        self.loss = LOSS
        self._send_held()

    def _send_held(self) -> None:
        holding, self._holding = self._holding, {}
        for sender in holding:
            waiting, sender.held = sender.held, []
            for data in waiting:
                self.send(sender, data)

    def reset(self, first: str, second: str) -> int:
        """Every connection between two hosts breaks; how many did."""
        broken = [t for t in self._transports if t.peer is not None and (t.host, t.peer.host) == (first, second)]
        for transport in broken:
            for end in (transport, transport.peer):
                assert end is not None
                end.arrived(_Ended(_reset()))
        return len(broken)

    def strand(self, first: str, second: str) -> int:
        """The ends on ``first`` of its connections to ``second`` break and nobody tells the other ends, to which goes
        on coming what was on its way; how many did. A new connection may overtake them."""
        broken = [
            t for t in self._transports if t.peer is not None and (t.host, t.peer.host) == (first, second) and t.dialed
        ]
        for transport in broken:
            transport.arrived(_Ended(_reset()))
        return len(broken)

    def process_died(self, process: str) -> None:
        """Its kernel closes its ports and resets its connections; without power nobody does, and nobody hears."""
        for listener in [one for one in self.listeners.values() if one.process == process]:
            listener.close()
        for transport in [one for one in self._transports if one.process == process]:
            if host_of(process) not in self.dark:
                self.send(transport, _Ended(_reset()))
            else:
                transport.held.clear()
            transport.vanish()

    def bury(self) -> None:
        """After the run: hold on to nobody."""
        self.listeners.clear()
        self._transports.clear()
        self._holding.clear()

    def power_off(self, host: str) -> None:
        self.dark.add(host)

    def power_on(self, host: str) -> None:
        self.dark.discard(host)
        self._send_held()


def _accept(listener: Listener, transport: SimulatedTransport) -> None:
    if not transport.dead:
        transport.made(listener.factory())


def _reset() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, "connection reset by peer")
