"""PySyncObj as it comes, made just drivable: no threads, no sockets, no pickle; its Raft untouched."""

from typing import Any

from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.journal import MemoryJournal
from pysyncobj.node import Node
from pysyncobj.transport import Transport


class Recorder(Transport):  # type: ignore[misc]
    """Keeps what was sent."""

    def __init__(self) -> None:
        super().__init__(None, None, ())
        self.sent: list[dict[str, Any]] = []

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        self.sent.append(message)
        return True


class Stock(SyncObj):  # type: ignore[misc]
    """A stock node 1 whose commands are plain bytes."""

    def __init__(self, size: int, apply: Any = None) -> None:
        self.applied: list[bytes] = []
        self._apply_override = apply
        self.transport = Recorder()
        super().__init__(
            Node(1),
            [Node(other) for other in range(2, size + 1)],
            SyncObjConf(autoTick=False, useFork=False, journalFile=MemoryJournal()),
            nodeClass=Node,
            transport=self.transport,
        )
        for other in range(2, size + 1):
            self.transport._onNodeConnected(Node(other))

    def _SyncObj__doApplyCommand(self, command: bytes) -> Any:
        if command[:1] == b"\0":
            self.applied.append(command[1:])
            if self._apply_override is not None:
                self._apply_override(command[1:])

    def hear(self, sender: int, **message: Any) -> None:
        """A message from ``sender`` arrives."""
        self.transport._onMessageReceived(Node(sender), message)

    def campaign(self) -> None:
        """Its patience ends now."""
        self._SyncObj__raftElectionDeadline = 0
        self.doTick(0)

    @property
    def log_length(self) -> int:
        return len(self._SyncObj__raftLog)
