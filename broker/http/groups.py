"""Consumer groups for people: which there are, and how far one is, through the SDK like any other client."""

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from ottla.client.admin import Admin
from ottla.client.client import Client
from ottla.client.error_codes import ErrorCode
from ottla.client.errors import RequestFailed
from ottla.client.group_descriptions import group_document, listed_document

from .problem import problem


class GroupsDoor:
    """``client``: this node's own, opened on first use. The documents are those of ``ottla group -o json``."""

    def __init__(self, client: Callable[[], Awaitable[Client]]) -> None:
        self._client = client

    async def list(self, request: web.Request) -> web.Response:
        """Every group of the cluster, a line each, and the nodes that did not tell theirs."""
        if request.query:
            return _takes_no_parameters(request)
        found = await (await self._admin()).list_groups()
        unanswered = [{"node": node, "problem": problem} for node, problem in sorted(found.unanswered.items())]
        return _json({"groups": [listed_document(group) for group in found.groups], "unanswered": unanswered})

    async def show(self, request: web.Request) -> web.Response:
        """One group: its members, what it has committed, and its lag."""
        if request.query:
            return _takes_no_parameters(request)
        try:
            described = await (await self._admin()).describe_group(request.match_info["group"])
        except RequestFailed as error:
            if error.error is ErrorCode.GROUP_ID_NOT_FOUND:
                return problem(404, error.code, str(error.args[0]), hint="List what there is: GET /v1/groups")
            raise
        return _json(group_document(described))

    async def _admin(self) -> Admin:
        return (await self._client()).admin


def _takes_no_parameters(request: web.Request) -> web.Response:
    name = min(request.query)
    return problem(
        400, "OTTLA-INVALID-REQUEST", f"unknown parameter {name[:50]!r}; there are none here", hint="See docs/http.md."
    )


def _json(document: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), content_type="application/json")
