"""A room of its own for a run: network, mounts and processes that nobody outside sees, and that vanish with it.

Linux namespaces (unshare): node n listens on 127.0.1.n of a loopback that is only the run's, packet filters are set
there and nowhere else, and when the room's first process ends, however that may be, the kernel kills all others.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
WALLS = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "--")
TOOLS = ("unshare", "ip", "nft", "ss")
MARK = "CHAOS_ROOM"
EXIT_TIMED_OUT = 124


def why_not() -> str | None:
    """Why there can be no such room here; None where there can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not installed (apt-get install util-linux iproute2 nftables)"
    tried = subprocess.run([*WALLS, "nft", "add table inet chaos"], capture_output=True, text=True)
    if tried.returncode:
        return f"namespaces or nft are not permitted here: {tried.stderr.strip()}"
    return None


def inside() -> bool:
    """Whether this process is in a room already."""
    return MARK in os.environ


def enter() -> None:
    """The first thing to do inside. Raises CalledProcessError."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def run_inside(module: str, arguments: Sequence[str], *, limit_s: float, output: Path | None = None) -> int:
    """Run ``python -m module`` in a new room; its exit code, EXIT_TIMED_OUT if it had to be ended after ``limit_s``.

    ``output``: a file for what it prints; None is this process's own.
    """
    environment = {**os.environ, MARK: "1", "PYTHONPATH": str(ROOT)}
    command = [*WALLS, sys.executable, "-m", module, *arguments]
    with open(output or os.devnull, "ab") as file:
        to = None if output is None else file
        room = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=to, stderr=to)
        try:
            return room.wait(limit_s)
        except subprocess.TimeoutExpired:
            return EXIT_TIMED_OUT
        finally:
            room.kill()  # and with it, by --kill-child, everything in the room
            room.wait()
