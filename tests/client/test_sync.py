"""The blocking SDK: the same names as the original, the same promises, no deadlock."""

import contextlib
import inspect
import signal
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ottla.client import admin, client, consumer, group_consumer, producer, sync
from ottla.client.error_codes import ErrorCode
from ottla.client.errors import OttlaError, TopicNotFound
from ottla.client.in_hand import InHand, Lease
from ottla.client.records import ConsumerRecord
from ottla.client.sync import GroupConsumer, connect
from ottla.log.clock import SystemClock
from ottla.log.model import TopicPartition
from tests.client.fake_broker import FakeCluster
from tests.client.test_consumer import fill

PAIRS = [
    (admin.Admin, sync.Admin),
    (producer.Producer, sync.Producer),
    (consumer.Consumer, sync.Consumer),
    (group_consumer.GroupConsumer, sync.GroupConsumer),
    (client.Client, sync.Client),
]
NOT_FOR_USERS = {
    consumer.Consumer: {"take_back", "decode_elsewhere"},
    group_consumer.GroupConsumer: {"take_lease", "lease_moved", "show", "decode_elsewhere"},
    producer.Producer: {"encoded", "send_encoded"},
}
SECONDS_MAX = 20
KEY = TopicPartition("t", 0)


def public(kind: type) -> dict[str, Any]:
    named = {name: value for base in reversed(kind.__mro__) for name, value in vars(base).items()}
    return {name: value for name, value in named.items() if not name.startswith("_")}


@pytest.mark.parametrize(("original", "mirror"), PAIRS, ids=lambda kind: kind.__module__ + "." + kind.__name__)
def test_the_mirror_has_every_name_with_the_same_parameters_and_no_other(original: type, mirror: type) -> None:
    names = set(public(original)) - NOT_FOR_USERS.get(original, set())
    assert set(public(mirror)) == names
    for name in names:
        ours, theirs = public(mirror)[name], public(original)[name]
        assert isinstance(ours, property) == isinstance(theirs, property), name
        if not isinstance(theirs, property):
            parameters = [
                [(p.name, p.kind, p.default) for p in inspect.signature(one).parameters.values()]
                for one in (ours, theirs)
            ]
            assert parameters[0] == parameters[1], name
            assert not inspect.iscoroutinefunction(inspect.unwrap(ours)) or ours is not inspect.unwrap(ours), name


def test_produce_and_consume(fake: FakeCluster) -> None:
    fake.create("t", 2)
    with connect(fake.servers) as client:
        with client.producer() as producer:
            assert producer.send("t", b"0", partition=0).offset == 0
            futures = [producer.send_nowait("t", b"%d" % number, partition=0) for number in range(1, 300)]
            assert [future.result().offset for future in futures] == list(range(1, 300))
            producer.flush()
            assert producer.metrics().records_acknowledged == 300
        with client.consumer("t") as consumer:
            assert [record.offset for record in consumer.read_to_end()] == list(range(300))
            consumer.seek("t", 0, 10)
            assert [next(consumer).offset for _ in range(150)] == list(range(10, 160))
            assert consumer.position(0) == 160
            consumer.pause()
            consumer.resume()
            assert next(consumer).offset == 160  # what had crossed to this thread was given back
            assert [len(batch) for _, batch in zip(range(2), consumer.batches(max_records=7), strict=False)] == [7, 7]
        assert len(client.admin.list_topics()) == 1
        with pytest.raises(TopicNotFound):
            client.admin.delete_topic("nope")
    assert not [thread for thread in threading.enumerate() if thread.name == "ottla-client"]


def test_a_group_commits_what_was_finished_and_no_more(fake: FakeCluster) -> None:
    fill(fake.create("t"), 0, 50)
    with connect(fake.servers) as client:
        with client.consumer("t", group="g", commit_interval_s=0.01) as consumer:
            assert [next(consumer).offset for _ in range(8)] == list(range(8))
            _until(lambda: fake.groups.offsets.get(("t", 0)) == 7)  # 7 is in hand, the others of its batch unseen
            consumer.commit()
            assert fake.groups.offsets["t", 0] == 8
            seen = len(fake.groups.heartbeats)
            _until(lambda: len(fake.groups.heartbeats) > seen + 3)
            assert fake.groups.offsets["t", 0] == 8
            assert consumer.position("t", 0) == 8
            assert [record.offset for record in next(consumer.batches(max_records=3))] == [8, 9, 10]
            consumer.seek("t", 0, 20)
            assert next(consumer).offset == 20
            consumer.commit_nowait({("t", 0): 21}).result(SECONDS_MAX)
        assert fake.groups.offsets["t", 0] == 21
        assert not fake.groups.members


def test_what_is_revoked_is_handed_out_no_more(fake: FakeCluster) -> None:
    fill(fake.create("t"), 0, 50)
    with connect(fake.servers) as client, client.consumer("t", group="g", commit_interval_s=0.01) as consumer:
        assert [next(consumer).offset for _ in range(5)] == list(range(5))
        next(iter(fake.groups.members.values())).target = set()
        fake.groups.epoch += 1
        seen = len(fake.groups.heartbeats)
        _until(lambda: len(fake.groups.heartbeats) > seen + 3)
        assert len(consumer.assignment) == 1  # record 4 is in hand

        def wait() -> None:
            with contextlib.suppress(OttlaError):
                next(consumer)

        waiting = threading.Thread(target=wait)
        waiting.start()
        _until(lambda: not consumer.assignment)
        assert fake.groups.offsets["t", 0] == 5
        consumer.close()
        waiting.join(SECONDS_MAX)
        assert not waiting.is_alive()


def test_an_exception_leaves_the_record_in_hand_to_the_next(fake: FakeCluster) -> None:
    fill(fake.create("t"), 0, 10)

    def fail_at(offset: int) -> None:
        with connect(fake.servers) as client, client.consumer("t", group="g") as consumer:
            for record in consumer:
                if record.offset == offset:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_at(4)
    assert fake.groups.offsets["t", 0] == 4
    assert not fake.groups.members


async def test_within_a_coroutine_it_says_so_at_once() -> None:
    with pytest.raises(OttlaError) as raised:
        connect("127.0.0.1:1").admin.list_topics()
    assert raised.value.code == "OTTLA-BLOCKING-IN-LOOP"
    assert ErrorCode.NONE == 0


def test_nothing_goes_on_after_the_end(fake: FakeCluster) -> None:
    with connect(fake.servers) as client:
        pass
    with pytest.raises(OttlaError) as raised:
        client.admin.list_topics()
    assert raised.value.code == "OTTLA-CLOSED"
    client.close()


@pytest.fixture
def heeding_ctrl_c() -> Iterator[None]:
    """Whoever runs the tests in the background has them ignore it, as shells do for what they run there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding_ctrl_c")
def test_ctrl_c_ends_a_wait(fake: FakeCluster) -> None:
    fake.create("t")
    me = threading.get_ident()
    with connect(fake.servers) as client, client.consumer("t") as consumer:
        timer = threading.Timer(0.1, lambda: signal.pthread_kill(me, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            next(consumer)


def _until(condition: Any) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class LoopBetween(Lease):
    """Of which the loop's thread takes all back, behind the handler's record, right after that thread went on to
    ``at``."""

    def __init__(self, hand: InHand, at: int) -> None:
        self.hand, self.at, self.taken = hand, at, {}
        super().__init__([ConsumerRecord("t", 0, offset, 1, None, b"", ()) for offset in range(4)], one_by_one=True)
        self.index = -1
        hand.lease(self)

    @property
    def index(self) -> int:
        return self.went_to

    @index.setter
    def index(self, index: int) -> None:
        self.went_to = index
        if index == self.at > 0:
            self.taken = self.hand.take_back({KEY})


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_record_that_is_taken_back_while_the_handler_goes_on_to_it_is_handled_or_read_again(at: int) -> None:
    hand = InHand(SystemClock())
    lease = LoopBetween(hand, at)

    def run(make: object) -> Lease:
        if lease.went_to == 3:
            raise LookupError("it is through")
        if at == 0:  # after the lease was made, and before the handler has seen it
            lease.taken = hand.take_back({KEY})
        return lease

    consumer = GroupConsumer(SimpleNamespace(lease_moved=None), SimpleNamespace(run=run, tell=lambda call: None))
    handled = []
    with contextlib.suppress(LookupError):
        while True:
            handled.append(next(consumer).offset)
    assert handled == list(range(lease.taken[KEY])), "and what is read again begins there"
