"""An event loop whose connections can be frozen: what a network partition looks like to a node, silent in both
directions, and mended with nothing lost, as TCP mends it."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

WRITE_BUFFER_MAX = 1 << 20
"""Bytes written into a frozen connection before its writer is told to wait, about a kernel's buffer."""


class SeverableLoop(asyncio.SelectorEventLoop):
    """``sever`` names the ports of other nodes. Both ends of a partition sever each other's ports: a connection between
    nodes is frozen by whoever opened it, one of a client by the node."""

    def __init__(self, nodes_own: set[int]) -> None:
        """``nodes_own``: the local ports of what nodes have opened, shared by their loops: all else is of clients."""
        super().__init__()
        self._nodes_own = nodes_own
        self._severed: set[int] = set()
        self._clients_severed = False
        self._accepted: set[_Gate] = set()
        self._healed = asyncio.Event()
        self._gates: set[_Gate] = set()

    def sever(self, ports: set[int]) -> None:
        """From now on nothing is sent to these ports, or received; attempts to connect hang."""
        self._severed |= ports
        for gate in self._gates:
            gate.set_frozen(gate.port in self._severed)

    def sever_clients(self) -> None:
        """From now on clients are neither heard nor told anything; they may connect, and nothing comes of it."""
        self._clients_severed = True
        for gate in self._accepted:
            self._freeze_client(gate)

    def heal(self) -> None:
        """Let everything go on."""
        self._severed.clear()
        self._clients_severed = False
        for gate in [*self._gates, *self._accepted]:
            gate.set_frozen(False)
        self._healed.set()
        self._healed = asyncio.Event()

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """As the loop's own, once the port is not severed."""
        while address[1] in self._severed:
            await self._healed.wait()
        if sock.family == socket.AF_INET and not sock.getsockname()[1]:
            sock.bind(("127.0.0.1", 0))  # before the other side sees it: it must be known for a node's
        port = sock.getsockname()[1]
        self._nodes_own.add(port)
        try:
            await super().sock_connect(sock, address)
        except BaseException:
            self._nodes_own.discard(port)
            raise

    async def create_connection(self, protocol_factory: Callable[[], Any], *args: Any, **options: Any) -> Any:
        """As the loop's own, with a gate between the transport and the protocol."""
        gate = _Gate(protocol_factory(), self._dropped)
        await super().create_connection(lambda: gate, *args, **options)
        self._gates.add(gate)
        gate.set_frozen(gate.port in self._severed)
        return gate, gate.protocol

    async def create_server(self, protocol_factory: Callable[[], Any], *args: Any, **options: Any) -> Any:
        """As the loop's own, with such a gate for each connection."""
        return await super().create_server(
            lambda: _Gate(protocol_factory(), self._accepted.discard, self._took), *args, **options
        )

    def _took(self, gate: "_Gate") -> None:
        self._accepted.add(gate)
        self._freeze_client(gate)

    def _freeze_client(self, gate: "_Gate") -> None:
        if self._clients_severed and gate.port not in self._nodes_own:
            gate.set_frozen(True)

    def _dropped(self, gate: "_Gate") -> None:
        self._gates.discard(gate)
        self._nodes_own.discard(gate.own_port)


class _Gate(asyncio.Transport, asyncio.Protocol):
    """A protocol to the real transport, a transport to the real protocol."""

    def __init__(
        self,
        protocol: asyncio.Protocol | asyncio.BufferedProtocol,
        on_lost: Callable[["_Gate"], None],
        on_made: Callable[["_Gate"], None] = lambda gate: None,
    ) -> None:
        super().__init__()
        self.protocol = protocol
        self.port = self.own_port = 0  # of the other side, and of this one
        self._on_lost = on_lost
        self._on_made = on_made
        self._transport = cast("asyncio.Transport", None)
        self._frozen = False
        self._wants_pause = False
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def set_frozen(self, frozen: bool) -> None:
        if frozen == self._frozen or self._transport.is_closing():
            return
        self._frozen = frozen
        if frozen:
            self._transport.pause_reading()
            return
        if self._waiting:
            self._transport.write(b"".join(self._waiting))
            full, self._waiting, self._waiting_bytes = self._waiting_bytes > WRITE_BUFFER_MAX, [], 0
            if full:
                self.protocol.resume_writing()
        if not self._wants_pause:
            self._transport.resume_reading()

    # --- from the network --------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.port = (transport.get_extra_info("peername") or ("", 0))[1]  # none where it is gone already
        self.own_port = (transport.get_extra_info("sockname") or ("", 0))[1]
        self.protocol.connection_made(self)
        self._on_made(self)

    def data_received(self, data: bytes) -> None:
        if isinstance(self.protocol, asyncio.Protocol):
            self.protocol.data_received(data)
            return
        rest = memoryview(data)
        while rest and not self._transport.is_closing():
            buffer = memoryview(self.protocol.get_buffer(len(rest)))
            size = min(len(buffer), len(rest))
            buffer[:size], rest = rest[:size], rest[size:]
            self.protocol.buffer_updated(size)

    def eof_received(self) -> bool | None:
        return self.protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost(self)
        self.protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        self.protocol.resume_writing()

    # --- to the network ----------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._frozen:
            self._transport.write(data)
            return
        before, self._waiting_bytes = self._waiting_bytes, self._waiting_bytes + len(data)
        self._waiting.append(bytes(data))
        if before <= WRITE_BUFFER_MAX < self._waiting_bytes:
            self.protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def pause_reading(self) -> None:
        self._wants_pause = True
        if not self._frozen:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._wants_pause = False
        if not self._frozen:
            self._transport.resume_reading()

    def close(self) -> None:
        if self._frozen:  # its last bytes and its end do not get through either
            self._transport.abort()
        else:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def is_reading(self) -> bool:
        return not self._wants_pause

    def can_write_eof(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return self._waiting_bytes + self._transport.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._transport.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._transport.set_write_buffer_limits(high, low)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = cast("asyncio.Protocol | asyncio.BufferedProtocol", protocol)
