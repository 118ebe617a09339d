"""Server-sent events: every record once over any number of connections, and no reader that costs more than it may."""

import contextlib
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from hypothesis import given, strategies as st

from ottla.broker.http import events
from ottla.broker.http.event_ids import BadEventId, id_of_positions, id_of_record, positions_of
from ottla.client import sync
from ottla.client.testing import LocalCluster

EVENTS = {"accept": "text/event-stream"}
TIMEOUT_S = 30


class Event(NamedTuple):
    name: str
    identity: str
    data: object


def get(cluster: LocalCluster, path: str, headers: Mapping[str, str] = EVENTS) -> str:
    """The whole answer: of a stream, give a limit."""
    request = urllib.request.Request(f"http://{next(iter(cluster))}{path}", headers=dict(headers))
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        return response.read().decode()


def parsed(text: str) -> list[Event]:
    """As a browser does: an id holds until the next one, and what has no data is no event."""
    found, identity = [], ""
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        identity = fields.get("id", identity)
        if "data" in fields:
            found.append(Event(fields.get("event", "message"), identity, json.loads(fields["data"])))
    return found


def stream(cluster: LocalCluster, query: str, seen: str | None = None) -> list[Event]:
    headers = EVENTS if seen is None else {**EVENTS, "Last-Event-ID": seen}
    return parsed(get(cluster, f"/v1/topics/orders/records?{query}", headers))


def refused(cluster: LocalCluster, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
    with pytest.raises(urllib.error.HTTPError) as caught:
        get(cluster, path, headers)
    document = json.loads(caught.value.read())
    assert caught.value.headers["content-type"] == "application/problem+json"
    return caught.value.code, document["code"]


def values(found: list[Event]) -> list[int]:
    return [event.data["value"]["data"] for event in found]  # type: ignore[index]


def send(cluster: LocalCluster, numbers: range, *, partitions: int = 3) -> None:
    with sync.connect(cluster) as client:
        if "orders" not in {topic.name for topic in client.admin.list_topics()}:
            client.admin.create_topic("orders", partitions=partitions)
        with client.producer() as producer:
            for number in numbers:
                producer.send("orders", b"%d" % number, partition=number % partitions)


# --- ids -------------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.integers(0, 40), st.integers(0, (1 << 62) - 1), max_size=20), st.integers(41, 500))
def test_positions_come_back(positions: dict[int, int], count: int) -> None:
    assert positions_of(id_of_positions("t", positions), "t", None, count) == positions


def test_an_id_stays_small() -> None:
    assert len(id_of_positions("t", dict.fromkeys(range(6), 1_000_000))) < 40
    assert len(id_of_positions("t", dict.fromkeys(range(500), 10**9))) < 4_000


@given(st.text(max_size=30) | st.binary(max_size=30).map(lambda data: "~" + data.hex()), st.none() | st.integers(0, 3))
def test_any_text_is_an_id_or_a_bad_one(text: str, partition: int | None) -> None:
    with contextlib.suppress(BadEventId):
        assert all(0 <= offset <= 1 << 62 for offset in positions_of(text, "t", partition, 4).values())


# --- streams ---------------------------------------------------------------------------------------------------------


def test_a_reader_that_comes_back_sees_every_record_once(ottla_cluster: LocalCluster) -> None:
    send(ottla_cluster, range(20))
    found = stream(ottla_cluster, "limit=7")
    while len(found) < 20:
        found += stream(ottla_cluster, f"limit={min(5, 20 - len(found))}", found[-1].identity)
    assert sorted(values(found)) == list(range(20))
    send(ottla_cluster, range(20, 23))
    assert sorted(values(stream(ottla_cluster, "limit=3&from=end", found[-1].identity))) == [20, 21, 22]


def test_one_partition_goes_on_behind_the_last_record(ottla_cluster: LocalCluster) -> None:
    send(ottla_cluster, range(9))
    found = stream(ottla_cluster, "partition=1&limit=2")
    assert [event.identity for event in found] == ["1:0", "1:1"]
    assert values(stream(ottla_cluster, "partition=1&limit=1", found[-1].identity)) == [7]


def test_who_saw_nothing_goes_on_from_where_it_connected(ottla_cluster: LocalCluster) -> None:
    send(ottla_cluster, range(4))
    request = urllib.request.Request(
        f"http://{next(iter(ottla_cluster))}/v1/topics/orders/records?from=end", headers=EVENTS
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        assert response.readline() == b"retry: 2000\n"
        identity = response.readline().decode().removeprefix("id: ").strip()
    send(ottla_cluster, range(4, 8))
    assert sorted(values(stream(ottla_cluster, "from=end&limit=4", identity))) == [4, 5, 6, 7]


def test_what_is_gone_meanwhile_is_told(ottla_cluster: LocalCluster) -> None:
    send(ottla_cluster, range(10), partitions=1)
    (first,) = stream(ottla_cluster, "limit=1")
    with sync.connect(ottla_cluster) as client:
        client.admin.delete_records("orders", {0: 6})
    gap, record = stream(ottla_cluster, "limit=1", first.identity)
    assert (gap.name, gap.data) == ("gap", {"partition": 0, "from": 1, "to": 6})
    assert values([record]) == [6]


def test_an_id_that_is_none_is_a_problem(ottla_cluster: LocalCluster) -> None:
    send(ottla_cluster, range(3))
    other = id_of_positions("another topic", {0: 1})
    (event,) = stream(ottla_cluster, "limit=1")
    for query, identity in (
        ("", "yesterday"),
        ("", "0:1"),
        ("", "~"),
        ("", other),
        ("", event.identity[:-3]),
        ("partition=1", event.identity),
        ("partition=1", id_of_record(2, 5)),
        ("partition=1", "1:" + "9" * 19),
    ):
        headers = {**EVENTS, "Last-Event-ID": identity}
        path = f"/v1/topics/orders/records?{query}"
        assert refused(ottla_cluster, path, headers) == (400, "OTTLA-INVALID-EVENT-ID")
    assert refused(ottla_cluster, "/v1/topics/absent/records", EVENTS)[0] == 404


def test_a_group_shows_where_to_begin_and_is_left_alone(ottla_cluster: LocalCluster) -> None:
    send(ottla_cluster, range(5), partitions=1)
    with (
        sync.connect(ottla_cluster) as client,
        client.consumer("orders", group="billing", auto_commit=False) as consumer,
    ):
        for _ in range(3):
            next(consumer)
        consumer.commit()
    for _ in range(2):
        shown = json.loads(get(ottla_cluster, "/v1/topics/orders/records?group=billing", {}))
        assert [record["offset"] for record in shown] == [3, 4]
    assert values(stream(ottla_cluster, "group=billing&limit=2")) == [3, 4]
    assert json.loads(get(ottla_cluster, "/v1/groups/billing", {}))["lag"] == 2
    path = "/v1/topics/orders/records?group=nobody"
    assert refused(ottla_cluster, path, {}) == (404, "OTTLA-GROUP-ID-NOT-FOUND")


def test_a_reader_that_takes_nothing_is_dropped(ottla_cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    dropped = threading.Event()
    monkeypatch.setattr(events, "STALL_S", 0.2)
    monkeypatch.setattr(events, "log", SimpleNamespace(info=lambda *_, **__: dropped.set()))
    with sync.connect(ottla_cluster) as client, client.producer() as producer:
        for _ in range(40):
            producer.send("orders", b"x" * 500_000, partition=0)
    host, _, port = next(iter(ottla_cluster)).rpartition(":")
    with socket.create_connection((host, int(port)), TIMEOUT_S) as reader:
        reader.sendall(
            f"GET /v1/topics/orders/records HTTP/1.1\r\nhost: {host}\r\naccept: {events.SSE}\r\n\r\n".encode()
        )
        assert dropped.wait(TIMEOUT_S)
        taken = 0
        with contextlib.suppress(ConnectionResetError):
            while found := reader.recv(1 << 20):
                taken += len(found)
        assert taken < 20_000_000  # what was on its way in the kernels, and no more
