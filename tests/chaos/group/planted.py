"""Small histories of a group with one thing wrong each, and good ones that look wrong. What is said of them is in
SCRIPTS: a name, the kinds of anomaly that the checker must name, and how the history comes about."""

from collections.abc import Callable

from .histories import SESSION_NS, GroupModel, Reader
from .told import COMMITS, FETCHES, HANDLER

Script = Callable[[GroupModel], None]
SECOND = 1_000_000_000


def _sure(model: GroupModel, records: int = 3) -> Reader:
    """One member with all partitions, and so many records in partition 0, all acknowledged."""
    model.join()
    for _ in range(records):
        model.logs[0].append(len(model.logs[0]) + 1000)
        told = {"p": 0, "v": model.logs[0][-1]}
        model.both(9_000_000, "put-one", told, {**told, "o": len(model.logs[0]) - 1})
    return model.readers[0]


def _read(model: GroupModel, reader: Reader, records: int = 3) -> None:
    for _ in range(records):
        model.handle(reader, 0)


def _commits(model: GroupModel, reader: Reader, offset: int, type: str = "ok", epoch: int | None = None) -> None:
    value = {"offsets": [[0, offset]], "epoch": reader.epoch if epoch is None else epoch, "member": "m", "auto": True}
    model.both(model.lane(reader, COMMITS), "commit", value, type=type)


def _sees(model: GroupModel, offset: int | None) -> None:
    model.both(9_000_001, "fetch", {}, {"offsets": [[0, offset]]})


def _owns(model: GroupModel, reader: Reader, start: int | None, epoch: int) -> None:
    value = {"starts": [[0, start]], "epoch": epoch, "member": "m"}
    model.both(model.lane(reader, FETCHES), "own", value)


def _nothing_wrong(model: GroupModel) -> None:
    reader = _sure(model)
    _read(model, reader)
    model.commit(reader)
    model.fetch()
    model.join()
    model.leave(reader)
    model.fetch(final=True)


def _never_handled(model: GroupModel) -> None:
    _read(model, _sure(model), 2)


def _handled_again_by_the_next(model: GroupModel) -> None:
    """Nothing was committed: that is at least once."""
    reader = _sure(model)
    _read(model, reader)
    model.crash(reader)
    model.join()
    _read(model, model.readers[0])


def _unfinished_by_a_death(model: GroupModel) -> None:
    reader = _sure(model)
    value = {"p": 0, "o": 0, "v": 1000, "epoch": reader.epoch, "member": "m"}
    model.tell(model.lane(reader, HANDLER), "invoke", "handle", value)
    model.crash(reader)


def _paused_goes_on(model: GroupModel) -> None:
    """It has not heard yet that it is out."""
    reader = _sure(model)
    model.beat(reader)
    model.readers.remove(reader)
    model.now_ns += 2 * SESSION_NS
    model.join()
    _read(model, reader, 1)
    model.disown(reader, set(reader.positions), "lost")
    _read(model, model.readers[0])


def _living_goes_on(model: GroupModel) -> None:
    reader = _sure(model)
    model.beat(reader)
    _owns(model, Reader(77, 9), None, 9)
    _read(model, reader)


def _same_epoch(model: GroupModel) -> None:
    reader = _sure(model)
    _read(model, reader)
    model.disown(reader, {0}, "lost")
    model.now_ns += 3 * SESSION_NS
    _owns(model, Reader(77, 9), 3, reader.epoch)


def _unknown_commit_happens_later(model: GroupModel) -> None:
    reader = _sure(model)
    _read(model, reader)
    _commits(model, reader, 1, "info")
    _commits(model, reader, 2)
    _sees(model, 2)
    _sees(model, 1)


def _unknown_commit_happens_twice(model: GroupModel) -> None:
    _unknown_commit_happens_later(model)
    _commits(model, model.readers[0], 2)
    _sees(model, 1)


def _refused_commit_is_seen(model: GroupModel) -> None:
    reader = _sure(model)
    _read(model, reader)
    _commits(model, reader, 3, "fail")
    _sees(model, 3)


def _commit_is_forgotten(model: GroupModel) -> None:
    reader = _sure(model)
    _read(model, reader)
    _commits(model, reader, 3)
    _sees(model, None)


def _commit_after_letting_go(model: GroupModel) -> None:
    reader = _sure(model)
    _read(model, reader)
    model.disown(reader, {0}, "lost")
    _commits(model, reader, 3)


def _refused_after_letting_go(model: GroupModel) -> None:
    reader = _sure(model)
    _read(model, reader)
    model.disown(reader, {0}, "lost")
    _commits(model, reader, 3, "fail")


def _commit_of_what_is_in_hand(model: GroupModel) -> None:
    reader = _sure(model)
    _read(model, reader, 2)
    value = {"p": 0, "o": 2, "v": 1002, "epoch": reader.epoch, "member": "m"}
    model.tell(model.lane(reader, HANDLER), "invoke", "handle", value)
    _commits(model, reader, 3)
    model.tell(model.lane(reader, HANDLER), "ok", "handle", value)


def _starts_too_late(model: GroupModel) -> None:
    reader = _sure(model, 5)
    _read(model, reader, 5)
    _commits(model, reader, 2)
    model.committed[0] = 2
    model.crash(reader)
    model.now_ns += SESSION_NS
    second = Reader(50, 9)
    value = {"offsets": [[0, 2]]}
    model.both(model.lane(second, FETCHES), "fetch", {"partitions": [0]}, value)
    _owns(model, second, 4, 9)


def _settles_late(model: GroupModel) -> None:
    event = {"what": "join", "members": 1, "due_ns": model.now_ns}
    _read(model, _sure(model))
    model.tell(9_000_003, "invoke", "settle", event)
    model.now_ns += 6 * SECOND
    model.tell(9_000_003, "ok", "settle", event)


def _settles_after_a_session(model: GroupModel) -> None:
    event = {"what": "crash", "members": 1, "due_ns": model.now_ns + SESSION_NS}
    _read(model, _sure(model))
    model.tell(9_000_003, "invoke", "settle", event)
    model.now_ns += 6 * SECOND
    model.tell(9_000_003, "ok", "settle", event)


SCRIPTS: list[tuple[str, str, Script]] = [
    ("nothing wrong", "", _nothing_wrong),
    ("a record that nobody handled", "unhandled", _never_handled),
    ("the next handles again what was not committed", "", _handled_again_by_the_next),
    ("a handler died over a record", "unhandled", _unfinished_by_a_death),
    ("a paused member goes on until it hears of it", "", _paused_goes_on),
    ("a living member goes on with what another has", "two-owners", _living_goes_on),
    ("two members had a partition in one epoch", "two-owners", _same_epoch),
    ("a commit of unknown outcome happens later", "", _unknown_commit_happens_later),
    ("a commit of unknown outcome happens twice", "lost-commit", _unknown_commit_happens_twice),
    ("a commit that was refused is there", "lost-commit", _refused_commit_is_seen),
    ("an acknowledged commit is forgotten", "lost-commit", _commit_is_forgotten),
    ("a commit after its partition was lost", "commit-unowned", _commit_after_letting_go),
    ("the same, refused", "", _refused_after_letting_go),
    ("a commit of the record in hand", "commit-past-handled", _commit_of_what_is_in_hand),
    ("a member begins behind what is committed", "wrong-start", _starts_too_late),
    ("a group settles late", "slow-settle", _settles_late),
    ("a group settles when the dead one's session is over", "", _settles_after_a_session),
]
