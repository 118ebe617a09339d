"""The schedule: data, so that it can be written down, replayed and made smaller.

Periods of 20 s have a random few of the kinds each, and one in four has none, so that the cluster recovers.
"""

from collections.abc import Collection
from random import Random

import msgspec

PERIOD_S = 20.0
QUIET_CHANCE = 0.25
PAUSE_S = (0.2, 2.0)
"""Between two acts."""
MEND_CHANCE = 0.75
AT = "@"
"""In a kind, before a failpoint's place: ``failpoint@log.append.before``."""


class Act(msgspec.Struct, frozen=True):
    """One fault: at ``at_s`` after the start, or as soon as the one before it is over."""

    at_s: float
    kind: str
    seed: int
    mend: bool


def plan(seed: int, seconds: float, kinds: Collection[str]) -> list[Act]:
    """The schedule of a seed: acts in order, none after ``seconds``."""
    chance, names = Random(f"plan {seed}"), sorted(kinds)
    acts: list[Act] = []
    at_s, period_ends_s, chosen = chance.uniform(0, 2), 0.0, []
    while at_s < seconds and names:
        if at_s >= period_ends_s:
            period_ends_s = at_s + PERIOD_S
            quiet = chance.random() < QUIET_CHANCE and bool(acts)
            chosen = [] if quiet else chance.sample(names, min(len(names), chance.choice((1, 2, 3, 5))))
        if not chosen:
            at_s = period_ends_s
            continue
        kind, detail, mend = chance.choice(chosen), chance.randrange(1 << 30), chance.random() < MEND_CHANCE
        acts.append(Act(round(at_s, 3), kind, detail, mend))
        at_s += chance.uniform(*PAUSE_S)
    return acts
