"""Arms the failpoints of the product (ottla.log.failpoints): every named step says that it begins, and that it ended.

Names are the product's with ``.before`` or ``.after``: ``log.append.before``, ``raft.hard_state.after``.
"""

import contextlib
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import ottla.broker.node  # noqa: F401  # everything that has failpoints
from ottla.log.failpoints import FAILPOINTS


def names() -> list[str]:
    """Every place, in order."""
    return [f"{name}.{side}" for name in sorted(FAILPOINTS) for side in ("before", "after")]


@contextlib.contextmanager
def armed(hit: Callable[[str], None]) -> Iterator[None]:
    """Call ``hit`` with each place that is passed. What it raises is raised there."""
    undo: list[tuple[Any, str, Any]] = []
    try:
        for name, (module, qualified) in sorted(FAILPOINTS.items()):
            owner_name, _, method = qualified.rpartition(".")
            owner = attrgetter(owner_name)(importlib.import_module(module))
            original = inspect.getattr_static(owner, method)
            undo.append((owner, method, original))
            setattr(owner, method, _wrapped(original, name, hit))
        yield
    finally:
        for owner, method, original in reversed(undo):
            setattr(owner, method, original)


def _wrapped(step: Any, name: str, hit: Callable[[str], None]) -> Any:
    before, after = f"{name}.before", f"{name}.after"
    if inspect.iscoroutinefunction(step):

        @functools.wraps(step)
        async def stepping(*arguments: Any, **keywords: Any) -> Any:
            hit(before)
            result = await step(*arguments, **keywords)
            hit(after)
            return result

        return stepping

    @functools.wraps(step)
    def stepped(*arguments: Any, **keywords: Any) -> Any:
        hit(before)
        result = step(*arguments, **keywords)
        hit(after)
        return result

    return stepped
