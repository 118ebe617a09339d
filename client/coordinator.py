"""Finds a group's coordinator, asks it, and finds it again when it has moved."""

import asyncio
from typing import TypeVar

from ottla.log.model import BrokerId

from .backoff import backoff_s
from .cluster import Cluster
from .connection import ConnectionLost
from .error_codes import ErrorCode
from .errors import OttlaError, error_for
from .group_protocol import FindCoordinatorRequest, FindCoordinatorResponse, GroupRequest
from .protocol import ErrorResponse

FIND_TIMEOUT_S = 5.0
_MOVED = frozenset({ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE})
_NOT_NOW = _MOVED | {ErrorCode.COORDINATOR_LOAD_IN_PROGRESS}

ResponseT = TypeVar("ResponseT")


class GroupCoordinator:
    """The coordinator of one group, wherever it is."""

    def __init__(self, cluster: Cluster, group: str) -> None:
        self.cluster = cluster
        self.group = group
        self._broker: BrokerId | None = None

    async def ask(self, request: GroupRequest, answer_type: type[ResponseT], *, timeout_s: float) -> ResponseT:
        """One attempt. An error of the group is in the answer; raises ConnectionLost, or another retriable OttlaError,
        where the coordinator is not known, has moved or is loading, and what else refuses the request."""
        broker = await self._find()
        try:
            connection = await self.cluster.connection(broker, "main")
            response = (await connection.request(request, timeout_s=timeout_s)).message
        except ConnectionLost:
            self.cluster.suspect(broker)
            self._broker = None
            raise
        if isinstance(response, ErrorResponse):
            raise self._refusal(response.error, response.message)
        if not isinstance(response, answer_type):
            raise ConnectionLost("the broker's answer is not one to this request.")
        error = getattr(response, "error", ErrorCode.NONE)
        if error in _NOT_NOW:
            raise self._refusal(error, getattr(response, "message", ""))
        return response

    async def insist(self, request: GroupRequest, answer_type: type[ResponseT], *, timeout_s: float) -> ResponseT:
        """As ``ask``, and again, without end, while it has moved, is loading or does not answer; ``timeout_s`` is of
        each attempt. Raises what refuses the request."""
        attempt = 0
        while True:
            try:
                return await self.ask(request, answer_type, timeout_s=timeout_s)
            except OttlaError as error:
                if not error.retriable:
                    raise
            await asyncio.sleep(backoff_s(attempt, self.cluster.chance))
            attempt += 1

    def _refusal(self, error: ErrorCode, message: str) -> OttlaError:
        if error in _MOVED:
            self._broker = None
        return error_for(error, message)

    async def _find(self) -> BrokerId:
        if self._broker is not None and self._is_there(self._broker):
            return self._broker
        asked = await self.cluster.ask_any(FindCoordinatorRequest((self.group,)), timeout_s=FIND_TIMEOUT_S)
        response = asked.response
        if isinstance(response, ErrorResponse):
            raise error_for(response.error, response.message)
        if not isinstance(response, FindCoordinatorResponse) or len(response.coordinators) != 1:
            raise ConnectionLost("the broker's answer is not one to this request.")
        found = response.coordinators[0]
        if found.error is not ErrorCode.NONE or found.node_id is None:
            raise error_for(found.error or ErrorCode.COORDINATOR_NOT_AVAILABLE, found.message)
        if not self._is_there(found.node_id):
            await self.cluster.refresh()
        self._broker = found.node_id
        return found.node_id

    def _is_there(self, broker: BrokerId) -> bool:
        """Whether it is alive for all that the metadata say: of one that hangs somebody else may have heard already."""
        known = self.cluster.brokers.get(broker)
        return known is not None and not known.fenced
