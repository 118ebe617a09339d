"""Plays a schedule: each act when its turn comes, told when it begins and when it is over."""

import asyncio
from collections.abc import Callable, Collection
from random import Random

from ..history import Fault
from .failpoint import die_at
from .kinds import ALL_KINDS
from .nemesis import Nemesis
from .plan import AT, Act

LATE_S_MAX = 2.0

Report = Callable[[Fault], None]


class Player:
    """Has a nemesis play a schedule; ``report`` is told of the beginning and end of each act."""

    def __init__(self, nemesis: Nemesis, report: Report) -> None:
        self._nemesis = nemesis
        self._arena = nemesis.arena
        self._report = report
        self.played: list[Act] = []

    async def play(self, acts: Collection[Act], seconds: float, *, punctual: bool) -> None:
        """The acts whose turn comes within ``seconds``; then everything is mended.

        ``punctual``: an act whose time is past when its turn comes is left out. Acts take longer than the schedule
        allows for, so that otherwise the kinds of the first few seconds would be all that a run ever sees.
        """
        began_s = self._arena.now_s()
        for act in acts:
            elapsed_s = self._arena.now_s() - began_s
            if elapsed_s > seconds:
                break
            if punctual and elapsed_s > act.at_s + LATE_S_MAX:
                continue
            await asyncio.sleep(max(0.0, began_s + act.at_s - self._arena.now_s()))
            self.played.append(act)
            await self._perform(act)
        await self._nemesis.mend()

    async def _perform(self, act: Act) -> None:
        nemesis = self._nemesis
        nemesis.begin(Random(act.seed))
        begin_s = self._arena.now_s()
        started = Fault(int(begin_s * 1e9), act.kind, "start", [], False, f"seed {act.seed}")
        self._report(started)
        effective = bool(await self._play_kind(act.kind))
        if nemesis.cuts:
            effective = await self._arena.heal() > 0 or effective
        started.effective, started.targets = effective, list(nemesis.targets)
        self._report(Fault(int(self._arena.now_s() * 1e9), act.kind, "end", started.targets, effective, started.detail))
        # Where no majority is left nothing happens any more, and a run in which nothing happens proves nothing.
        if act.mend or 2 * sum(map(self._arena.is_up, self._arena.hosts)) <= len(self._arena.hosts):
            await nemesis.mend()

    async def _play_kind(self, kind: str) -> bool:
        name, _, place = kind.partition(AT)
        return await (die_at(self._nemesis, place) if place else ALL_KINDS[name](self._nemesis))
