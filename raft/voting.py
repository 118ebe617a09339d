"""Who leads: elections with pre-votes (Raft paper, sections 5.2 and 5.4.1; pre-vote: thesis, 9.6)."""

from pysyncobj.node import Node

from .codec import Message, PreVote, RequestVote, ResponsePreVote, ResponseVote, TimeoutNow
from .pysyncobj_core import PySyncObjCore, Role


class Elections(PySyncObjCore):
    """A voter's part in elections. What leading means is the subclass's."""

    _leader_heard_at: float | None = None  # when a leader of this term was last heard
    _transfer = False  # the next campaign is one that our leader asked for
    _pre_votes: set[Node] | None = None  # None: not asking
    _votes: frozenset[Node] = frozenset()  # of this term, this node's own aside

    def _rearm(self, now: float) -> None:
        self._deadline = now + self._patience()

    def _peer_lost(self, node: Node, now: float) -> None:
        # A process that dies closes its connections: the rest of the silence need not pass. If only the connection
        # died, the leader's next message takes this back, and voters that hear it refuse the pre-vote.
        if node == self._leader:
            timing, self._leader_heard_at = self._timing, None
            spread = (timing.election_max_s - timing.election_min_s) * self._chance.random()
            self._deadline = min(self._deadline, now + timing.heartbeat_s + spread)

    def _step_down(self, term: int, now: float) -> None:
        if term > self.term:
            self._set_term(term, None)
        if self.is_leader:
            self._rearm(now)
        self._pre_votes = None
        self._leader = None
        self._set_role(Role.FOLLOWER)

    def _majority(self, others: int) -> bool:
        return (others + 1) * 2 > len(self._others) + 1

    def _campaign_when_due(self, now: float) -> None:
        if self.is_leader or now < self._deadline:
            return
        self._rearm(now)
        if self._is_candidate and not self._wal.hard_state_synced:
            return  # the disk is slow; another term would wait behind this one
        if self._others and not self._connected_nodes:
            self._leader = None  # nobody to ask, and nobody to follow either
            self._transfer = False  # what the leader asked for must not depose a later one
            return
        if self._transfer or not self._others:
            self._campaign()
            return
        # D14: without a majority's consent no term rises, so a node that was cut off cannot depose a live leader.
        self._pre_votes = set()
        self._leader = None
        self._set_role(Role.FOLLOWER)
        self._to_all(PreVote(self.term + 1, self._wal.last_index, self._wal.term_at(self._wal.last_index)))

    def _campaign(self) -> None:
        transfer, self._transfer = self._transfer, False
        self._pre_votes, self._votes = None, frozenset()
        self._set_term(self.term + 1, self.selfNode.id)
        self._leader = None
        self._set_role(Role.CANDIDATE)
        last = self._wal.last_index
        self._to_all_after_sync(RequestVote(self.term, last, self._wal.term_at(last), transfer))

    def _to_all(self, message: Message) -> None:
        for node in self._others:
            self._barrier.send(node, message)

    def _to_all_after_sync(self, message: Message) -> None:
        for node in self._others:
            self._barrier.send_after(self._wal.hard_state_end, self._wal.synced_position, node, message)

    def _take_office_when_elected(self, now: float) -> None:
        # D2, D5: each voter counts once, and this node's own vote only once it is durable.
        if not self._is_candidate or not self._wal.hard_state_synced:
            return
        if self._majority(len(self._votes)):
            self._take_office(now)

    def _take_office(self, now: float) -> None:
        """A majority voted for this node in this term. Raises WalFull if it cannot lead after all."""
        raise NotImplementedError

    def _leader_is_live(self, now: float) -> bool:
        if self.is_leader or self._leader is None or self._leader_heard_at is None:
            return self.is_leader
        return now - self._leader_heard_at < self._timing.election_min_s

    def _is_up_to_date(self, last_index: int, last_term: int) -> bool:
        mine = self._wal.last_index
        return (last_term, last_index) >= (self._wal.term_at(mine), mine)

    def _on_request_vote(self, node: Node, message: RequestVote, now: float) -> None:
        if self._leader_is_live(now) and not message.transfer:
            return  # D14
        if message.term > self.term:
            self._step_down(message.term, now)
        if message.term < self.term or self._voted_for not in (None, node.id):
            return
        if self.is_leader or not self._is_up_to_date(message.last_log_index, message.last_log_term):
            return
        self._set_term(message.term, node.id)
        self._rearm(now)
        self._barrier.send_after(self._wal.hard_state_end, self._wal.synced_position, node, ResponseVote(message.term))

    def _on_response_vote(self, node: Node, message: ResponseVote) -> None:
        if message.term == self.term and self._is_candidate:
            self._votes |= {node}  # D5: a set, so a repeated answer is one vote

    def _on_timeout_now(self, node: Node, message: TimeoutNow, now: float) -> None:
        if message.term == self.term and node == self._leader:
            self._transfer, self._deadline = True, now

    def _on_pre_vote(self, node: Node, message: PreVote, now: float) -> None:
        granted = (
            message.term > self.term
            and not self._leader_is_live(now)
            and self._is_up_to_date(message.last_log_index, message.last_log_term)
        )
        self._barrier.send(node, ResponsePreVote(message.term if granted else self.term, granted))

    def _on_response_pre_vote(self, node: Node, message: ResponsePreVote, now: float) -> None:
        if not message.granted:
            if message.term > self.term:  # else its term would stay above ours, and its log behind, for ever
                self._step_down(message.term, now)
        elif self._pre_votes is not None and message.term == self.term + 1:
            self._pre_votes.add(node)
            if self._majority(len(self._pre_votes)):
                self._rearm(now)
                self._campaign()
