"""Which bytes rot. What the product can find is hit: below a CRC, or where what stands there cannot be.

Not hit are a batch's base offset and leader epoch, which no CRC covers (as Kafka's), the files that say whose a
directory is, and the quorum's own: a voter that forgets what it said is more than Raft survives.
"""

from pathlib import Path
from random import Random

from ottla.log.manager import PARTITION_NAME
from ottla.log.partition_log import PartitionLog
from ottla.log.storage import Storage
from tests.simulation.crashing_storage import CrashingStorage

BESIDE = (".index", ".timeindex", ".snapshot", "leader-epoch-checkpoint")
OF_THE_DIRECTORY = ("-offset-checkpoint", ".kafka_cleanshutdown")
HEADER_BYTES = 61
NOT_COVERED = (*range(8), *range(12, 16))


def spoil_files(
    storage: CrashingStorage, host: str, chance: Random, *, tear: bool, tails: bool, only_logs: bool = False
) -> list[Path]:
    """One to three files of a host that is down; which. ``tails``: also what its logs end with."""
    hit: list[Path] = []
    for _ in range(chance.choice((1, 1, 2, 3))):
        logs, beside, checkpoints = _files(storage, Path(f"/{host}"), tails=tails)
        dice = 0.0 if only_logs else chance.random()
        some = (logs if dice < 0.5 else beside if dice < 0.8 else checkpoints) or logs or beside or checkpoints
        if some:
            path = chance.choice(some)
            hit += [path] if (_tear if tear else _rot)(storage, path, chance) else []
    return hit


def rot_log(storage: CrashingStorage, log: PartitionLog, chance: Random) -> Path | None:
    """Some byte of a log that is open, most likely of what was written last."""
    segments = [segment for segment in log.segments if segment.size_bytes]
    path = None if not segments else (segments[-1] if chance.random() < 0.7 else chance.choice(segments)).path
    return path if path is not None and _rot(storage, path, chance, late=chance.random() < 0.7) else None


def _files(storage: Storage, root: Path, *, tails: bool) -> tuple[list[Path], list[Path], list[Path]]:
    """Logs, what lies beside them, and what speaks of all."""
    home = root / "logs"
    logs: list[Path] = []
    beside: list[Path] = []
    for name in storage.listdir(home):
        if PARTITION_NAME.fullmatch(name) is None:
            continue
        names = storage.listdir(home / name)
        found = [home / name / each for each in names if each.endswith(".log")]
        logs += found if tails else found[:-1]
        beside += [home / name / each for each in names if each.endswith(BESIDE)]
    checkpoints = [home / name for name in storage.listdir(home) if name.endswith(OF_THE_DIRECTORY)]
    return logs, beside, [*checkpoints, *([root / "run.json"] if storage.exists(root / "run.json") else [])]


def _tear(storage: CrashingStorage, path: Path, chance: Random) -> bool:
    size = len(storage.read_bytes(path))
    if size:
        storage.tear(path, chance.choice((0, chance.randrange(size), max(0, size - chance.randint(1, 100)))))
    return size > 0


def _rot(storage: CrashingStorage, path: Path, chance: Random, *, late: bool = False) -> bool:
    data = storage.read_bytes(path)
    position = _place_in_log(data, chance, late=late) if path.suffix == ".log" else chance.randrange(len(data) or 1)
    if position is None or position >= len(data):
        return False
    storage.rot(path, position, 1 << chance.randrange(8))
    return True


def _place_in_log(data: bytes, chance: Random, *, late: bool) -> int | None:
    """A byte of one of the batches: in its header as often as in its records."""
    starts, position = [], 0
    while position + HEADER_BYTES <= len(data):
        starts.append(position)
        position += 12 + int.from_bytes(data[position + 8 : position + 12], "big")
        if position <= starts[-1]:
            return None  # it rots already
    if not starts:
        return None
    at = chance.randrange(max(0, len(starts) - 5), len(starts)) if late else chance.randrange(len(starts))
    end = starts[at + 1] if at + 1 < len(starts) else len(data)
    inside = chance.randrange(HEADER_BYTES) if chance.random() < 0.5 else chance.randrange(end - starts[at])
    return starts[at] + (inside if inside not in NOT_COVERED else 8 + inside % 4)  # some byte of the length
