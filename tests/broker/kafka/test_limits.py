"""Connections: too many, too silent, too slow; and what the rest notices of them."""

import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from ottla.broker.kafka.versions import ApiKey
from ottla.client.testing import LocalCluster, cluster

from .kio_bytes import frame_of, request_class
from .node import Raw

MANY = 10_000
SERVED = 300


@pytest.fixture
def small() -> Iterator[LocalCluster]:
    with cluster(kafka=True, connections_max=SERVED, handshake_timeout_ms=60_000) as running:
        yield running


def ask(connection: Raw) -> None:
    assert connection.ask(request_class(ApiKey.API_VERSIONS, 0)()).error_code == 0


def test_ten_thousand_silent_connections_are_refused_above_the_limit_and_the_rest_is_served(
    small: LocalCluster,
) -> None:
    """As many at once as this process may have files for."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    at_once = min(MANY, files // 2 - 2 * SERVED)
    host, port = small.kafka_servers[0].split(":")
    with Raw(small.kafka_servers[0]) as early:
        ask(early)
        made = 0
        while made < MANY:
            silent = [socket.create_connection((host, int(port)), timeout=30) for _ in range(min(at_once, MANY - made))]
            made += len(silent)
            refused = sum(_is_closed(each) for each in silent[SERVED:])
            assert refused == len(silent[SERVED:])
            ask(early)
            for each in silent:
                each.close()
        ask(early)
    _until_served(small)


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def _until_served(small: LocalCluster) -> None:
    """There is room again once the node has heard of the others' end."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with Raw(small.kafka_servers[0]) as late:
                ask(late)
                return
        except (AssertionError, ConnectionError):
            continue
    raise AssertionError("nobody is served any more")


def test_one_that_says_nothing_or_half_a_word_is_hung_up_on() -> None:
    with cluster(kafka=True, handshake_timeout_ms=200, stream_send_timeout_ms=200) as running:
        with Raw(running.kafka_servers[0]) as silent, Raw(running.kafka_servers[0]) as slow:
            slow.write(struct.pack(">i", 100) + b"half")
            assert silent.receive() is None
            assert slow.receive() is None
        with Raw(running.kafka_servers[0]) as known:
            ask(known)
            known.write(struct.pack(">i", 100) + b"half")
            assert known.receive() is None


def test_one_that_has_spoken_may_be_silent_until_it_is_idle_for_too_long() -> None:
    with (
        cluster(kafka=True, handshake_timeout_ms=100, connections_max_idle_ms=3_000) as running,
        Raw(running.kafka_servers[0]) as known,
        Raw(running.kafka_servers[0]) as silent,
    ):
        ask(known)
        assert silent.receive() is None
        ask(known)
        assert known.receive() is None, "after three seconds"


def test_a_large_request_of_another_kind_than_produce_is_refused() -> None:
    with cluster(kafka=True, kafka_request_bytes_max=1_000) as running, Raw(running.kafka_servers[0]) as connection:
        topics = request_class(ApiKey.METADATA, 1).__annotations__
        assert topics
        connection.send(frame_of(request_class(ApiKey.API_VERSIONS, 0)()) + bytes(2_000))
        assert connection.receive() is None


def test_who_does_not_take_answers_is_dropped_and_holds_nobody_up() -> None:
    with cluster(kafka=True, stream_send_timeout_ms=500) as running:
        host, port = running.kafka_servers[0].split(":")
        greedy = socket.create_connection((host, int(port)), timeout=30)
        frame = frame_of(request_class(ApiKey.API_VERSIONS, 0)())
        ended = threading.Event()

        def pour() -> None:
            try:
                while True:
                    greedy.sendall(struct.pack(">i", len(frame)) + frame)
            except TimeoutError:
                pass  # it is let hang
            except OSError:
                ended.set()

        threading.Thread(target=pour, daemon=True).start()
        with Raw(running.kafka_servers[0]) as other:
            for _ in range(400):
                if ended.wait(0.05):
                    break
                ask(other)
            assert ended.is_set()
        greedy.close()
