"""One machine of a run: a data directory, and the node process that lives on it, if any."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from .doors import Order, Told
from .network import address_of
from .node import BUG
from .room import ROOT

PORT = 7080
OBEYED_S_MAX = 1.0
DISK_MIB = 96
RESERVE_BYTES = 8 << 20
LEFT_BYTES = 4096
"""What a filled disk has left."""
FAKETIME = "/usr/lib/{}/faketime/libfaketime.so.1"
TRIPLETS = ("x86_64-linux-gnu", "aarch64-linux-gnu")


def faketime_library() -> str | None:
    """libfaketime, where it is installed."""
    paths = (FAKETIME.format(triplet) for triplet in TRIPLETS)
    return next((path for path in paths if Path(path).exists()), None)


class Host:
    """``surprises``: what its processes did that nobody had asked for. ``excused``: its process may end by itself.

    ``small_disk``: the data directory is a file system of its own; ``skewable``: the wall clock can be moved.
    """

    def __init__(
        self, name: str, directory: Path, arguments: list[str], *, small_disk: bool, skewable: bool, bug: str | None
    ) -> None:
        self.name = name
        self.address = f"{address_of(name)}:{PORT}"
        self.disk = directory / name
        self.data = self.disk / "data"
        self.log = directory / f"{name}.log"
        self.paused = False
        self.excused = False
        self.surprises: list[str] = []
        self.failed_sync = asyncio.Event()
        self._arguments = arguments
        self._bug = bug
        self._clock = directory / f"{name}.clock" if skewable else None
        self._small_disk = small_disk
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._orders = 0
        self._obeyed: dict[int, asyncio.Event] = {}
        self._begins = 0  # where the present process's log begins

    def prepare(self) -> None:
        """Make its disk and its clock. Raises CalledProcessError."""
        self.disk.mkdir(parents=True)
        if self._small_disk:
            mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(self.disk)]
            subprocess.run(mount, check=True)
        if self._clock is not None:
            self._clock.write_text("+0\n")

    @property
    def up(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self.up else None

    @property
    def returncode(self) -> int | None:
        return None if self._process is None else self._process.returncode

    async def start(self) -> None:
        """Start what is down."""
        if self.up:
            return
        if self._watching is not None:
            await self._watching
        self.paused = self.excused = False
        self.failed_sync.clear()
        with self.log.open("ab") as log:
            self._begins = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.chaos.proc.node"),
                *("--data", str(self.data), "--http", self.address, "--kafka", "off", *self._arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment(),
                cwd=self.log.parent,
            )
        self._watching = asyncio.create_task(self._watch(self._process), name=f"watch-{self.name}")

    def _environment(self) -> dict[str, str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("OTTLA_")}
        environment["PYTHONPATH"] = str(ROOT)
        if self._bug is not None:
            environment[BUG] = self._bug
        library = faketime_library()
        if self._clock is not None and library is not None:
            environment |= {
                "LD_PRELOAD": library,
                "FAKETIME_TIMESTAMP_FILE": str(self._clock),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # its "fix" makes every thread spin that waits for Python's lock
            }
        return environment

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Hear what it tells until it ends."""
        assert process.stdout is not None
        async for line in process.stdout:
            told = msgspec.json.decode(line, type=Told)
            if told.failed_sync:
                self.failed_sync.set()
            if told.done in self._obeyed:
                self._obeyed[told.done].set()
        code = await process.wait()
        if not self.excused:
            self.surprises.append(f"{self.name} ended by itself with {code}: {self.last_words()}")

    def last_words(self, size: int = 600) -> str:
        """The end of its log."""
        return self.log.read_bytes()[-size:].decode(errors="replace") if self.log.exists() else ""

    async def ended(self, within_s: float) -> bool:
        """Wait for its end; whether it came."""
        if self._watching is None:
            return True
        await asyncio.wait([self._watching], timeout=within_s)
        return self._watching.done()

    # --- signals -----------------------------------------------------------------------------------------------------

    async def kill(self) -> bool:
        """kill -9, and wait until it is gone; whether there was anything to kill."""
        if self._process is None or not self.up:
            return False
        self.excused = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        assert self._watching is not None
        await self._watching
        return True

    def pause(self) -> bool:
        """SIGSTOP; whether it ran before."""
        if self._process is None or not self.up or self.paused:
            return False
        self._process.send_signal(signal.SIGSTOP)
        self.paused = True
        return True

    def resume(self) -> None:
        """SIGCONT."""
        if self._process is not None and self.up and self.paused:
            self._process.send_signal(signal.SIGCONT)
        self.paused = False

    async def stop(self, within_s: float) -> bool:
        """SIGTERM, and wait for the end; whether it was told. An end with another code than 0 is a surprise, unless
        the signal came before the process listened for it, or after: while it started, or as a failure ended it."""
        if self._process is None or not self.up or self.paused:
            return False
        self.excused = True
        self._process.terminate()
        if await self.ended(within_s) and self.returncode and not self._was_deaf():
            self.surprises.append(f"{self.name} was told to stop and ended with {self.returncode}: {self.last_words()}")
        return True

    def _was_deaf(self) -> bool:
        said = self.log.read_bytes()[self._begins :] if self.log.exists() else b""
        listened = b"node.ready" in said or b"OTTLA-" in said
        return self.returncode == -signal.SIGTERM and (not listened or b"node.task.failed" in said)

    # --- orders ------------------------------------------------------------------------------------------------------

    async def order(self, do: str, *, place: str = "", seconds: float = 0.0) -> bool:
        """Have something done (doors.Order); False where nobody obeyed in time."""
        process = self._process
        if process is None or not self.up or process.stdin is None:
            return False
        self._orders += 1
        number = self._orders
        obeyed = self._obeyed[number] = asyncio.Event()
        order = msgspec.convert({"number": number, "do": do, "place": place, "seconds": seconds}, Order)
        try:
            process.stdin.write(msgspec.json.encode(order) + b"\n")
            async with asyncio.timeout(OBEYED_S_MAX):
                await obeyed.wait()
        except (TimeoutError, ConnectionError):
            return False
        finally:
            del self._obeyed[number]
        return True

    def skew(self, seconds: float) -> None:
        """Move its wall clock to so much beside the true one."""
        if self._clock is not None:
            written = self._clock.with_suffix(".new")
            written.write_text(f"{seconds:+.3f}\n")
            written.replace(self._clock)

    def fill_disk(self) -> bool:
        """Leave next to nothing; whether there is a disk to fill."""
        if not self._small_disk:
            return False
        free = shutil.disk_usage(self.disk).free
        with self._ballast.open("wb") as ballast, contextlib.suppress(OSError):
            os.posix_fallocate(ballast.fileno(), 0, max(1, free - LEFT_BYTES))
        return True

    def free_disk(self) -> None:
        """Take the ballast away."""
        self._ballast.unlink(missing_ok=True)

    @property
    def _ballast(self) -> Path:
        return self.disk / "ballast"

    def keep_data(self) -> None:
        """A disk in memory would vanish with the room: copy what is on it beside it."""
        if self._small_disk:
            shutil.copytree(self.disk, self.disk.with_name(f"{self.name}-disk"), dirs_exist_ok=True)
