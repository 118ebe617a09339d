"""What the port itself holds its connections to."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ottla.broker.config import load_settings
from ottla.broker.http.streams import InflightBudget
from ottla.broker.kafka import door as door_module
from ottla.broker.kafka.caller import Caller
from ottla.broker.kafka.door import KafkaDoor, Served
from ottla.broker.kafka.header import CLIENT_ID_MAX, Header, read_header
from ottla.broker.kafka.versions import ApiKey
from ottla.broker.metrics import Metrics

from .kio_bytes import frame_of, request_class

MAX = 1 << 20


class Silent:
    """A connection whose time is up."""

    deadline_s = 0.0

    def __init__(self, busy: bool) -> None:
        self.busy = busy
        self.ended = asyncio.Event()

    def hang_up(self) -> None:
        self.ended.set()


async def nothing() -> None: ...


def door_of(tmp_path: Path, inflight: int = MAX, **served: Any) -> KafkaDoor:
    settings = load_settings({"data": str(tmp_path), "kafka": "127.0.0.1:0", "inflight_bytes_max": 256 << 20})
    door = KafkaDoor(settings, Metrics(), InflightBudget(inflight))
    view: Any = None
    door._served = Served(view, served.get("has_room", lambda: True), nothing)
    door._metadata = view or object()
    return door


async def test_who_waits_for_an_answer_is_not_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "SWEEP_S", 0.0)
    door, busy, idle = door_of(tmp_path), Silent(True), Silent(False)
    door._connections = {busy: None, idle: None}  # type: ignore[dict-item]
    sweeping = asyncio.create_task(door._sweep())
    await idle.ended.wait()
    sweeping.cancel()
    assert not busy.ended.is_set()


async def test_who_was_about_to_come_in_is_not_let_in_where_the_door_finishes(tmp_path: Path) -> None:
    door, first, second = door_of(tmp_path), Silent(False), Silent(False)
    assert door.opened(first)  # type: ignore[arg-type]
    door.closed(first)  # type: ignore[arg-type]
    door.finish()
    assert not door.opened(second)  # type: ignore[arg-type]


async def test_what_is_not_whole_is_bounded_over_all_connections(tmp_path: Path) -> None:
    door = door_of(tmp_path)
    most = 256 << 20
    assert door.holds(most)
    assert not door.holds(1)
    assert door.holds(-2)
    assert door.holds(1)


@pytest.mark.parametrize(("inflight", "disk", "room"), [(MAX, True, True), (5, True, False), (MAX, False, False)])
async def test_the_next_request_waits_for_room_in_the_node(
    tmp_path: Path, inflight: int, disk: bool, room: bool
) -> None:
    assert door_of(tmp_path, inflight, has_room=lambda: disk).taken(5) == room


async def test_who_takes_answers_slowly_leaves_less_for_the_next_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    async def fetched(view: Any, caller: Caller, header: Header, frame: memoryview, bytes_max: int, *rest: Any) -> Any:
        given.append(bytes_max)

    monkeypatch.setattr(door_module, "fetch", fetched)
    door, header = door_of(tmp_path), Header(ApiKey.FETCH, 12, 1, "", 0)
    for unsent in (0, 200 << 20, 100 << 20, -(300 << 20)):
        door.unsent(unsent)
        await door.answer(Caller("", ""), header, memoryview(b""))
    assert given == [256 << 20, 56 << 20, 1, 256 << 20]


@pytest.mark.parametrize("version", [0, 3])
def test_a_name_of_a_client_is_kept_to_a_length(version: int) -> None:
    header = read_header(memoryview(frame_of(request_class(ApiKey.LIST_GROUPS, version)(), "x" * 3_000)))
    assert header.client_id == "x" * CLIENT_ID_MAX
