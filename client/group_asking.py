"""Asking the coordinator of a group, wherever it is now."""

import asyncio
from typing import TypeVar

from .backoff import backoff_s
from .cluster import Cluster
from .connection import ConnectionLost
from .error_codes import ErrorCode
from .errors import ConfigError, OttlaError, error_for
from .group_protocol import FindCoordinatorRequest, FindCoordinatorResponse, GroupRequest, GroupResponse
from .protocol import ErrorResponse
from .reading import check_name

TIMEOUT_S = 15.0
ATTEMPT_S = 8.0
GROUP_NAME_MAX = 255
_TRY_AGAIN = frozenset(
    {ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS}
)

R = TypeVar("R", bound=GroupResponse)


def check_group(group: object) -> None:
    """Whether a group can be called so. Raises ConfigError."""
    if not isinstance(group, str) or not group:
        raise ConfigError(f"group is {group!r:.100}.", hint=f"It is a name of 1 to {GROUP_NAME_MAX} characters.")
    check_name("group", group, GROUP_NAME_MAX)


async def ask(cluster: Cluster, group: str, request: GroupRequest, kind: type[R]) -> R:
    """The coordinator's answer, found and asked until it is one. Raises OttlaError."""
    check_group(group)
    deadline_s = cluster.clock.monotonic() + TIMEOUT_S
    attempt = 0
    while True:
        try:
            response = await _ask_once(cluster, group, request)
            error, message = _error_in(response)
            if error not in _TRY_AGAIN:
                assert isinstance(response, kind)
                return response
            problem: OttlaError = error_for(error, message)
        except ConnectionLost as lost:
            problem = lost
        pause_s = backoff_s(attempt, cluster.chance)
        if cluster.clock.monotonic() + pause_s > deadline_s:
            raise problem
        await asyncio.sleep(pause_s)
        attempt += 1


async def _ask_once(cluster: Cluster, group: str, request: GroupRequest) -> GroupResponse:
    found = (await cluster.ask_any(FindCoordinatorRequest((group,)), timeout_s=TIMEOUT_S)).response
    if not isinstance(found, FindCoordinatorResponse):
        assert isinstance(found, ErrorResponse)
        raise error_for(found.error, found.message)
    (coordinator,) = found.coordinators
    if coordinator.error is not ErrorCode.NONE or coordinator.node_id is None:
        raise (
            ConnectionLost(coordinator.message)
            if coordinator.error in _TRY_AGAIN
            else error_for(coordinator.error, coordinator.message)
        )
    if coordinator.node_id not in cluster.brokers:
        await cluster.refresh()
    connection = await cluster.connection(coordinator.node_id, "main")
    response = (await connection.request(request, timeout_s=ATTEMPT_S)).message
    if isinstance(response, ErrorResponse):
        raise error_for(response.error, response.message)
    return response  # type: ignore[return-value]


def _error_in(response: GroupResponse) -> tuple[ErrorCode, str]:
    """The error of the response, or of the one group in it."""
    groups = getattr(response, "groups", ())
    holder = groups[0] if groups else response
    return getattr(holder, "error", ErrorCode.NONE), getattr(holder, "message", "")


def check_answer(error: ErrorCode, message: str, *, hint: str = "") -> None:
    """Raises what a broker refused with."""
    if error is not ErrorCode.NONE:
        refused = error_for(error, message)
        refused.hint = hint or refused.hint
        raise refused
