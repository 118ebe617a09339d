"""Tries a node's Kafka port as a client is told of it: does it answer, and is it a node of that cluster?"""

import asyncio
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.client.protocol import BrokerEndpoint

TRY_S = 10.0
"""The first request of its kind has a node load how it is read, which takes some seconds where all are busy."""
METADATA, VERSION = 3, 4
_NO_TOPICS = struct.pack(">i?", 0, False)


async def probe_kafka(endpoint: "BrokerEndpoint", cluster_id: str) -> str | None:
    """What is wrong with it, as the end of a sentence; None if nothing is."""
    host, port = endpoint.kafka_host or endpoint.host, endpoint.kafka_port
    try:
        async with asyncio.timeout(TRY_S):
            found = await _cluster_id(host, port or 0)
    except TimeoutError:
        return "nothing answers there in time"
    except OSError as error:
        return f"it cannot be reached from here ({error.strerror or error})"
    except (ValueError, struct.error, asyncio.IncompleteReadError):
        return "what answers there does not speak Kafka's protocol"
    return None if found == cluster_id else f"another cluster answers there ({found})"


async def _cluster_id(host: str, port: int) -> str:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        request = struct.pack(">hhih", METADATA, VERSION, 1, 6) + b"doctor" + _NO_TOPICS
        writer.write(struct.pack(">i", len(request)) + request)
        size = int.from_bytes(await reader.readexactly(4), "big")
        if not 12 <= size <= 1 << 20:
            raise ValueError("no answer of this protocol")
        return _read_cluster_id(await reader.readexactly(size))
    finally:
        writer.close()


def _read_cluster_id(answer: bytes) -> str:
    """| correlation id: i32 | throttle: i32 | brokers: array of | id: i32 | host | port: i32 | rack | | cluster id |"""
    correlation_id, _, brokers = struct.unpack_from(">iii", answer)
    if correlation_id != 1 or not 0 <= brokers <= 10_000:
        raise ValueError("no answer of this protocol")
    position = 12
    for _ in range(brokers):
        position = _behind_string(answer, position + 4) + 4
        position = _behind_string(answer, position)
    end = _behind_string(answer, position)
    return answer[position + 2 : end].decode()


def _behind_string(data: bytes, position: int) -> int:
    length: int = struct.unpack_from(">h", data, position)[0]
    return position + 2 + max(0, length)
