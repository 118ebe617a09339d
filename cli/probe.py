"""Asks a node how it is over plain HTTP, without the SDK: for nodes that are not ready, and commands that are quick."""

import http.client
import json
from typing import Any

PROBE_TIMEOUT_S = 1.0


def get(host: str, port: int, path: str, timeout_s: float = PROBE_TIMEOUT_S) -> tuple[int, bytes] | None:
    """Status and body; None where nobody answers."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def is_ready(host: str, port: int) -> bool:
    """Whether the node serves clients."""
    answer = get(host, port, "/health/ready")
    return answer is not None and answer[0] == 200


def describe(host: str, port: int) -> dict[str, Any] | None:
    """The node's account of itself (state, quorum leader and term, voters ...); None where nobody answers."""
    answer = get(host, port, "/v1/node")
    if answer is None or answer[0] != 200:
        return None
    try:
        document = json.loads(answer[1])
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
