"""Valid histories out of a seed: a model of a log and of clients who do everything that is legal.

Sends of several records, gaps in the offsets, sends that end as info and are stored at once, later or never, sends
that fail, polls of a part, polls that end as info, assignments that keep, drop and begin anew, crashes, transactions
that both send and poll and may be aborted, and in the end every process reads everything. Mutations turn them into
invalid ones.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from .history import History, Op, OpType

STEP_NS = 2_000_000
POLL_MAX = 12
KEYS = 6


@dataclass
class Log:
    """One key. ``records`` are [offset, value] and visible at once."""

    records: list[list[int]] = field(default_factory=list)
    end: int = 0

    def append(self, value: int) -> int:
        offset = self.end
        self.records.append([offset, value])
        self.end += 1
        return offset


@dataclass
class Client:
    """One thread; its process changes with each crash."""

    process: int
    positions: dict[int, int] = field(default_factory=dict)  # key -> place in the records
    stored: list[Any] = field(default_factory=list)  # what its last acknowledged send was told


@dataclass
class Late:
    """Records of one send to one key; it ended as info, and they arrive later."""

    key: int
    values: list[int]


UnderWay = tuple[Client, Op, OpType, Any, str | None]
"""Who does what, and how it will end."""


class Model:
    """``history`` is complete after ``run``."""

    def __init__(
        self,
        seed: int,
        operations: int = 10_000,
        clients: int = 5,
        *,
        subscribe: bool = False,
        resend: bool = False,
    ) -> None:
        self.history = History(self._tick)
        self._chance = Random(seed)
        self._operations = operations
        self._logs = {key: Log() for key in range(KEYS)}
        self._clients = [Client(number) for number in range(clients)]
        self._next_process = clients
        self._next_value = 0
        self._late: list[Late] = []
        self._now_ns = 0
        self._subscribe = subscribe
        self._resend = resend

    def run(self) -> list[Op]:
        """All operations, then all processes read all keys from the beginning."""
        busy: list[UnderWay] = []
        while len(self.history.ops) < 2 * self._operations:
            idle = [client for client in self._clients if all(client is not other[0] for other in busy)]
            if idle and (len(busy) < 2 or self._chance.random() < 0.5):
                busy.append(self._begin(self._chance.choice(idle)))
            else:
                self._end(busy.pop(self._chance.randrange(len(busy))))
        for rest in busy:
            self._end(rest)
        for client in self._clients:
            self._read_all(client)
        return self.history.ops

    def _tick(self) -> int:
        self._now_ns += self._chance.randrange(1, STEP_NS)
        return self._now_ns

    def _begin(self, client: Client) -> UnderWay:
        """What it does takes effect at once; what it is told may come while others act."""
        dice = self._chance.random()
        if dice < 0.004:
            op = self.history.invoke(client.process, "crash")
            return client, op, "info", None, None
        if not client.positions or dice < 0.02:
            return self._assign(client)
        if dice < 0.5:
            return self._send(client)
        if dice < 0.54:
            return self._transaction(client)
        return self._poll(client)

    def _end(self, under_way: UnderWay) -> None:
        client, op, type_, value, error = under_way
        self.history.complete(op, type_, value, error)
        if op.f == "crash" or (op.f == "send" and type_ == "info"):
            # As Jepsen's: the producer is given up too, for its records may still arrive behind those of the next.
            client.process, client.positions, client.stored = self._next_process, {}, []
            self._next_process += 1

    def _assign(self, client: Client) -> UnderWay:
        keys = sorted(self._chance.sample(range(KEYS), self._chance.randint(1, KEYS)))
        from_beginning = self._chance.random() < 0.2
        value = {"keys": keys, "from_beginning": from_beginning}
        op = self.history.invoke(client.process, "subscribe" if self._subscribe else "assign", value)
        kept = {} if from_beginning else client.positions
        client.positions = {key: kept.get(key, 0) for key in keys}
        return client, op, "ok", value, None

    def _send(self, client: Client) -> UnderWay:
        if self._resend and client.stored and self._chance.random() < 0.3:
            again = [["send", key, value] for _, key, (_, value) in client.stored]
            return client, self.history.invoke(client.process, "send", again), "ok", client.stored, None
        asked = [(self._chance.randrange(KEYS), self._value()) for _ in range(self._chance.choice((1, 1, 1, 2, 4)))]
        op = self.history.invoke(client.process, "send", [["send", key, value] for key, value in asked])
        dice = self._chance.random()
        if dice < 0.03:
            return client, op, "fail", op.value, "NOT_ENOUGH_REPLICAS"
        if dice < 0.06:
            self._leave_unknown(asked)
            return client, op, "info", op.value, "REQUEST_TIMED_OUT"
        done = []
        for key, value in asked:
            offset = self._store(key, value)
            done.append(["send", key, [None if self._chance.random() < 0.02 else offset, value]])
        client.stored = done
        return client, op, "ok", done, "retried" if self._chance.random() < 0.05 else None

    def _leave_unknown(self, asked: list[tuple[int, int]]) -> None:
        """Stored now, stored when nobody waits any more, or never."""
        fate = self._chance.random()
        if fate < 0.3:
            for key, value in asked:
                self._store(key, value)
        elif fate < 0.6:
            for key in {key: None for key, _ in asked}:
                self._late.append(Late(key, [value for other, value in asked if other == key]))

    def _store(self, key: int, value: int) -> int:
        log = self._logs[key]
        if self._chance.random() < 0.1:
            log.end += self._chance.randint(1, 3)  # markers, and batches that were given up
        for late in [late for late in self._late if late.key == key and self._chance.random() < 0.2]:
            self._late.remove(late)
            for one in late.values:
                log.append(one)
        return log.append(value)

    def _value(self) -> int:
        self._next_value += 1
        return self._next_value

    def _transaction(self, client: Client) -> UnderWay:
        key, value = self._chance.randrange(KEYS), self._value()
        op = self.history.invoke(client.process, "txn", [["poll"], ["send", key, value]])
        if self._chance.random() < 0.1:
            return client, op, "fail", op.value, "aborted"
        polled = self._take(client)
        offset = self._store(key, value)
        return client, op, "ok", [["poll", polled], ["send", key, [offset, value]]], None

    def _take(self, client: Client) -> list[list[Any]]:
        polled: list[list[Any]] = []
        for key in self._chance.sample(sorted(client.positions), len(client.positions)):
            at = client.positions[key]
            records = self._logs[key].records[at : at + self._chance.randint(0, POLL_MAX)]
            client.positions[key] = at + len(records)
            if records:
                polled.append([key, [list(record) for record in records]])
        return polled

    def _poll(self, client: Client) -> UnderWay:
        op = self.history.invoke(client.process, "poll", [["poll"]])
        if self._chance.random() < 0.01:
            before = dict(client.positions)
            polled = self._take(client)
            client.positions = before
            return client, op, "info", [["poll", polled]], "REQUEST_TIMED_OUT"
        return client, op, "ok", [["poll", self._take(client)]], None

    def _read_all(self, client: Client) -> None:
        value = {"keys": list(range(KEYS)), "from_beginning": True}
        op = self.history.invoke(client.process, "assign", value)
        self.history.complete(op, "ok", value)
        client.positions = dict.fromkeys(range(KEYS), 0)
        while any(client.positions[key] < len(log.records) for key, log in self._logs.items()):
            op = self.history.invoke(client.process, "poll", [["poll"]])
            self.history.complete(op, "ok", [["poll", self._take(client)]])


def valid_history(seed: int, operations: int = 10_000, *, subscribe: bool = False, resend: bool = False) -> list[Op]:
    """``operations`` and the final polls; the same for the same seed. ``resend``: values are sent again, and stored
    once."""
    return Model(seed, operations, subscribe=subscribe, resend=resend).run()


NAMES = 8


def valid_topics(seed: int, operations: int = 2_000, clients: int = 5) -> list[Op]:
    """Topics that are made, altered, deleted and listed by several at once; every configuration is used once."""
    chance = Random(seed)
    moment = iter(range(1, 1 << 60))
    history = History(lambda: next(moment))
    topics: dict[str, int] = {}
    busy: dict[int, tuple[Op, OpType, Any, str | None]] = {}
    while len(history.ops) < 2 * operations:
        process = chance.randrange(clients)
        if process in busy:
            history.complete(*busy.pop(process))
        else:
            busy[process] = _topic_operation(history, chance, topics, process)
    for under_way in busy.values():
        history.complete(*under_way)
    return history.ops


def _topic_operation(
    history: History, chance: Random, topics: dict[str, int], process: int
) -> tuple[Op, OpType, Any, str | None]:
    if chance.random() < 0.4:
        current = chance.random() < 0.8
        return history.invoke(process, "list", {"current": current}), "ok", dict(topics), None
    f, name = chance.choice(("create", "create", "alter", "delete")), f"topic-{chance.randrange(NAMES)}"
    value = {"topic": name} if f == "delete" else {"topic": name, "config": len(history.ops)}
    op = history.invoke(process, f, value)
    dice = chance.random()
    if dice < 0.02:
        return op, "info", None, "REQUEST_TIMED_OUT"  # and it never happened
    if (f == "create") == (name in topics):
        return op, "fail", None, "TOPIC_ALREADY_EXISTS" if f == "create" else "UNKNOWN_TOPIC_OR_PARTITION"
    if f == "delete":
        del topics[name]
    else:
        topics[name] = value["config"]  # type: ignore[assignment]
    return (op, "info", None, "REQUEST_TIMED_OUT") if dice < 0.04 else (op, "ok", None, None)
