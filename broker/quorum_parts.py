"""A node's share in the quorum: state machine, consensus core or observer, the controller and the way to it."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ottla.log.model import BrokerId
from ottla.raft.compaction import CompactionSettings
from ottla.raft.controller import Controller, ControllerSettings
from ottla.raft.forming import Formed
from ottla.raft.handshake import PeerIdentity
from ottla.raft.image import MetadataImage, empty_image
from ottla.raft.image_codec import decode_image, image_pieces
from ottla.raft.quorum import MetadataQuorum, QuorumSettings
from ottla.raft.snapshot_keeper import Captured, StateHooks
from ottla.raft.state_machine import MetadataStateMachine
from ottla.raft.transport import Endpoint

from .config import Settings
from .controller_channel import ControllerChannel, Link, LocalLink
from .doors import Doors
from .links import ControlLink, Dialer
from .probe import probe

if TYPE_CHECKING:
    from ottla.raft.observer import MetadataObserver

FRAME_ROOM = 1 << 20
"""A replica answer may be this much larger than a data frame: it holds one whole batch and its header."""
LONG_WAIT_S = 60.0
RETRY_S = 0.05


class QuorumParts(ABC):
    """``_take`` is told of each new image, in the step that applied it."""

    def __init__(
        self,
        settings: Settings,
        doors: Doors,
        formed: Formed,
        local: PeerIdentity,
        secret: bytes | None,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._settings = settings
        self._doors = doors
        self.node_id = BrokerId(formed.node_id)
        self.voters = {voter.position: Endpoint(voter.host, voter.port, voter.directory_id) for voter in formed.voters}
        self.machine = MetadataStateMachine(empty_image(formed.cluster_id))
        self.quorum: MetadataQuorum | MetadataObserver = (
            self._make_observer(local, secret, on_fatal)
            if formed.voter is None
            else self._make_quorum(local, secret, on_fatal)
        )
        self.controller = self._make_controller()
        self._dialer = Dialer(doors.session, local, secret, doors.chance, settings.frame_bytes_max + FRAME_ROOM)
        self.channel = self._make_channel()

    @abstractmethod
    def _take(self, image: MetadataImage) -> None:
        """Roles and settings follow ``image``."""

    def _make_quorum(
        self, local: PeerIdentity, secret: bytes | None, on_fatal: Callable[[BaseException], None]
    ) -> MetadataQuorum:
        settings, doors = self._settings, self._doors
        return MetadataQuorum(
            local=local,
            voters=self.voters,
            directory=Path(settings.data) / "raft",
            storage=doors.storage,
            clock=doors.clock,
            chance=doors.chance,
            secret=secret,
            apply=self._apply,
            state=StateHooks(self._capture, self._read_state),
            settings=QuorumSettings(
                heartbeat_s=settings.raft_heartbeat_ms / 1000,
                election_min_s=settings.raft_election_min_ms / 1000,
                election_max_s=settings.raft_election_max_ms / 1000,
                compaction=CompactionSettings(
                    entries=settings.raft_snapshot_entries,
                    bytes=settings.raft_snapshot_bytes,
                    kept=settings.raft_log_entries_kept,
                ),
            ),
            run_blocking=doors.run_for_raft,
            on_fatal=on_fatal,
        )

    def _make_observer(
        self, local: PeerIdentity, secret: bytes | None, on_fatal: Callable[[BaseException], None]
    ) -> "MetadataObserver":
        from ottla.raft.observer import MetadataObserver  # voters have no use for it

        doors = self._doors
        return MetadataObserver(
            local=local,
            voters=self.voters,
            session=doors.session,
            clock=doors.clock,
            chance=doors.chance,
            secret=secret,
            apply=self._apply,
            state=StateHooks(self._capture, self._read_state),
            committed=self._heard_of_commits,
            run_blocking=doors.run_for_raft,
            on_fatal=on_fatal,
        )

    def _make_controller(self) -> Controller:
        settings = self._settings
        balance_s = settings.leader_imbalance_check_interval_ms / 1000
        return Controller(
            quorum=self.quorum,
            machine=self.machine,
            clock=self._doors.clock,
            settings=ControllerSettings(
                session_s=settings.broker_session_timeout_ms / 1000,
                balance_s=balance_s if settings.auto_leader_rebalance_enable else None,
            ),
            probe=probe,
            voters=len(self.voters),
        )

    def _make_channel(self) -> ControllerChannel:
        return ControllerChannel(
            local=self.node_id,
            leader=lambda: self.quorum.leader_id,
            dial=self._dial_controller,
            clock=self._doors.clock,
            heartbeat_s=self._settings.broker_heartbeat_interval_ms / 1000,
            digest=lambda: self.machine.digest,
        )

    async def _dial_controller(self, leader: int) -> Link:
        if leader == self.node_id:
            return LocalLink(self.controller, self.node_id)
        voter = self.voters[leader]
        return ControlLink(await self._dialer.dial(voter.host, voter.port, leader, "control"))

    def _heard_of_commits(self) -> int:
        answer = self.channel.last_answer
        return 0 if answer is None else answer.commit_index

    def _apply(self, index: int, term: int, command: bytes) -> bytes:
        result = self.machine.apply(index, term, command)
        self._take(self.machine.image)
        return result

    def _capture(self) -> Captured:
        image = self.machine.image
        return Captured(image.feature_level, lambda: image_pieces(image))

    def _read_state(self, data: bytes) -> Callable[[], None]:
        image = decode_image(data)
        return lambda: self._restore(image)

    def _restore(self, image: MetadataImage) -> None:
        """Many commands at once: roles are taken from the image alone, never from the events between."""
        self.machine.restore(image)
        self._take(image)

    async def wait_applied(self, index: int) -> None:
        """Until this node has applied ``index``, however long that takes."""
        while True:
            try:
                return await self.quorum.wait_applied(index, LONG_WAIT_S)
            except TimeoutError:
                await asyncio.sleep(RETRY_S)  # a Raft that has stopped answers at once
