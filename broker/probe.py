"""Whether a port takes connections: how the controller tells a dead process from a slow one."""

import asyncio

PROBE_TIMEOUT_S = 1.0


async def probe(host: str, port: int) -> bool:
    """False only where the port refuses. Any doubt (no route, no answer) is True: the session decides then."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, host, port)
    except ConnectionRefusedError:
        return False
    except (OSError, TimeoutError):
        return True
    transport.close()
    return True
