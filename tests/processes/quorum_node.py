"""One voter of a metadata quorum as a process of its own: the real quorum, network, clock and disk, and a state machine
that counts.

    python -m tests.processes.quorum_node ID DIRECTORY HOST:PORT,HOST:PORT,... [TOPICS]

With TOPICS its snapshots also hold an image of that many topics of six partitions.

Its parent talks to it in lines (quorum_cluster.py). On standard input:

    propose ID      propose the request ID                  answers: ok|failed|unknown ID REASON
    bench N COUNT   commit COUNT commands, N in flight      answers: bench JSON
    status          what it knows                           answers: status JSON
    requests        all requests it has applied, in order   answers: requests JSON

On standard output, besides the answers: `ready` once it takes part, `leads TERM` when it may decide.
"""

import asyncio
import json
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from ottla.log.chance import SystemChance
from ottla.log.checksum import crc32c
from ottla.log.clock import SystemClock
from ottla.log.model import BrokerId, LeaderEpoch, PartitionEpoch, TopicId
from ottla.log.storage import SystemStorage
from ottla.raft.handshake import PeerIdentity
from ottla.raft.image import MetadataImage, Partition, Topic
from ottla.raft.image_codec import image_pieces
from ottla.raft.quorum import MetadataQuorum, Outcome, Proposal
from ottla.raft.snapshot_keeper import Captured, StateHooks
from ottla.raft.transport import Endpoint

REQUEST = struct.Struct(">Q")
UNNAMED = 0
"""The request id of commands that are only counted."""
PAYLOAD = bytes(92)
"""Together with the request id a command of 100 bytes."""


class Ledger:
    """Applies each named request once, however often it was committed; ``digest`` is of all commands in order."""

    def __init__(self, topics: int = 0) -> None:
        self._ballast = image_of(topics) if topics else None
        self.count = 0
        self.digest = 0
        self.requests: list[int] = []
        self.repeated = 0
        self._known: set[int] = set()

    def apply(self, index: int, term: int, command: bytes) -> bytes:
        self.count += 1
        self.digest = crc32c(command, self.digest)
        (request,) = REQUEST.unpack_from(command)
        if request in self._known:
            self.repeated += 1
        elif request != UNNAMED:
            self._known.add(request)
            self.requests.append(request)
        return b""

    def capture(self) -> Captured:
        state = (self.count, self.digest, self.repeated, tuple(self.requests))
        return Captured(1, lambda: self._encode(state))

    def _encode(self, state: tuple[Any, ...]) -> Iterator[bytes]:
        encoded = msgspec.msgpack.encode(state)
        yield len(encoded).to_bytes(4, "big") + encoded
        if self._ballast is not None:
            yield from image_pieces(self._ballast)

    def restore(self, data: bytes) -> Callable[[], None]:
        own = data[4 : 4 + int.from_bytes(data[:4], "big")]
        count, digest, repeated, requests = msgspec.msgpack.decode(own, type=tuple[int, int, int, list[int]])

        def put() -> None:
            self.count, self.digest, self.repeated, self.requests = count, digest, repeated, requests
            self._known = set(requests)

        return put


def image_of(topics: int) -> MetadataImage:
    """An image with so many topics of six partitions."""
    replicas = tuple(map(BrokerId, (1, 2, 3)))
    state = Partition(replicas, replicas, (), None, BrokerId(1), LeaderEpoch(1), PartitionEpoch(1))
    made = [Topic(f"topic-{n}", TopicId(f"{n:022}"), (state,) * 6, {}) for n in range(topics)]
    return MetadataImage(topics={t.name: t for t in made}, topic_names={t.topic_id: t.name for t in made})


class QuorumNode:
    """The voter, and the conversation with its parent."""

    def __init__(self, node_id: int, directory: Path, addresses: list[str], topics: int) -> None:
        self._id = node_id
        self._addresses = addresses
        self._ledger = Ledger(topics)
        self._worker = ThreadPoolExecutor(1, "raft-wal")
        self._led = 0
        self._clock = SystemClock()
        self._tasks: set[asyncio.Task[None]] = set()
        voters = {
            number: Endpoint(address.partition(":")[0], int(address.partition(":")[2]), f"d{number}")
            for number, address in enumerate(addresses, 1)
        }
        self._quorum = MetadataQuorum(
            local=PeerIdentity(node_id=node_id, cluster_id="c", directory_id=f"d{node_id}"),
            voters=voters,
            directory=directory,
            storage=SystemStorage(),
            clock=self._clock,
            chance=SystemChance(),
            secret=b"a secret of the tests",
            apply=self._ledger.apply,
            state=StateHooks(self._ledger.capture, self._ledger.restore),
            run_blocking=lambda call: asyncio.get_running_loop().run_in_executor(self._worker, call),
            on_fatal=self._die,
        )

    async def run(self) -> None:
        """Until the parent closes standard input."""
        app = web.Application()
        self._quorum.add_routes(app)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        host, _, port = self._addresses[self._id - 1].partition(":")
        await web.TCPSite(runner, host, int(port)).start()
        self._quorum.add_listener(self._announce)
        await self._quorum.start()
        say("ready")
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            self._hear(line.split())
        await self._quorum.stop()
        await runner.cleanup()

    def _die(self, error: BaseException) -> None:
        print(f"fatal: {error!r}", file=sys.stderr, flush=True)
        os._exit(1)

    def _announce(self) -> None:
        if self._quorum.is_active and self._led != self._quorum.term:
            self._led = self._quorum.term
            say(f"leads {self._led}")

    def _hear(self, words: list[bytes]) -> None:
        match words:
            case [b"propose", request]:
                self._spawn(self._propose(int(request)))
            case [b"bench", in_flight, count]:
                self._spawn(self._bench(int(in_flight), int(count)))
            case [b"status"]:
                say(f"status {json.dumps(self._status())}")
            case [b"requests"]:
                say(f"requests {json.dumps(self._ledger.requests)}")
            case _:
                raise ValueError(words)

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _propose(self, request: int) -> None:
        proposal: Proposal = await self._quorum.propose(REQUEST.pack(request) + PAYLOAD)
        say(f"{proposal.outcome.value} {request} {proposal.reason}")

    def _status(self) -> dict[str, Any]:
        quorum, ledger = self._quorum, self._ledger
        return {
            "term": quorum.term,
            "leads": quorum.is_active,
            "applied": quorum.applied_index,
            "last": quorum.last_index,
            "count": ledger.count,
            "digest": ledger.digest,
            "repeated": ledger.repeated,
        }

    async def _bench(self, in_flight: int, count: int) -> None:
        left = count
        latencies: list[float] = []
        command = REQUEST.pack(UNNAMED) + PAYLOAD

        async def commit() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                began = time.perf_counter()
                proposal = await self._quorum.propose(command)
                assert proposal.outcome is Outcome.OK, proposal
                latencies.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(commit() for _ in range(in_flight)))
        seconds = time.perf_counter() - began
        latencies.sort()
        report = {
            "per_s": count / seconds,
            "p50_ms": latencies[len(latencies) // 2] * 1e3,
            "p99_ms": latencies[len(latencies) * 99 // 100] * 1e3,
            "max_ms": latencies[-1] * 1e3,
        }
        say(f"bench {json.dumps(report)}")


def say(line: str) -> None:
    """To the parent, at once: what was said before a kill is known to it."""
    os.write(sys.stdout.fileno(), line.encode() + b"\n")


async def main() -> None:
    node_id, directory, addresses, *topics = sys.argv[1:]
    await QuorumNode(int(node_id), Path(directory), addresses.split(","), int(topics[0]) if topics else 0).run()


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        asyncio.run(main())
    else:
        uvloop.run(main())
