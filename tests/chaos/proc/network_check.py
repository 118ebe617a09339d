"""Inside a room: do cuts stop what they should, in the direction they should, and are resets seen? Run by the tests.

python -m tests.chaos.proc.network_check
"""

import asyncio
import contextlib
import socket
import sys

from . import room
from .network import Network, address_of

PORT = 7080
PATIENCE_S = 0.3
"""For a datagram over loopback; one that is to be dropped is waited for as long."""


async def arrives(source: str, target: str) -> bool:
    """Whether a datagram comes from one host to the other."""
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as receiver, socket.socket(type=socket.SOCK_DGRAM) as sender:
        receiver.bind((address_of(target), PORT))
        sender.bind((address_of(source), 0))
        receiver.setblocking(False)
        sender.sendto(b"?", (address_of(target), PORT))
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await loop.sock_recv(receiver, 1) == b"?"
        except TimeoutError:
            return False


async def check_cuts(network: Network) -> None:
    """One direction is cut, the other is not; healed, both are open; losing everything loses everything."""
    await network.cut({("b1", "b2")})
    assert not await arrives("b1", "b2")
    assert await arrives("b2", "b1")
    assert await arrives("b1", "b3")
    assert await network.heal() == (1, 0)
    assert await arrives("b1", "b2")
    await network.lose(1.0)
    assert not await arrives("b1", "b2")
    assert await network.heal() == (0, 1)
    assert await network.heal() == (0, 0)


async def check_resets(network: Network) -> None:
    """A connection breaks by a reset between its two hosts, and by no other."""
    server = await asyncio.start_server(lambda *_: None, address_of("b2"), PORT)
    reader, writer = await asyncio.open_connection(address_of("b2"), PORT, local_addr=(address_of("b1"), 0))
    assert await network.reset("b1", "b3") == 0
    assert await network.reset("b2", "b1") > 0
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    server.close()


async def main() -> None:
    network = Network()
    await network.open()
    await check_cuts(network)
    await check_resets(network)


if __name__ == "__main__":
    room.enter()
    asyncio.run(main())
    sys.exit(0)
