"""Consumer groups for people: which there are, and how far one is, through the SDK like any other client."""

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from ottla.client.client import Client
from ottla.client.error_codes import ErrorCode
from ottla.client.errors import RequestFailed
from ottla.client.group_admin import GroupAdmin

from .problem import problem


class GroupsDoor:
    """``client``: this node's own, opened on first use."""

    def __init__(self, client: Callable[[], Awaitable[Client]]) -> None:
        self._client = client

    async def list(self, request: web.Request) -> web.Response:
        """Every group of the cluster, a line each."""
        groups = await (await self._admin()).list_groups()
        rows = [{"group": g.group_id, "type": g.group_type, "state": g.state, "members": g.members} for g in groups]
        return _json({"groups": rows})

    async def show(self, request: web.Request) -> web.Response:
        """One group: its members, what it has committed, and its lag."""
        name = request.match_info["group"]
        try:
            described = await (await self._admin()).describe_group(name)
        except RequestFailed as error:
            if error.error is ErrorCode.GROUP_ID_NOT_FOUND:
                return problem(404, error.code, f"there is no group {name}", hint="List what there is: GET /v1/groups")
            raise
        return _json({"lag": described.lag, **msgspec.to_builtins(described)})

    async def _admin(self) -> GroupAdmin:
        return GroupAdmin((await self._client()).cluster)


def _json(document: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), content_type="application/json")
