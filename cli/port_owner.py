"""Who listens on a TCP port of this machine, as far as /proc lets us see."""

from pathlib import Path
from typing import NamedTuple

LISTEN = "0A"


class Owner(NamedTuple):
    """A process: its number and the name of its program."""

    pid: int
    name: str


def port_owner(port: int, proc: Path = Path("/proc")) -> Owner | None:
    """The process listening on ``port``; None where there is none or it is somebody else's."""
    inodes = _listening_inodes(port, proc)
    if not inodes:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in proc.iterdir():
        if process.name.isdigit() and _holds(process, wanted):
            return Owner(int(process.name), _read(process / "comm").strip() or "?")
    return None


def _listening_inodes(port: int, proc: Path) -> set[str]:
    found: set[str] = set()
    for table in ("tcp", "tcp6"):
        for line in _read(proc / "net" / table).splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def _holds(process: Path, wanted: set[str]) -> bool:
    try:
        return any(str(entry.readlink()) in wanted for entry in (process / "fd").iterdir())
    except OSError:  # not ours to look at, or gone meanwhile
        return False


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
