"""What clients asked and were answered, and what the nemesis did, in the order in which it happened.

A history is two lists. ``ops``: every operation twice, as it began (``invoke``) and as it ended: ``ok`` (it happened,
and this was the answer), ``fail`` (it certainly did not happen), ``info`` (nobody knows: it may yet happen, at any
time, or never). ``faults``: the beginnings and ends of faults. On disk each is one JSON object a line. Form and
meaning follow jepsen.tests.kafka.

Values of the queue's operations; keys and values are ints, and a value is sent to a key once:

- ``send``, ``poll``, ``txn``: a list of steps. A step begins as ``["send", key, value]`` or ``["poll"]`` and ends as
  ``["send", key, [offset | null, value]]`` or ``["poll", [[key, [[offset, value], ...]], ...]]``.
- ``assign``: ``{"keys": [...], "from_beginning": bool}``; ``subscribe``: ``{"keys": [...]}``. They replace what was.
- ``crash``: ends as info; what comes after is another process. ``debug``: judged by nobody.

Values of the metadata's: ``create`` and ``alter``, which raises it: ``{"topic": name, "config": int}``; ``delete``:
``{"topic": name}``; ``list``: ``{"current": bool}``, which ends as ``{name: config, ...}``, all the topics there are.

Those of groups: checkers/group.py.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

OpType = Literal["invoke", "ok", "info", "fail"]
T = TypeVar("T")

OPS_FILE = "history.jsonl"
FAULTS_FILE = "nemesis.jsonl"


class Op(msgspec.Struct):
    """One half of an operation. ``index`` is its place among all halves; a process has one operation under way."""

    index: int
    time_ns: int
    process: int
    type: OpType
    f: str
    value: Any = None
    error: str | None = None
    # A consumer that lost and regained keys while it polled, as [[keys], ...]: its positions there may jump.
    rebalance_log: list[list[int]] | None = None


class Fault(msgspec.Struct):
    """The start or the end of a fault. Not ``effective``: it was ordered, and met nothing it could harm."""

    time_ns: int
    kind: str
    action: Literal["start", "end"]
    targets: list[str] = []
    effective: bool = True
    detail: str = ""


class History:
    """Grows at the end only. ``now_ns`` is the clock of the run, simulated or real."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self.ops: list[Op] = []
        self.faults: list[Fault] = []
        self._now_ns = now_ns
        self._open: dict[int, Op] = {}

    def invoke(self, process: int, f: str, value: Any = None) -> Op:
        """The beginning of an operation; give it to ``complete``. Raises ValueError while the process has one open."""
        if process in self._open:
            raise ValueError(f"process {process} began {f} while its {self._open[process].f} was under way")
        op = self._add(Op(len(self.ops), self._now_ns(), process, "invoke", f, value))
        self._open[process] = op
        return op

    def complete(
        self,
        op: Op,
        type: OpType,
        value: Any = None,
        error: str | None = None,
        rebalance_log: list[list[int]] | None = None,
    ) -> Op:
        """The end of an operation. Without a value it has the one it began with."""
        if self._open.get(op.process) is not op or type == "invoke":
            raise ValueError(f"operation {op.index} of process {op.process} cannot end as {type} now")
        del self._open[op.process]
        value = op.value if value is None else value
        return self._add(Op(len(self.ops), self._now_ns(), op.process, type, op.f, value, error, rebalance_log))

    def tell(self, time_ns: int, process: int, type: OpType, f: str, value: Any = None, error: str | None = None) -> Op:
        """Half an operation that somebody else saw at that time. Raises ValueError as the others do."""
        if (type == "invoke") is (process in self._open):
            raise ValueError(f"process {process} tells {type} of {f} out of turn")
        op = self._add(Op(len(self.ops), time_ns, process, type, f, value, error))
        if type == "invoke":
            self._open[process] = op
        else:
            del self._open[process]
        return op

    def fault(
        self,
        kind: str,
        action: Literal["start", "end"],
        targets: Iterable[str] = (),
        effective: bool = True,
        detail: str = "",
    ) -> Fault:
        """Something that the nemesis did."""
        record = Fault(self._now_ns(), kind, action, list(targets), effective, detail)
        self.faults.append(record)
        return record

    def write(self, directory: Path) -> None:
        """Both lists into ``directory``, which is made."""
        directory.mkdir(parents=True, exist_ok=True)
        write_lines(directory / OPS_FILE, self.ops)
        write_lines(directory / FAULTS_FILE, self.faults)

    def _add(self, op: Op) -> Op:
        self.ops.append(op)
        return op


def write_lines(path: Path, records: Iterable[msgspec.Struct]) -> None:
    """One JSON object a line."""
    encoder = msgspec.json.Encoder()
    with path.open("wb") as file:
        file.writelines(encoder.encode(record) + b"\n" for record in records)


def read_lines(path: Path, kind: type[T]) -> list[T]:
    """What ``write_lines`` wrote. Raises msgspec.ValidationError for a line that is not a ``kind``."""
    decoder = msgspec.json.Decoder(kind)
    with path.open("rb") as file:
        return [decoder.decode(line) for line in file if line.strip()]


def read_ops(path: Path) -> list[Op]:
    """A history.jsonl."""
    return read_lines(path, Op)


def read_faults(path: Path) -> list[Fault]:
    """A nemesis.jsonl; without the file there were no faults."""
    return read_lines(path, Fault) if path.exists() else []


class Pair(msgspec.Struct, frozen=True):
    """An operation from beginning to end. Without ``end`` it was still under way when the history stopped."""

    begin: Op
    end: Op | None

    @property
    def type(self) -> OpType:
        """How it ended; what never ended is as unknown as info."""
        return self.end.type if self.end is not None else "info"

    @property
    def value(self) -> Any:
        """What is known of it at its end."""
        return self.end.value if self.end is not None else self.begin.value


def paired(ops: Iterable[Op]) -> list[Pair]:
    """Every operation, in the order in which they ended; those that never did come last.

    Raises ValueError for an end without a beginning, or a second beginning.
    """
    open_ops: dict[int, Op] = {}
    pairs: list[Pair] = []
    for op in ops:
        if op.type == "invoke":
            if op.process in open_ops:
                raise ValueError(f"process {op.process} began a second operation at index {op.index}")
            open_ops[op.process] = op
        else:
            begin = open_ops.pop(op.process, None)
            if begin is None or begin.f != op.f:
                raise ValueError(f"the {op.f} that ends at index {op.index} never began")
            pairs.append(Pair(begin, op))
    pairs.extend(Pair(begin, None) for begin in open_ops.values())
    return pairs
