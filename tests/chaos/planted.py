"""Small histories with one thing wrong each, and good ones that look wrong: what every checker must say of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from .checkers.acks01 import check_acks01
from .checkers.findings import Findings
from .checkers.group import check_group
from .checkers.idem import check_idempotence
from .checkers.liveness import check_recovery
from .checkers.meta import check_meta
from .checkers.queue import check_queue
from .checkers.replicas import ReplicaDump, check_replicas
from .group.histories import GroupModel
from .group.planted import SCRIPTS
from .history import Fault, History, Op, OpType

SECOND = 1_000_000_000
Records = list[tuple[int, int]]


class Script:
    """Writes a history; one operation a millisecond, each ended before the next unless begun with ``begin``."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.history = History(self._tick)

    def _tick(self) -> int:
        self.now_ns += 1_000_000
        return self.now_ns

    @property
    def ops(self) -> list[Op]:
        return self.history.ops

    def begin(self, process: int, f: str, value: Any = None) -> Op:
        return self.history.invoke(process, f, value)

    def end(self, op: Op, type: OpType = "ok", value: Any = None, error: str | None = None) -> "Script":
        self.history.complete(op, type, value, error)
        return self

    def send(self, process: int, *sent: tuple[int, int | None, int], type: OpType = "ok", error: str = "") -> "Script":
        op = self.begin(process, "send", [["send", key, value] for key, _, value in sent])
        done = [["send", key, value if type == "fail" else [offset, value]] for key, offset, value in sent]
        return self.end(op, type, done, error or None)

    def poll(
        self, process: int, *polled: tuple[int, Records], type: OpType = "ok", rebalanced: Iterable[int] = ()
    ) -> "Script":
        op = self.begin(process, "poll", [["poll"]])
        done = [["poll", [[key, [list(record) for record in records]] for key, records in polled]]]
        self.history.complete(op, type, done, rebalance_log=[list(rebalanced)] if rebalanced else None)
        return self

    def assign(self, process: int, *keys: int, from_beginning: bool = False, f: str = "assign") -> "Script":
        return self.end(self.begin(process, f, {"keys": list(keys), "from_beginning": from_beginning}))

    def topic(self, process: int, f: str, name: str, config: int | None = None, type: OpType = "ok") -> "Script":
        value = {"topic": name} if config is None else {"topic": name, "config": config}
        error = {"create": "TOPIC_ALREADY_EXISTS"}.get(f, "UNKNOWN_TOPIC_OR_PARTITION") if type == "fail" else None
        return self.end(self.begin(process, f, value), type, error=error)

    def list(self, process: int, current: bool = True, **topics: int) -> "Script":
        return self.end(self.begin(process, "list", {"current": current}), "ok", topics)

    def sent(self, count: int, key: int = 0) -> "Script":
        """Process 0 sends value 10 at offset 0, 11 at 1, ..."""
        for offset in range(count):
            self.send(0, (key, offset, 10 + offset))
        return self


def seen(first: int, last: int) -> Records:
    """What ``sent`` has put there."""
    return [(offset, 10 + offset) for offset in range(first, last + 1)]


@dataclass(frozen=True)
class Planted:
    """``errors`` and ``allowed`` are all the kinds that the checker must name, no more."""

    name: str
    check: Callable[[], tuple[set[str], set[str]]]
    errors: frozenset[str]
    allowed: frozenset[str]

    def missed(self) -> str | None:
        """What was said instead; None if all is right."""
        errors, allowed = self.check()
        if (errors, allowed) == (self.errors, self.allowed):
            return None
        return f"said {sorted(errors)} and allowed {sorted(allowed)}"


def _said(findings: Any) -> tuple[set[str], set[str]]:
    return set(findings.errors), set(findings.allowed)


def _planted(
    name: str, errors: str, script: Script, allowed: str = "", check: Callable[[list[Op]], Any] = check_queue
) -> Planted:
    return Planted(name, lambda: _said(check(script.ops)), frozenset(errors.split()), frozenset(allowed.split()))


def planted() -> list[Planted]:
    """The whole table."""
    return [*_logs(), *_polls(), *_sends(), *_transactions(), *_loose(), *_again(), *_topics(), *_groups(), *_others()]


def _groups() -> list[Planted]:
    return [
        Planted(f"group: {name}", partial(_said_of_group, script), frozenset(errors.split()), frozenset())
        for name, errors, script in SCRIPTS
    ]


def _said_of_group(script: Callable[[GroupModel], None]) -> tuple[set[str], set[str]]:
    model = GroupModel(0)
    script(model)
    return _said(check_group(model.history.ops))


def _logs() -> list[Planted]:
    s = Script
    return [
        _planted("nothing wrong", "", s().sent(3).poll(1, (0, seen(0, 2)))),
        _planted("gaps in the offsets", "", s().send(0, (0, 3, 1)).send(0, (0, 9, 2)).poll(1, (0, [(3, 1), (9, 2)]))),
        _planted(
            "two values at an offset, both polled",
            "inconsistent-offsets",
            s().send(0, (0, 0, 10)).send(2, (0, None, 11)).poll(1, (0, [(0, 10)])).poll(3, (0, [(0, 11)])),
        ),
        _planted(
            "acknowledged at an offset that holds another",
            "inconsistent-offsets",
            s().sent(2).send(2, (0, 1, 20)).poll(1, (0, seen(0, 1))).poll(3, (0, [(1, 20)])),
        ),
        _planted(
            "a value at two offsets",
            "duplicate",
            s().sent(2).poll(1, (0, [*seen(0, 1), (2, 11)])),
            allowed="",
        ),
        _planted(
            "a hole where a record was",
            "lost-write unseen",
            s().sent(3).poll(1, (0, [(0, 10)]), (1, [])).poll(2, (0, [(2, 12)])),
        ),
        _planted(
            "a part of an unknown send is there, a part is not",
            "lost-write",
            s().send(0, (0, 0, 1), (0, 1, 2), type="info").sent(0).poll(1, (0, [(1, 2)])),
        ),
        _planted(
            "an unknown send that never happened",
            "",
            s().send(0, (0, None, 9), type="info").sent(1).poll(1, (0, seen(0, 0))),
        ),
        _planted("a stuck tail", "unseen", s().sent(3).poll(1, (0, seen(0, 1)))),
        _planted("only a poll that ended as info saw it", "unseen", s().sent(1).poll(1, (0, seen(0, 0)), type="info")),
        _planted("a refused send is read", "G1a", s().send(0, (0, None, 10), type="fail").poll(1, (0, [(0, 10)]))),
        _planted("a value nobody sent", "phantom-read", s().sent(1).poll(1, (0, [(0, 10), (1, 99)]))),
        _planted(
            "loss beyond what is promised is counted",
            "",
            s().sent(2).send(2, (0, 1, 20)).poll(1, (0, [(0, 10), (1, 20)])),
            allowed="unseen",
            check=lambda ops: check_queue(ops, loss_allowed=True),
        ),
    ]


def _polls() -> list[Planted]:
    s = Script
    good = seen(0, 3)
    return [
        _planted("a poll skips", "int-poll-skip", s().sent(4).poll(1, (0, good)).poll(2, (0, [good[0], good[2]]))),
        _planted(
            "a poll goes back",
            "int-nonmonotonic-poll int-poll-skip",
            s().sent(3).poll(1, (0, seen(0, 2))).poll(2, (0, [good[0], good[2], good[1]])),
        ),
        _planted(
            "the next poll skips",
            "poll-skip",
            s().sent(4).poll(1, (0, good)).assign(2, 0).poll(2, (0, good[:1])).poll(2, (0, good[2:])),
        ),
        _planted("the next poll goes back", "nonmonotonic-poll", s().sent(4).poll(1, (0, good)).poll(1, (0, good[3:]))),
        _planted(
            "an assignment that keeps the key",
            "poll-skip",
            s().sent(4).poll(2, (0, good)).assign(1, 0).poll(1, (0, good[:1])).assign(1, 0, 1).poll(1, (0, good[2:])),
        ),
        _planted(
            "an assignment that drops the key",
            "",
            s()
            .sent(4)
            .poll(2, (0, good))
            .assign(1, 0)
            .poll(1, (0, good[:1]))
            .assign(1, 1)
            .assign(1, 0)
            .poll(1, (0, good[2:])),
        ),
        _planted(
            "an assignment from the beginning",
            "",
            s().sent(4).assign(1, 0).poll(1, (0, good)).assign(1, 0, from_beginning=True).poll(1, (0, good)),
        ),
        _planted(
            "others read on: subscribed",
            "",
            s()
            .sent(4)
            .poll(2, (0, good))
            .assign(1, 0, f="subscribe")
            .poll(1, (0, good[:1]))
            .poll(1, (0, good[2:]))
            .poll(1, (0, good[2:])),
            allowed="poll-skip nonmonotonic-poll",
        ),
        _planted(
            "one poll skips though subscribed",
            "int-poll-skip",
            s().sent(4).poll(2, (0, good)).assign(1, 0, f="subscribe").poll(1, (0, [good[0], good[2]])),
        ),
        _planted(
            "lost and regained while polling",
            "",
            s().sent(4).poll(2, (0, good)).poll(1, (0, [good[0], good[2], good[1]]), rebalanced=[0]),
        ),
        _planted("only ok polls move on", "", s().sent(4).poll(1, (0, good[:2]), type="info").poll(1, (0, good))),
    ]


def _sends() -> list[Planted]:
    s = Script
    return [
        _planted(
            "sends overtake",
            "nonmonotonic-send",
            s().send(0, (0, 1, 1)).send(0, (0, 0, 2)).poll(1, (0, [(0, 2), (1, 1)])),
            allowed="G0-process",
        ),
        _planted(
            "sends of one operation overtake",
            "int-nonmonotonic-send",
            s().send(0, (0, 1, 1), (0, 0, 2)).poll(1, (0, [(0, 2), (1, 1)])),
        ),
        _planted(
            "another writer comes between",
            "",
            _between().poll(1, (0, [(0, 1), (1, 3), (2, 2)])),
            allowed="int-send-skip G0",
        ),
    ]


def _between() -> Script:
    script = Script()
    one = script.begin(0, "send", [["send", 0, 1], ["send", 0, 2]])
    other = script.begin(2, "send", [["send", 0, 3]])
    script.end(one, "ok", [["send", 0, [0, 1]], ["send", 0, [2, 2]]])
    return script.end(other, "ok", [["send", 0, [1, 3]]])


def _two(one: list[Any], other: list[Any]) -> Script:
    """Two transactions side by side."""
    script = Script()
    first, second = script.begin(0, "txn", _asked(one)), script.begin(1, "txn", _asked(other))
    return script.end(first, "ok", one).end(second, "ok", other)


def _asked(steps: list[Any]) -> list[Any]:
    return [["poll"] if step[0] == "poll" else ["send", step[1], step[2][1]] for step in steps]


def _transactions() -> list[Planted]:
    x, y = [[0, 1]], [[0, 2]]  # offset 0 holds 1 in key 0, 2 in key 1
    both = [["send", 0, [0, 1]], ["send", 1, [0, 2]]]
    own = Script()
    own.end(
        own.begin(0, "txn", _asked([["send", 0, [0, 1]], ["poll"]])), "ok", [["send", 0, [0, 1]], ["poll", [[0, x]]]]
    )
    future = Script().poll(1, (0, [(0, 1)])).send(0, (0, 0, 1))
    g0 = _two([["send", 0, [0, 1]], ["send", 1, [1, 2]]], [["send", 0, [1, 3]], ["send", 1, [0, 4]]])
    ww = _two([["send", 0, [0, 1]], ["poll", [[1, y]]]], [["send", 0, [1, 3]], ["send", 1, [0, 2]]])
    return [
        _planted("its own uncommitted record", "precommitted-read", own),
        _planted("each sees the other", "G1c", _two([both[0], ["poll", [[1, y]]]], [both[1], ["poll", [[0, x]]]])),
        _planted("a record is read before it is sent", "G1c-realtime", future),
        _planted("writes interleave", "", g0.poll(2, (0, [(0, 1), (1, 3)]), (1, [(0, 4), (1, 2)])), allowed="G0"),
        _planted("reads what overwrote it", "", ww.poll(2, (0, [(0, 1), (1, 3)])), allowed="G1c-ww"),
    ]


def _loose() -> list[Planted]:
    """acks 0 and 1."""

    def final(script: Script, *records: tuple[int, int]) -> Script:
        return script.assign(9, 0, from_beginning=True).poll(9, (0, list(records)))

    s, good, check = Script, seen(0, 2), check_acks01
    return [
        _planted("acks=1: loss", "", final(s().sent(3).poll(1, (0, good[:1])), good[0], (1, 12)), "unseen", check),
        _planted(
            "acks=1: read and gone", "read-then-gone", final(s().sent(3).poll(1, (0, good)), *good[:2]), "", check
        ),
        _planted(
            "acks=1: read and changed",
            "read-then-changed inconsistent-offsets",
            final(s().sent(3).send(2, (0, None, 20)).poll(1, (0, good)), *good[:2], (2, 20)),
            "",
            check,
        ),
        _planted(
            "acks=1: out of order", "nonmonotonic-send", final(s().sent(2), (0, 11), (1, 10)), "G0-process", check
        ),
        _planted("acks=1: twice for nothing", "duplicate", final(s().sent(1), (0, 10), (1, 10)), "", check),
        _planted(
            "acks=1: twice, retried",
            "",
            final(s().send(0, (0, 0, 10), error="retried"), (0, 10), (1, 10)),
            "duplicate",
            check,
        ),
        _planted(
            "acks=1: twice, the client does not tell of retries",
            "",
            final(s().sent(1), (0, 10), (1, 10)),
            "duplicate",
            lambda ops: check_acks01(ops, hidden_retries=True),
        ),
        _planted(
            "acks=1: what nobody knows of comes late",
            "",
            final(s().send(0, (0, None, 1), type="info").send(0, (0, 0, 2)), (0, 2), (1, 1)),
            "",
            check,
        ),
    ]


def _again() -> list[Planted]:
    """Idempotence."""
    s, check = Script, check_idempotence
    sent = s().send(0, (0, 0, 1), type="info").send(0, (0, 0, 1)).send(0, (0, 1, 2)).send(0, (0, 0, 1))
    return [
        _planted("sent again, stored once", "", sent.poll(1, (0, [(0, 1), (1, 2)])), "", check),
        _planted(
            "sent again, stored twice",
            "duplicate",
            s().send(0, (0, 0, 1), type="info").send(0, (0, 0, 1)).poll(1, (0, [(0, 1), (1, 1)])),
            "",
            check,
        ),
        _planted(
            "sent again, answered otherwise",
            "inconsistent-ack duplicate",
            s().send(0, (0, 0, 1)).send(0, (0, 5, 1)).poll(1, (0, [(0, 1)])),
            "",
            check,
        ),
        _planted(
            "a retry overtaken",
            "nonmonotonic-send",
            s().send(0, (0, None, 1), type="info").send(0, (0, 0, 2)).send(0, (0, 1, 1)).poll(1, (0, [(0, 2), (1, 1)])),
            "",
            check,
        ),
        _planted(
            "refused, sent again, stored",
            "",
            s().send(0, (0, None, 1), type="fail").send(0, (0, 0, 1)).poll(1, (0, [(0, 1)])),
            "",
            check,
        ),
        _planted(
            "refused each time, and there",
            "G1a",
            s().send(0, (0, None, 1), type="fail").send(0, (0, None, 1), type="fail").poll(1, (0, [(0, 1)])),
            "",
            check,
        ),
    ]


def _topics() -> list[Planted]:
    s, bad = Script, "not-linearizable"

    def hidden(ops: list[Op]) -> Findings:
        return check_meta(ops, hidden_retries=True)

    made = s().topic(0, "create", "a", 1)
    return [
        _planted(
            "topics: made, altered, deleted",
            "",
            made.topic(0, "alter", "a", 2).list(1, a=2).topic(0, "delete", "a").list(1),
            "",
            check_meta,
        ),
        _planted(
            "topics: a stale read",
            bad,
            s().topic(0, "create", "a", 1).topic(0, "alter", "a", 2).list(1, a=1),
            "",
            check_meta,
        ),
        _planted(
            "topics: a stale read that may be",
            "",
            s().topic(0, "create", "a", 1).topic(0, "alter", "a", 2).list(1, current=False, a=1),
            "",
            check_meta,
        ),
        _planted("topics: forgotten", bad, s().topic(0, "create", "a", 1).list(1), "", check_meta),
        _planted("topics: made twice", bad, s().topic(0, "create", "a", 1).topic(1, "create", "a", 2), "", check_meta),
        _planted(
            "topics: made twice by one that asks again",
            "",
            s().topic(0, "create", "a", 1).topic(1, "create", "a", 2).list(1, a=1),
            "",
            hidden,
        ),
        _planted(
            "topics: raised and fallen back",
            bad,
            s().topic(0, "create", "a", 1).topic(0, "alter", "a", 3).list(1, a=1),
            "",
            hidden,
        ),
        _planted("topics: refused though absent", bad, s().topic(0, "create", "a", 1, type="fail"), "", check_meta),
        _planted(
            "topics: unknown, and late",
            "",
            s().topic(0, "create", "a", 1, type="info").list(1).list(1, a=1),
            "",
            check_meta,
        ),
        _planted(
            "topics: unknown, and there and gone",
            bad,
            s().topic(0, "create", "a", 1, type="info").list(1, a=1).list(1),
            "",
            check_meta,
        ),
    ]


def _dump(node: str, **changes: Any) -> ReplicaDump:
    facts = {
        "batches": [(0, 1, 7), (3, 1, 8), (5, 2, 9)],
        "epochs": [(1, 0), (2, 5)],
        "high_watermark": 6,
        "end_offset": 6,
    }
    return ReplicaDump("a-0", node, **{**facts, **changes})  # type: ignore[arg-type]


def _replicas(name: str, errors: str, **changes: Any) -> Planted:
    dumps = [_dump("n1"), _dump("n2"), _dump("n3", **changes)]
    return Planted(name, lambda: _said(check_replicas(dumps)), frozenset(errors.split()), frozenset())


def _recovery(name: str, errors: str, ack_s: float, poll_s: float | None) -> Planted:
    moments = iter([int(10.5 * SECOND), int(ack_s * SECOND), int((poll_s or 0) * SECOND), int((poll_s or 0) * SECOND)])
    history = History(lambda: next(moments))
    history.complete(history.invoke(0, "send", [["send", 0, 1]]), "ok", [["send", 0, [0, 1]]])
    if poll_s is not None:
        history.complete(history.invoke(1, "poll", [["poll"]]), "ok", [["poll", [[0, [[0, 1]]]]]])
    faults = [Fault(SECOND, "kill", "start", ["n1"]), Fault(10 * SECOND, "kill", "end", ["n1"])]
    return Planted(
        name, lambda: _said(check_recovery(history.ops, faults, 10 * SECOND)[1]), frozenset(errors.split()), frozenset()
    )


def _others() -> list[Planted]:
    return [
        _replicas("replicas: the same", ""),
        _replicas("replicas: another batch", "replica-divergence", batches=[(0, 1, 7), (3, 1, 6), (5, 2, 9)]),
        _replicas("replicas: another epoch", "replica-divergence", batches=[(0, 1, 7), (3, 1, 8), (5, 1, 9)]),
        _replicas(
            "replicas: another batch where not all know it is committed",
            "replica-divergence",
            batches=[(0, 1, 7), (3, 1, 8), (5, 2, 4)],
            high_watermark=3,
        ),
        _replicas("replicas: one missing", "replica-gap", batches=[(0, 1, 7), (5, 2, 9)]),
        _replicas("replicas: left behind", "replica-behind", batches=[(0, 1, 7)], end_offset=3, epochs=[(1, 0)]),
        _replicas("replicas: other epochs", "epochs-differ", epochs=[(1, 0), (2, 4)]),
        _replicas(
            "replicas: more above the high watermark",
            "",
            batches=[(0, 1, 7), (3, 1, 8), (5, 2, 9), (6, 2, 1)],
            end_offset=7,
        ),
        _recovery("back in time", "", 14.0, 20.0),
        _recovery("the first acknowledgement is late", "slow-recovery", 15.5, 20.0),
        _recovery("the last record is seen late", "slow-unseen", 14.0, 24.5),
        _recovery("the last record is never seen", "slow-unseen", 14.0, None),
    ]
