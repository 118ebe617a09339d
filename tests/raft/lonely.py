"""One voter whose peers the test plays."""

from typing import Any

from ottla.raft.codec import Message, ResponsePreVote, ResponseVote

from .cluster import Voter, World


class Lonely(World):
    """One voter of several; the others are whoever the test plays."""

    def __init__(self, size: int) -> None:
        super().__init__(1, size)
        self.one: Voter = self.voters[1]
        self.sent: list[tuple[int, Message]] = []
        transport: Any = self.one.core._barrier
        self.mesh()
        transport.deliver = lambda node, message: self.sent.append((node.id, message)) or True

    def hear(self, sender: int, message: Message) -> None:
        self.one.core.receive(sender, message)

    def sync(self) -> None:
        self.one.begin_sync()
        self.one.finish_sync()

    def lead(self) -> None:
        """Win an election by everybody's vote."""
        core = self.one.core
        self.now += 2
        self.one.tick()
        for other in self.ids[1:]:
            self.hear(other, ResponsePreVote(core.term + 1, True))
        self.sync()
        for other in self.ids[1:]:
            self.hear(other, ResponseVote(core.term))
        self.one.tick()
        assert core.is_leader

    def heard(self, kind: type) -> list[Any]:
        """What was sent of this kind since last asked."""
        found = [message for _, message in self.sent if isinstance(message, kind)]
        self.sent.clear()
        return found
