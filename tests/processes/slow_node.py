"""`ottla start` on a disk that can be made slow: the same command line, and a Storage whose syncs take their time.

While the file `DIRECTORY.slow` exists beside the data directory, each sync of a file takes as many seconds as it says.
Each such sync is noted, as one byte, in `DIRECTORY.slow-syncs`.
"""

import os
import sys
import time
from functools import partial
from pathlib import Path

from ottla.broker import run
from ottla.broker.node import Node
from ottla.cli.main import main
from ottla.log.storage import SystemFile, SystemStorage


class SlowFile(SystemFile):
    """Its ``sync`` takes longer while ``slow`` exists."""

    slow: Path

    def sync(self) -> None:
        if self.slow.exists():
            time.sleep(float(self.slow.read_text()))
            with self.slow.with_name(self.slow.name + "-syncs").open("ab") as noted:
                noted.write(b".")
        super().sync()


class SlowStorage(SystemStorage):
    """The system's files, slow ones."""

    def open(self, path: Path, *, create: bool = False) -> SlowFile:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return SlowFile(os.open(path, flags, 0o644))


if __name__ == "__main__":
    data = Path(sys.argv[sys.argv.index("--data") + 1])
    SlowFile.slow = data.with_suffix(".slow")
    run.Node = partial(Node, storage=SlowStorage())
    main()
