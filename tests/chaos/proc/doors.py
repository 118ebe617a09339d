"""What a node of a run can be told from outside, and how it obeys: traps at failpoints, and a disk that misbehaves.

Orders come as JSON lines on standard input, read by a thread, so that a busy event loop obeys too. Each is answered by
a line on standard output; so is the one event, a sync that was made to fail.
"""

import errno
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Literal

import msgspec

from ottla.log.storage import SystemFile, SystemStorage

VITAL = frozenset({".log", ".wal"})
"""Suffixes of partition logs and of the quorum's log."""


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """``trap``: die as this failpoint is passed; ``slow``: each sync takes so many seconds more; ``fail_sync``: the
    next sync of a log fails; ``calm``: none of all this any more."""

    number: int
    do: Literal["trap", "slow", "fail_sync", "calm"]
    place: str = ""
    seconds: float = 0.0


class Told(msgspec.Struct, frozen=True):
    """``done``: the order of this number is obeyed; ``failed_sync``: a sync failed as ordered."""

    done: int | None = None
    failed_sync: bool = False


class Doors:
    """The present orders. ``hit`` and ``before_sync`` are called from the node's threads."""

    def __init__(self) -> None:
        self.trap: str | None = None
        self.slow_s = 0.0
        self.fail_sync = False
        self._telling = threading.Lock()

    def listen(self) -> None:
        """Obey what comes on standard input from now on."""
        threading.Thread(target=self._obey_all, name="chaos-orders", daemon=True).start()

    def hit(self, place: str) -> None:
        """A failpoint is passed."""
        if place == self.trap:
            os.kill(os.getpid(), signal.SIGKILL)

    def before_sync(self, *, vital: bool) -> None:
        """A file is synced. Raises OSError (EIO), once, if that was ordered."""
        if self.fail_sync and vital:
            self.fail_sync = False
            self._tell(Told(failed_sync=True))
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if self.slow_s:
            threading.Event().wait(self.slow_s)  # time.sleep is an error (EINVAL) under libfaketime

    def _obey_all(self) -> None:
        decoder = msgspec.json.Decoder(Order)
        # Unbuffered: a thread that holds a buffer's lock makes Python abort at its end.
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as orders:
            for line in orders:
                order = decoder.decode(line)
                self.obey(order)
                self._tell(Told(done=order.number))

    def obey(self, order: Order) -> None:
        """Do it."""
        match order.do:
            case "trap":
                self.trap = order.place
            case "slow":
                self.slow_s = order.seconds
            case "fail_sync":
                self.fail_sync = True
            case "calm":
                self.trap, self.slow_s, self.fail_sync = None, 0.0, False

    def _tell(self, told: Told) -> None:
        with self._telling:
            sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
            sys.stdout.buffer.flush()


class DooredFile(SystemFile):
    """A file whose syncs ask the doors first. ``vital``: it holds what was promised, so a node whose sync of it failed
    must stop; where a checkpoint's sync fails, the old file is still there, and the node may go on."""

    doors: Doors

    def __init__(self, descriptor: int, *, vital: bool) -> None:
        super().__init__(descriptor)
        self._vital = vital

    def sync(self) -> None:
        self.doors.before_sync(vital=self._vital)
        super().sync()


class DooredStorage(SystemStorage):
    """The system's files, with the doors of this process."""

    def __init__(self, doors: Doors) -> None:
        DooredFile.doors = doors

    def open(self, path: Path, *, create: bool = False) -> DooredFile:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return DooredFile(os.open(path, flags, 0o644), vital=path.suffix in VITAL)
