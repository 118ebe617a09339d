"""kcat: a run of the program for each command, and one that stays for each member of a group."""

import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).parent))
from python_worker import Failed, Unsupported, decode, record, serve

FORMAT = r"%t %p %o %T %K %S %h\n%k%s\n"
"""The lengths first: keys and values may be any bytes. Headers are told in one line, so their values may not."""
DELIVERED = re.compile(rb"delivered to partition (\d+) \(offset (-?\d+)\)")
REBALANCED = re.compile(rb"^% Group .* rebalanced \(memberid .*\): (assigned|revoked): ?(.*)$")
SEPARATOR = b"\x1f"
PLACE = re.compile(rb"(\S+) \[(\d+)\]")


def read(stream: IO[bytes]) -> Any:
    """The next record in FORMAT, or None at the end."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    topic, partition, offset, timestamp, key_size, value_size, headers = line[:-1].split(b" ", 6)
    key, value = (None if int(size) < 0 else stream.read(int(size)) for size in (key_size, value_size))
    stream.readline()
    pairs = [tuple(each.split(b"=", 1)) for each in headers.split(b",")] if headers else []
    named = [(name.decode(), data) for name, data in pairs]
    return record(topic.decode(), int(partition), int(offset), key, value, named, int(timestamp))


class Running:
    """A consumer that stays: what it printed is kept until it is asked for."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.came: list[Any] = []
        self.assigned: set[tuple[str, int]] = set()
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self._records, self._remarks)]
        for thread in self.threads:
            thread.start()

    def _records(self) -> None:
        assert self.process.stdout is not None
        while (found := read(self.process.stdout)) is not None:
            self.came.append(found)

    def _remarks(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := REBALANCED.match(line.rstrip()):
                places = {(topic.decode(), int(number)) for topic, number in PLACE.findall(found[2])}
                self.assigned = places if found[1] == b"assigned" else set()

    def take(self, count: int, timeout_s: float) -> list[Any]:
        deadline = time.monotonic() + timeout_s
        while len(self.came) < count and time.monotonic() < deadline and self.process.poll() is None:
            time.sleep(0.02)
        taken, self.came[:count] = self.came[:count], []
        return taken

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


class Client:
    def hello(self, servers: str) -> Any:
        self.servers = servers
        self.members: dict[str, Running] = {}
        said = subprocess.run(["kcat", "-V"], capture_output=True, text=True).stdout
        [version] = re.findall(r"Version (\S+)", said)
        [library] = re.findall(r"librdkafka (\S+)", said)
        lacks = ["timestamp", "empty key", "zero byte in header"]
        return {"client": "kcat", "version": f"{version} (librdkafka {library})", "lacks": lacks}

    def _command(self, *arguments: str, **settings: Any) -> list[str]:
        pairs = [f"{name.replace('_', '.')}={value}" for name, value in settings.items()]
        return ["kcat", "-b", self.servers, *arguments, *(part for pair in pairs for part in ("-X", pair))]

    def produce(
        self,
        topic: str,
        records: list[dict[str, Any]],
        codec: str = "none",
        acks: str = "all",
        idempotent: bool = True,
        linger_ms: int = 5,
        keep: str | None = None,
    ) -> Any:
        if keep is not None:
            raise Unsupported("a producer ends with its input")
        if any(each["timestamp"] is not None for each in records):
            raise Unsupported("records have the time of their sending")
        settings = {
            "compression_codec": codec,
            "acks": acks,
            "enable_idempotence": str(idempotent and acks == "all").lower(),
            "linger_ms": linger_ms,
            "message_max_bytes": 20_000_000,
        }
        places: list[Any] = []
        with TemporaryDirectory() as directory:
            for some in alike(records):
                places += self._produce(Path(directory), topic, some, settings)
        return places

    def _produce(self, directory: Path, topic: str, records: list[dict[str, Any]], settings: dict[str, Any]) -> Any:
        """One run: all have the same partition, key and headers."""
        first = records[0]
        arguments = ["-P", "-t", topic, "-vvv", *(("-Z",) if first["value"] is None else ())]
        arguments += [] if first["partition"] is None else ["-p", str(first["partition"])]
        if first["key"] is not None and first["value"]:
            arguments += ["-k", (decode(first["key"]) or b"").decode()]
        for name, value in first["headers"]:
            arguments += ["-H", f"{name}={(decode(value) or b'').decode()}"]
        if not first["value"]:  # files without content it skips, lines not
            arguments += ["-K", SEPARATOR.decode()]
            line = (decode(first["key"]) or b"") + SEPARATOR + b"\n"
            ran = subprocess.run(self._command(*arguments, **settings), input=line * len(records), capture_output=True)
        else:
            files = [directory / str(number) for number in range(len(records))]
            for file, each in zip(files, records, strict=True):
                file.write_bytes(decode(each["value"]) or b"")
            ran = subprocess.run([*self._command(*arguments, **settings), *map(str, files)], capture_output=True)
        places = [[int(partition), int(offset)] for partition, offset in DELIVERED.findall(ran.stderr)]
        if ran.returncode or len(places) != len(records):
            raise Failed(None, "kcat", ran.stderr.decode(errors="replace")[-500:])
        return places

    def consume(self, topic: str, count: int, timeout_s: float, isolation: str = "read_uncommitted") -> Any:
        command = self._command(
            "-C", "-t", topic, "-o", "beginning", "-u", "-q", "-f", FORMAT, isolation_level=isolation
        )
        running = Running(command)
        try:
            return running.take(count, timeout_s)
        finally:
            running.end()

    def join(
        self,
        member: str,
        group: str,
        topics: list[str],
        assignor: str = "range",
        protocol: str = "classic",
        instance: str | None = None,
        session_ms: int = 10_000,
        auto_commit: bool = False,
        pattern: str | None = None,
        later: bool = False,
    ) -> Any:
        if protocol != "classic":
            raise Unsupported("the librdkafka it is built with has no such protocol")
        if assignor == "cooperative-sticky":
            raise Unsupported("it takes over whole assignments")
        if not auto_commit:
            raise Unsupported("it commits by itself, or not at all")
        settings = {
            "partition_assignment_strategy": assignor,
            "session_timeout_ms": session_ms,
            "topic_metadata_refresh_interval_ms": 1_000,
            "auto_offset_reset": "earliest",
            **({} if instance is None else {"group_instance_id": instance}),
        }
        wanted = [f"^{pattern}"] if pattern is not None else topics
        self.members[member] = Running(self._command("-G", group, "-u", "-f", FORMAT, **settings) + wanted)
        return {}

    def poll(self, member: str, count: int, timeout_s: float) -> Any:
        return self.members[member].take(count, timeout_s)

    def assignment(self, member: str) -> Any:
        return [list(each) for each in self.members[member].assigned]

    def leave(self, member: str, silent: bool = False) -> Any:
        if silent:
            raise Unsupported("it leaves when it ends")
        self.members.pop(member).end()
        return {}

    def admin_topics(self) -> Any:
        ran = subprocess.run(self._command("-L"), capture_output=True, text=True)
        return re.findall(r'topic "([^"]+)"', ran.stdout)

    def admin_cluster(self) -> Any:
        ran = subprocess.run(self._command("-L"), capture_output=True, text=True)
        [controller] = re.findall(r"broker (\d+) at \S+ \(controller\)", ran.stdout) or [None]
        if controller is None:
            raise Failed(None, "kcat", ran.stderr)
        return {
            "brokers": sorted(map(int, re.findall(r"^ +broker (\d+) at", ran.stdout, re.MULTILINE))),
            "controller": int(controller),
        }

    def admin_describe_topic(self, topic: str) -> Any:
        ran = subprocess.run(self._command("-L", "-t", topic), capture_output=True, text=True)
        found = re.findall(r"partition \d+, leader (-?\d+), replicas: (\S*), isrs: (\S*)", ran.stdout)
        return {
            "partitions": [
                {"leader": int(leader), "replicas": numbers(replicas), "isr": numbers(isr)}
                for leader, replicas, isr in found
            ]
        }

    def admin_offset_at(self, topic: str, partition: int, timestamp: int) -> Any:
        if timestamp == -3:
            raise Unsupported("no look-up of the largest time")
        asked = self._command("-Q", "-t", f"{topic}:{partition}:{timestamp}")
        ran = subprocess.run(asked, capture_output=True, text=True)
        found = re.findall(r"\[\d+\] offset (-?\d+)", ran.stdout)
        if len(found) != 1:
            raise Failed(None, "kcat", ran.stderr)
        return int(found[0])


def alike(records: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Neighbours that one run can send."""
    runs: list[list[dict[str, Any]]] = []
    for each in records:
        if not runs or kind(runs[-1][0]) != kind(each):
            runs.append([])
        runs[-1].append(each)
    return runs


def kind(each: dict[str, Any]) -> Any:
    return each["partition"], each["key"], each["headers"], not each["value"], each["value"] is None


def numbers(text: str) -> list[int]:
    return [int(each) for each in text.split(",") if each]


serve(Client())
