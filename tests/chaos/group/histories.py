"""Valid histories of a group, out of a seed: members come, leave, die, are paused and put out; partitions move one
epoch at a time; commits have unknown outcomes; watchers look. Mutations turn them into invalid ones.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from ..history import History, Op
from .told import BEATS, COMMITS, FETCHES, HANDLER, LANES

PARTITIONS = 6
MEMBERS_MAX = 5
OUTSIDE = 1_000_000
CHANGER, SETTLER, PRODUCER, WATCHER = OUTSIDE, OUTSIDE + 1, OUTSIDE + 2, OUTSIDE + 3
SESSION_NS = 6_000_000_000
STEP_NS = 20_000_000


@dataclass
class Reader:
    """A member. ``positions``: of the next record, by partition it owns."""

    number: int
    epoch: int
    positions: dict[int, int] = field(default_factory=dict)
    done: dict[int, int] = field(default_factory=dict)
    gone: bool = False


class GroupModel:
    """``history`` is complete after ``run``. ``script``: no chance, somebody tells what happens."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(f"group {seed}")
        self.now_ns = 1_000_000_000
        self.history = History(lambda: self.now_ns)
        self.logs: list[list[int]] = [[] for _ in range(PARTITIONS)]
        self.committed: list[int | None] = [None] * PARTITIONS
        self.readers: list[Reader] = []
        self.epoch = 1
        self.values = 0
        self.numbers = 0

    def tell(self, process: int, type: Any, f: str, value: Any = None) -> Op:
        self.now_ns += self.dice.randrange(STEP_NS // 10, STEP_NS)
        return self.history.tell(self.now_ns, process, type, f, value)

    def both(self, process: int, f: str, value: Any, end: Any = None, type: Any = "ok") -> None:
        self.tell(process, "invoke", f, value)
        self.tell(process, type, f, value if end is None else end)

    def lane(self, reader: Reader, lane: int) -> int:
        return reader.number * LANES + lane

    # --- what happens ------------------------------------------------------------------------------------------------

    def put(self, partition: int) -> None:
        self.values += 1
        told = {"p": partition, "v": self.values}
        offset = len(self.logs[partition])
        unknown = self.dice.random() < 0.05
        if not unknown or self.dice.random() < 0.5:
            self.logs[partition].append(self.values)
        self.both(PRODUCER, "put-one", told, {**told, "o": offset}, "info" if unknown else "ok")

    def handle(self, reader: Reader, partition: int) -> None:
        offset = reader.positions[partition]
        if offset >= len(self.logs[partition]):
            return
        who = {"epoch": reader.epoch, "member": f"m{reader.number}"}
        value = {"p": partition, "o": offset, "v": self.logs[partition][offset], **who}
        self.both(self.lane(reader, HANDLER), "handle", value)
        reader.positions[partition] = reader.done[partition] = offset + 1

    def commit(self, reader: Reader, type: str = "ok") -> None:
        places = [[p, offset] for p, offset in sorted(reader.done.items()) if (self.committed[p] or 0) < offset]
        if not places:
            return
        value = {"offsets": places, "epoch": reader.epoch, "member": f"m{reader.number}", "auto": True}
        self.both(self.lane(reader, COMMITS), "commit", value, type=type)
        if type == "ok" or (type == "info" and self.dice.random() < 0.5):
            for partition, offset in places:
                self.committed[partition] = offset

    def fetch(self, *, final: bool = False) -> None:
        found = [[partition, offset] for partition, offset in enumerate(self.committed)]
        self.both(WATCHER, "fetch", {"final": final}, {"offsets": found, "final": final})

    def own(self, reader: Reader, partitions: set[int]) -> None:
        if not partitions:
            return
        places = [[partition, self.committed[partition]] for partition in sorted(partitions)]
        process = self.lane(reader, FETCHES)
        self.both(process, "fetch", {"partitions": sorted(partitions)}, {"offsets": places})
        self.both(process, "own", {"starts": places, "epoch": reader.epoch, "member": f"m{reader.number}"})
        for partition, start in places:
            reader.positions[partition] = start or 0

    def disown(self, reader: Reader, partitions: set[int], how: str = "revoked") -> None:
        if not partitions:
            return
        if how == "revoked":
            self.commit(reader)
        epoch = reader.epoch if how == "revoked" else None
        value = {"partitions": sorted(partitions), "how": how, "epoch": epoch, "member": f"m{reader.number}"}
        self.both(self.lane(reader, FETCHES), "disown", value)
        for partition in partitions:
            reader.positions.pop(partition, None)
            reader.done.pop(partition, None)

    def change(self, what: str, number: int) -> None:
        self.both(CHANGER, "member", {"what": what, "member": number, "instance": None})

    def beat(self, reader: Reader) -> None:
        self.both(self.lane(reader, BEATS), "beat", {"epoch": reader.epoch})

    def join(self) -> None:
        self.numbers += 1
        self.change("join", self.numbers)
        self.readers.append(Reader(self.numbers, self.epoch))
        self.rebalance()

    def leave(self, reader: Reader) -> None:
        self.change("leave", reader.number)
        self.disown(reader, set(reader.positions))
        self.readers.remove(reader)
        self.change("left", reader.number)
        self.rebalance()

    def crash(self, reader: Reader) -> None:
        self.change("crash", reader.number)
        self.readers.remove(reader)
        self.now_ns += SESSION_NS
        self.rebalance(grace_ns=SESSION_NS)

    def pause(self, reader: Reader) -> None:
        """For longer than a session: the others go on; it drops what it had, and comes back."""
        self.change("pause", reader.number)
        self.readers.remove(reader)
        self.now_ns += SESSION_NS
        self.rebalance(grace_ns=SESSION_NS)
        self.change("resume", reader.number)
        self.disown(reader, set(reader.positions), "lost")
        self.readers.append(reader)
        self.rebalance()

    def rebalance(self, grace_ns: int = 0) -> None:
        """A new epoch: who has too much lets go in the old one, and those who get it have the new one."""
        if not self.readers:
            return
        event = {"what": "change", "members": len(self.readers), "due_ns": self.now_ns}
        self.tell(SETTLER, "invoke", "settle", event)
        self.epoch += 1
        target = {
            reader.number: set(range(PARTITIONS)[n :: len(self.readers)]) for n, reader in enumerate(self.readers)
        }
        for reader in self.readers:
            self.disown(reader, set(reader.positions) - target[reader.number])
            self.beat(reader)
        for reader in self.readers:
            reader.epoch = self.epoch
            self.own(reader, target[reader.number] - set(reader.positions))
        self.tell(SETTLER, "ok", "settle", event)

    # --- a whole history ---------------------------------------------------------------------------------------------

    def run(self, operations: int) -> list[Op]:
        for _ in range(2):
            self.join()
        while len(self.history.ops) < 2 * operations:
            self._anything()
        self._end()
        return self.history.ops

    def _anything(self) -> None:
        dice = self.dice
        reader = dice.choice(self.readers)
        what = dice.random()
        if what < 0.35:
            self.put(dice.randrange(PARTITIONS))
        elif what < 0.8 and reader.positions:
            self.handle(reader, dice.choice(sorted(reader.positions)))
        elif what < 0.88:
            self.commit(reader, dice.choice(("ok", "ok", "ok", "info", "fail")))
        elif what < 0.94:
            self.fetch()
        elif what < 0.97:
            self.beat(reader)
        elif what < 0.975:
            who = {"p": 0, "epoch": reader.epoch - 1, "member": f"m{reader.number}", "now": reader.epoch}
            self.both(self.lane(reader, HANDLER), "old-commit", who, type="fail")
        elif what < 0.98 and len(self.readers) < MEMBERS_MAX:
            self.join()
        elif what < 0.985 and len(self.readers) > 1:
            dice.choice((self.leave, self.crash, self.pause))(reader)

    def _end(self) -> None:
        for reader in self.readers:
            for partition in sorted(reader.positions):
                for _ in range(len(self.logs[partition])):
                    self.handle(reader, partition)
        for reader in list(self.readers):
            self.commit(reader)
            self.leave(reader)
        self.fetch(final=True)


def valid_group(seed: int, operations: int) -> list[Op]:
    """About so many operations of a group that does what it must."""
    return GroupModel(seed).run(operations)
