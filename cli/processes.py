"""Processes that may outlive us: a number alone does not name one, for numbers are used again."""

import os
import signal
from pathlib import Path

import msgspec


class ProcessIdentity(msgspec.Struct, frozen=True):
    """``started``: boot id of the kernel and start time in clock ticks since that boot; with the pid it names one
    process for ever."""

    pid: int
    started: str


def identify(pid: int, proc: Path = Path("/proc")) -> ProcessIdentity | None:
    """The living process with this number. A zombie is not living."""
    try:
        stat = (proc / str(pid) / "stat").read_text()
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    # | pid (program name, which may hold anything) state ppid ... starttime is the 22nd field |
    fields = stat[stat.rindex(")") + 2 :].split()
    state, started = fields[0], fields[19]
    return None if state in "ZX" else ProcessIdentity(pid, f"{boot}:{started}")


def is_alive(identity: ProcessIdentity | None) -> bool:
    """Whether exactly this process runs."""
    return identity is not None and identify(identity.pid) == identity


def send_signal(identity: ProcessIdentity | None, number: signal.Signals) -> bool:
    """Signal this process and never another one; False if it is gone."""
    if identity is None or not is_alive(identity):
        return False
    try:
        os.kill(identity.pid, number)
    except ProcessLookupError:
        return False
    return True
