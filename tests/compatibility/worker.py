"""A client in a process of its own, told what to do a line at a time (README.md)."""

import json
import subprocess
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from pathlib import Path
from queue import Empty, Queue
from typing import Any, NamedTuple

ANSWER_S = 90.0
"""No command takes longer, or the client hangs."""


class Sent(NamedTuple):
    """A record to produce."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int | None = None
    partition: int | None = None


class Got(NamedTuple):
    """A record as it was consumed."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp: int

    @property
    def content(self) -> Sent:
        return Sent(self.value, self.key, self.headers, self.timestamp, self.partition)


class ClientFailed(Exception):
    """What the client says of a failure. ``code``: Kafka's number, if it tells."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error.get('name')}: {error.get('message')}")
        self.code: int | None = error.get("code")
        self.name = str(error.get("name"))


class NotOffered(Exception):
    """The client has no such call."""


class Worker:
    """One client."""

    def __init__(self, name: str, command: Sequence[str], servers: str, log: Path, directory: Path) -> None:
        self.name = name
        self._command, self._servers, self._directory = command, servers, directory
        self._log = log.open("ab")
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, cwd=self._directory
        )
        self._answers: Queue[bytes] = Queue()
        threading.Thread(target=self._read, args=(self._process, self._answers), daemon=True).start()
        hello = self._ask("hello", servers=self._servers)["ok"]
        self.version = str(hello["version"])
        self.lacks = frozenset(hello.get("lacks", ()))

    @staticmethod
    def _read(process: subprocess.Popen[bytes], answers: Queue[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answers.put(line)
        answers.put(b"")

    def do(self, what: str, **fields: Any) -> Any:
        """The answer. Raises ClientFailed, NotOffered, or AssertionError where it hangs or dies; the next case has a
        new process then."""
        if self._process.poll() is not None:
            self._start()
        try:
            answer = self._ask(what, **fields)
        except AssertionError:
            self._process.kill()
            self._process.wait()
            raise
        if "unsupported" in answer:
            raise NotOffered(answer["unsupported"])
        if "error" in answer:
            raise ClientFailed(answer["error"])
        return answer["ok"]

    def _ask(self, what: str, **fields: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **fields}).encode() + b"\n")
        self._process.stdin.flush()
        try:
            line = self._answers.get(timeout=ANSWER_S)
        except Empty:
            raise AssertionError(f"{self.name} did not answer {what} within {ANSWER_S:g} s") from None
        assert line, f"{self.name} ended in {what}; see {self._log.name}"
        return json.loads(line)

    def close(self) -> None:
        """End it: by its input's end, or else by its id."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    # --- what it can say ----------------------------------------------------------------------------------------------

    def writable(self, records: Iterable[Sent]) -> list[Sent]:
        """Those of the records that it has the words for, without the timestamps if it has none for them."""
        kept = [each for each in records if not ("empty key" in self.lacks and each.key == b"")]
        if "zero byte in header" in self.lacks:
            kept = [each for each in kept if not any(b"\0" in value for _, value in each.headers)]
        return [each._replace(timestamp=None) for each in kept] if "timestamp" in self.lacks else kept

    def sees(self, read: "Got", written: Sent) -> bool:
        """Whether ``read`` is what this client shows of what was written."""
        headers = written.headers
        if "zero byte in header" in self.lacks:
            headers = tuple((name, value.split(b"\0")[0]) for name, value in headers)
        expected = (written.key, written.value, headers)
        return (read.key, read.value, read.headers) == expected and written.timestamp in (read.timestamp, None)

    # --- what it does ------------------------------------------------------------------------------------------------

    def produce(self, topic: str, records: Iterable[Sent], **options: Any) -> list[tuple[int, int]]:
        """Partition and offset of each, once all are acknowledged."""
        encoded = [
            {
                "key": encode(record.key),
                "value": encode(record.value),
                "headers": [[name, encode(value)] for name, value in record.headers],
                "timestamp": record.timestamp,
                "partition": record.partition,
            }
            for record in records
        ]
        return [(p, o) for p, o in self.do("produce", topic=topic, records=encoded, **options)]

    def consume(self, topic: str, count: int, timeout_s: float = 30.0, **options: Any) -> list[Got]:
        """So many records of the topic's start, by partition and offset."""
        found = self.do("consume", topic=topic, count=count, timeout_s=timeout_s, **options)
        return sorted(records(found), key=_place)

    def poll(self, member: str, count: int, timeout_s: float = 30.0) -> list[Got]:
        return records(self.do("poll", member=member, count=count, timeout_s=timeout_s))

    def admin(self, call: str, **fields: Any) -> Any:
        return self.do("admin", call=call, **fields)


def _place(record: Got) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


def records(answer: list[dict[str, Any]]) -> list[Got]:
    return [
        Got(
            each["topic"],
            each["partition"],
            each["offset"],
            decode(each["key"]),
            decode(each["value"]),
            tuple((name, decode(value) or b"") for name, value in each["headers"]),
            each["timestamp"],
        )
        for each in answer
    ]


def encode(data: bytes | None) -> str | None:
    return None if data is None else b64encode(data).decode()


def decode(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)
