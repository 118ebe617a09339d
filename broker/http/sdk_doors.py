"""The doors that are clients of the cluster themselves, for people with curl: records and groups.

With them comes the whole SDK: 5 MB, and a tenth of a second. A node that only programs and other nodes speak to needs
none of it, so it is loaded when the first such request comes, away from the event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

from ottla.log.clock import Clock

if TYPE_CHECKING:
    from .groups import GroupsDoor
    from .records import RecordsDoor


class _Open(NamedTuple):
    records: "RecordsDoor"
    groups: "GroupsDoor"


class SdkDoors:
    """``own``: the address of this node, which the SDK begins at."""

    def __init__(
        self, own: str, cluster_id: str, clock: Clock, run_blocking: Callable[[Callable[[], None]], Awaitable[None]]
    ) -> None:
        self._own = own
        self._cluster_id = cluster_id
        self._clock = clock
        self._run_blocking = run_blocking
        self._loading = asyncio.Lock()
        self._open: _Open | None = None

    async def records(self) -> "RecordsDoor":
        """For what is produced and read."""
        return (await self._opened()).records

    async def groups(self) -> "GroupsDoor":
        """For what groups there are."""
        return (await self._opened()).groups

    async def close(self) -> None:
        """Let go of the client."""
        if self._open is not None:
            await self._open.records.close()

    async def _opened(self) -> _Open:
        async with self._loading:
            if self._open is None:
                await self._run_blocking(_load)
                self._open = self._make()
            return self._open

    def _make(self) -> _Open:
        from ottla.client.client import connect

        from .groups import GroupsDoor
        from .records import RecordsDoor

        records = RecordsDoor(lambda: connect([self._own]), self._cluster_id, self._clock)
        return _Open(records, GroupsDoor(records.client))


def _load() -> None:
    """Have the modules in memory."""
    from . import groups, records  # noqa: F401
