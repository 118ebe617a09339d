"""Which configs a topic and a broker may have, and which values: Kafka's names. Part of what commands decide: a table
that a command's version uses is never changed, a new version brings a new one.

Messages are results and so part of the state: they quote with ascii(), since repr() depends on Python's Unicode.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

INT_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1

_INTEGER = re.compile(r"\A-?[0-9]{1,19}\Z")
_RATIO = re.compile(r"\A(0(\.[0-9]{1,9})?|1(\.0{1,9})?)\Z")

Kind = str
"""``int``, ``long``, ``double``, ``string`` or ``list``: what Kafka's DescribeConfigs calls it."""


class Rule(NamedTuple):
    """What values one config takes. ``default``: Kafka's spelling of what holds where nobody set it."""

    kind: Kind
    default: str
    low: int = 0
    high: int = 0
    choices: tuple[str, ...] = ()
    says: str = ""  # what it is about, for a person

    def why_illegal(self, value: str) -> str | None:
        """What the value should be, or None where it is."""
        if self.kind in ("int", "long"):
            legal = _INTEGER.match(value) and self.low <= int(value) <= self.high
            return None if legal else f"is a whole number from {self.low} to {self.high}"
        if self.kind == "double":
            return None if _RATIO.match(value) else "is a number from 0 to 1"
        parts = value.split(",") if self.kind == "list" else [value]
        if all(part.strip() in self.choices for part in parts) and len(set(parts)) == len(parts):
            return None
        some = "a comma-separated list of" if self.kind == "list" else "one of"
        return f"is {some} {', '.join(self.choices)}"


def _int(default: int, low: int, says: str, high: int = INT_MAX) -> Rule:
    return Rule("int", str(default), low, high, says=says)


def _long(default: int, low: int, says: str) -> Rule:
    return Rule("long", str(default), low, LONG_MAX, says=says)


def _choice(choices: str, says: str, kind: str = "string") -> Rule:
    named = tuple(choices.split())
    return Rule(kind, named[0], choices=named, says=says)


_DAY_MS = 24 * 3600 * 1000

MIN_INSYNC = "min.insync.replicas"
UNCLEAN = "unclean.recovery"

TOPIC_CONFIGS: Mapping[str, Rule] = {
    "cleanup.policy": _choice(
        "delete compact", "delete what is old, keep only each key's newest record, or both", "list"
    ),
    "compression.type": _choice("producer", "batches rest as their producer compressed them"),
    "delete.retention.ms": _long(_DAY_MS, 0, "how long a tombstone stays after the cleaning that met it first"),
    "file.delete.delay.ms": _long(60_000, 0, "how long a file out of use keeps its bytes"),
    "flush": _choice("os ack", "ack: a record counts once it is on the platter; os: once it is in the page cache"),
    "flush.messages": _long(LONG_MAX, 1, "flush at the latest after so many records; 1 is flush=ack"),
    "flush.ms": _long(LONG_MAX, 0, "flush at the latest so long after an append"),
    "index.interval.bytes": _int(4096, 0, "log between two entries of an index"),
    "max.compaction.lag.ms": _long(LONG_MAX, 1, "how long a record may escape compaction"),
    "max.message.bytes": _int(1048588, 1, "the largest batch"),
    "message.timestamp.after.max.ms": _long(3_600_000, 0, "how far ahead of the leader's clock a record may be"),
    "message.timestamp.before.max.ms": _long(LONG_MAX, 0, "how far behind the leader's clock a record may be"),
    "message.timestamp.type": _choice("CreateTime LogAppendTime", "whose clock a record's timestamp is from"),
    "min.cleanable.dirty.ratio": Rule("double", "0.5", says="how much of a log is not compacted yet when it is due"),
    "min.compaction.lag.ms": _long(0, 0, "how long a record is safe from compaction"),
    MIN_INSYNC: _int(1, 1, "how many replicas in sync an acks=all record needs; unset: 2 where there are 3, else 1"),
    "retention.bytes": Rule("long", "-1", -1, LONG_MAX, says="how much of a partition is kept; -1: all"),
    "retention.ms": Rule("long", str(7 * _DAY_MS), -1, LONG_MAX, says="how long a record is kept; -1: for ever"),
    "segment.bytes": _int(1 << 30, 14, "the size at which a log takes its next file"),
    "segment.index.bytes": _int(10 << 20, 12, "the largest index of a file of a log"),
    "segment.jitter.ms": _long(0, 0, "how much earlier than segment.ms a file may end, at random"),
    "segment.ms": _long(7 * _DAY_MS, 1, "the age at which a log takes its next file"),
    UNCLEAN: _choice(
        "last-known-leader manual",
        "where nobody eligible is left: the last known leader leads as it is, or nobody before an operator says so",
    ),
    "unclean.leader.election.enable": _choice("false", "whether a replica that lacks records may lead by itself"),
}

TOPIC_DEFAULTS: Mapping[str, str] = {
    "log.cleaner.delete.retention.ms": "delete.retention.ms",
    "log.cleaner.max.compaction.lag.ms": "max.compaction.lag.ms",
    "log.cleaner.min.cleanable.ratio": "min.cleanable.dirty.ratio",
    "log.cleaner.min.compaction.lag.ms": "min.compaction.lag.ms",
    "log.cleanup.policy": "cleanup.policy",
    "log.flush": "flush",
    "log.flush.interval.messages": "flush.messages",
    "log.flush.interval.ms": "flush.ms",
    "log.index.interval.bytes": "index.interval.bytes",
    "log.index.size.max.bytes": "segment.index.bytes",
    "log.message.timestamp.after.max.ms": "message.timestamp.after.max.ms",
    "log.message.timestamp.before.max.ms": "message.timestamp.before.max.ms",
    "log.message.timestamp.type": "message.timestamp.type",
    "log.retention.bytes": "retention.bytes",
    "log.retention.ms": "retention.ms",
    "log.roll.jitter.ms": "segment.jitter.ms",
    "log.roll.ms": "segment.ms",
    "log.segment.bytes": "segment.bytes",
    "log.segment.delete.delay.ms": "file.delete.delay.ms",
    "message.max.bytes": "max.message.bytes",
    MIN_INSYNC: MIN_INSYNC,
    UNCLEAN: UNCLEAN,
}
"""Broker configs that are what topics have that do not set theirs, by Kafka's names for both."""

CLUSTER_ONLY = frozenset({MIN_INSYNC, UNCLEAN, "log.flush"})
"""What decides whether a record is safe must be the same on every broker."""

BROKER_CONFIGS: Mapping[str, Rule] = {
    **{name: TOPIC_CONFIGS[topic_name] for name, topic_name in TOPIC_DEFAULTS.items()},
    "follower.replication.throttled.rate": _long(LONG_MAX, 1, "bytes a second a broker takes as a replica being added"),
    "leader.replication.throttled.rate": _long(LONG_MAX, 1, "bytes a second it gives to replicas being added"),
    "log.level": _choice("info debug warning error critical", "how much a node says in its log"),
}

_NOT_ABOVE = (("min.compaction.lag.ms", "max.compaction.lag.ms"), ("segment.jitter.ms", "segment.ms"))


def why_illegal(configs: Mapping[str, str], rules: Mapping[str, Rule], what: str) -> str | None:
    """Why these configs of a ``what`` ("topic", "broker") are refused, or None. Only what has an effect is accepted."""
    for key, value in sorted(configs.items()):
        rule = rules.get(key)
        if rule is None:
            return f"{what} config {key[:100]!a} is not supported; {suggestion(key, sorted(rules))}"
        if (should := rule.why_illegal(value)) is not None:
            return f"{what} config {key} {should}, not {value[:100]!a}"
    return _why_disagree(configs) if what == "topic" else None


def _why_disagree(configs: Mapping[str, str]) -> str | None:
    for low, high in _NOT_ABOVE:
        if low in configs and int(configs[low]) > int(configs.get(high, TOPIC_CONFIGS[high].default)):
            return f"topic config {low} must not be above {high}"
    return None


def suggestion(key: str, known: Sequence[str]) -> str:
    """``did you mean ...?``, or all there are."""
    nearest = min(known, key=lambda name: (_distance(key[:100], name), name))
    if _distance(key[:100], nearest) <= 4:
        return f"did you mean {nearest}?"
    return f"supported are {', '.join(known)}"


def _distance(left: str, right: str) -> int:
    """Levenshtein's edit distance; our own, since a library's may change what a command answers."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        previous, row = row, [i]
        for j, b in enumerate(right, 1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (a != b)))
    return row[-1]
