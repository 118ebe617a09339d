"""Node ids for those who join: this node asks the quorum in their name."""

import asyncio

from ottla.log.model import BrokerId, DirectoryId
from ottla.raft.commands import AssignNodeId
from ottla.raft.forming import Formed
from ottla.raft.joining import JoinDelayed, JoinRefused
from ottla.raft.results import NodeIdAssigned, Refused, Result

from .controller_channel import ControllerChannel

TIMEOUT_S = 5.0


class NodeIds:
    """Call ``assign`` from when this node is registered."""

    def __init__(self, channel: ControllerChannel, formed: Formed) -> None:
        self._channel = channel
        self._formed = formed
        self._asking: dict[str, asyncio.Task[tuple[Result, int]]] = {}  # by directory id: those who ask again share it

    async def assign(self, cluster_id: str, directory_id: str) -> int:
        """The node id of a data directory that is no voter's. Raises JoinDelayed, JoinRefused."""
        if cluster_id != self._formed.cluster_id:
            raise JoinRefused(f"this node is of cluster {self._formed.cluster_id}, not of {cluster_id}")
        if any(voter.directory_id == directory_id for voter in self._formed.voters):
            raise JoinRefused("that data directory is a voter's")
        try:
            async with asyncio.timeout(TIMEOUT_S):
                result, _ = await asyncio.shield(self._ask(directory_id))
        except TimeoutError:
            raise JoinDelayed("the metadata quorum does not answer") from None
        match result:
            case NodeIdAssigned(node_id):
                return node_id
            case Refused(code, message):
                raise JoinRefused(f"{code}: {message}")
            case other:
                raise JoinDelayed(f"the quorum answered {type(other).__name__}")

    def _ask(self, directory_id: str) -> "asyncio.Task[tuple[Result, int]]":
        task = self._asking.get(directory_id)
        if task is None:
            body = AssignNodeId(DirectoryId(directory_id), BrokerId(len(self._formed.voters) + 1))
            task = self._asking[directory_id] = asyncio.create_task(self._channel.submit(body))
            task.add_done_callback(lambda _: self._asking.pop(directory_id, None))
        return task
