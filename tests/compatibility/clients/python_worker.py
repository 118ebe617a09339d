"""The loop of the workers in Python: a line in, a call of a method, a line out."""

import json
import os
import sys
from base64 import b64decode, b64encode
from typing import Any


class Unsupported(Exception):
    """The client has no such call."""


class Failed(Exception):
    def __init__(self, code: int | None, name: str, message: str) -> None:
        super().__init__(message)
        self.said = {"code": code, "name": name, "message": message}


def encode(data: bytes | None) -> str | None:
    return None if data is None else b64encode(data).decode()


def decode(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)


def record(
    topic: str, partition: int, offset: int, key: Any, value: Any, headers: Any, timestamp: int
) -> dict[str, Any]:
    return {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "key": encode(key),
        "value": encode(value),
        "headers": [[name, encode(data)] for name, data in headers or ()],
        "timestamp": timestamp,
    }


def serve(client: Any) -> None:
    """Until the input ends."""
    for line in sys.stdin:
        asked = json.loads(line)
        method = asked.pop("do")
        if method == "admin":
            method = "admin_" + asked.pop("call")
        try:
            call = getattr(client, method, None)
            if call is None:
                raise Unsupported(f"{method} is not offered")
            answer = {"ok": call(**asked)}
        except Unsupported as why:
            answer = {"unsupported": str(why)}
        except Failed as failed:
            answer = {"error": failed.said}
        except Exception as error:
            answer = {"error": {"code": None, "name": type(error).__name__, "message": str(error)}}
        print(json.dumps(answer), flush=True)
    os._exit(0)  # a client whose brokers are gone may wait for them for ever
