"""A smaller schedule that fails in the same way: delta debugging over the acts (Zeller and Hildebrandt's ddmin)."""

from collections.abc import Callable, Sequence

from .faults.plan import Act

Fails = Callable[[Sequence[Act]], bool]


def shrink(acts: Sequence[Act], fails: Fails, runs_max: int = 200) -> list[Act]:
    """A subset of ``acts`` that still fails, from which no act can be taken away, or what ``runs_max`` runs found."""
    kept, parts, runs = list(acts), 2, 0
    while len(kept) >= 1 and runs < runs_max:
        size = max(1, len(kept) // parts)
        for first in range(0, len(kept), size):
            fewer = kept[:first] + kept[first + size :]
            runs += 1
            if fails(fewer):
                kept, parts = fewer, max(2, parts - 1)
                break
            if runs >= runs_max:
                return kept
        else:
            if size == 1:
                return kept
            parts = min(len(kept), 2 * parts)
    return kept
