"""Callbacks of the blocking SDK: in a thread of their own, where they may use it, and nothing else waits for them."""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ottla.client.classic_membership import ClassicMembership
from ottla.client.errors import OttlaError
from ottla.client.sync import GroupConsumer, connect
from ottla.log.model import TopicPartition
from tests.client.fake_broker import FakeCluster
from tests.client.test_consumer import fill

SECONDS_MAX = 20
KEY = TopicPartition("t", 0)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ottla-")]


def take_away(fake: FakeCluster) -> None:
    """The group gives the only member's partitions to nobody."""
    next(iter(fake.groups.members.values())).target = set()
    fake.groups.epoch += 1


def test_on_revoked_commits_before_the_partition_goes(fake: FakeCluster) -> None:
    fill(fake.create("t"), 0, 50)
    box: list[GroupConsumer] = []
    told: list[tuple[str, object, str]] = []

    def on_assigned(keys: object) -> None:
        told.append(("assigned", keys, threading.current_thread().name))
        box[0].seek("t", 0, 3)

    def on_revoked(keys: object) -> None:
        told.append(("revoked", keys, threading.current_thread().name))
        box[0].commit()

    with connect(fake.servers) as client:
        consumer = client.consumer(
            "t", group="g", auto_commit=False, on_assigned=on_assigned, on_revoked=on_revoked, commit_interval_s=0.01
        )
        box.append(consumer)
        with consumer:
            assert [next(consumer).offset for _ in range(4)] == [3, 4, 5, 6]
            take_away(fake)
            seen = len(fake.groups.heartbeats)
            until(lambda: len(fake.groups.heartbeats) > seen + 3)
            assert len(consumer.assignment) == 1  # 6 is in hand

            def read_on() -> None:
                with pytest.raises(OttlaError):
                    next(consumer)

            reader = threading.Thread(target=read_on)
            reader.start()  # the handler is done with 6
            until(lambda: not consumer.assignment)
            assert fake.groups.offsets["t", 0] == 7
            consumer.close()
            reader.join(SECONDS_MAX)
            assert not reader.is_alive()
        assert told == [(what, {KEY}, "ottla-callbacks") for what in ("assigned", "revoked")]
        assert threads() == ["ottla-client"], "the thread for callbacks ends with its consumer"
    assert not threads()


@pytest.mark.parametrize(("failing", "committed"), [(False, 5), (True, 4)])
def test_on_revoked_commits_what_the_handler_has_finished_and_no_more(
    fake: FakeCluster, failing: bool, committed: int
) -> None:
    fill(fake.create("t"), 0, 50)
    box: list[GroupConsumer] = []

    def read() -> None:
        with client.consumer("t", group="g", auto_commit=False, on_revoked=lambda _: box[0].commit()) as consumer:
            box.append(consumer)
            for record in consumer:
                if record.offset == 4:
                    if failing:
                        raise ZeroDivisionError
                    break

    with connect(fake.servers) as client:
        if failing:
            with pytest.raises(ZeroDivisionError):
                read()
        else:
            read()
    assert fake.groups.offsets["t", 0] == committed


def test_while_a_callback_waits_the_member_stays_and_others_read(fake: FakeCluster) -> None:
    fill(fake.create("t"), 0, 5)
    entered, may_go = threading.Event(), threading.Event()

    def on_assigned(_: object) -> None:
        entered.set()
        assert may_go.wait(SECONDS_MAX)

    with connect(fake.servers) as client, client.consumer("t", group="g", on_assigned=on_assigned) as consumer:
        assert entered.wait(SECONDS_MAX)
        seen = len(fake.groups.heartbeats)
        until(lambda: len(fake.groups.heartbeats) > seen + 3)
        with client.consumer("t") as other:
            assert next(other).offset == 0
        may_go.set()
        assert next(consumer).offset == 0


@pytest.mark.parametrize("what", ["next", "batches", "close", "leave", "close the client"])
def test_a_callback_that_would_wait_for_itself_is_told_so(fake: FakeCluster, what: str) -> None:
    fill(fake.create("t"), 0, 5)
    told: list[str] = []

    def on_assigned(_: object) -> None:
        try:
            {
                "next": lambda: next(consumer),
                "batches": lambda: next(consumer.batches()),
                "close": consumer.close,
                "close the client": client.close,
                "leave": lambda: consumer.__exit__(None, None, None),
            }[what]()
        except OttlaError as error:
            told.append(error.code)

    with connect(fake.servers) as client:
        consumer = client.consumer("t", group="g", on_assigned=on_assigned)
        with consumer:
            assert next(consumer).offset == 0
    assert told == ["OTTLA-IN-CALLBACK"]


def test_a_callback_that_never_returns_holds_up_neither_ctrl_c_nor_the_end(fake: FakeCluster) -> None:
    fill(fake.create("t"), 0, 5)
    entered, may_go = threading.Event(), threading.Event()

    def on_assigned(_: object) -> None:
        entered.set()
        may_go.wait()

    with connect(fake.servers) as client:
        with client.consumer("t", group="g", on_assigned=on_assigned):
            assert entered.wait(SECONDS_MAX)
        assert not fake.groups.members
    assert threads() == ["ottla-callbacks"]
    may_go.set()
    until(lambda: not threads())


async def test_an_assignor_of_ones_own_may_be_awaited() -> None:
    """As the blocking SDK hands them on, so that they run in its other thread."""

    class Mine:
        name, cooperative = "mine", True

        async def assign(self, members: Any, partitions: Any) -> Any:
            return {"m": frozenset({KEY})}

    about = SimpleNamespace(assignors=(Mine(),))
    subscribed = SimpleNamespace(note=lambda: None)
    coordinator = SimpleNamespace(cluster=SimpleNamespace(refresh=None))
    member = ClassicMembership(coordinator, about, subscribed, SimpleNamespace())  # type: ignore[arg-type]

    async def count(_: object) -> dict[str, int]:
        return {}

    member._count = count  # type: ignore[method-assign]
    joined: Any = SimpleNamespace(
        protocol_name="mine", members=[SimpleNamespace(member_id="m", metadata=b"", group_instance_id=None)]
    )
    assert [one.member_id for one in await member._assign(joined)] == ["m"]
