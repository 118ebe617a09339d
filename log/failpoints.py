"""Names for the places where a test may stop the world: just before, or just after, a step that matters.

    class PartitionLog:
        @failpoint("log.append")
        def _append_run(self, ...): ...

The decorator writes the name down and returns the function as it was: a node that serves pays nothing, not even a test.
The fault injection (tests/chaos) wraps what is written down here, and kills a node inside it (after etcd's gofail).
"""

from collections.abc import Callable
from typing import TypeVar

Step = TypeVar("Step", bound=Callable[..., object])

FAILPOINTS: dict[str, tuple[str, str]] = {}
"""By name, the module and the qualified name of the method. Complete once everything is imported."""


def failpoint(name: str) -> Callable[[Step], Step]:
    """Give this method's beginning and end a name. Each name is used once."""

    def register(step: Step) -> Step:
        assert name not in FAILPOINTS, f"two failpoints are called {name}"
        FAILPOINTS[name] = (step.__module__, step.__qualname__)
        return step

    return register
