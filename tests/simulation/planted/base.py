"""What a planted bug is."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NamedTuple
from unittest import mock


class Bug(NamedTuple):
    """``plant`` gives the context in which every node has the bug. ``rule``: what it breaks; ``source``: whose rule."""

    plant: Callable[[], AbstractContextManager[Any]]
    rule: str
    source: str


def put(target: Any, name: str, replacement: Any) -> Callable[[], AbstractContextManager[Any]]:
    """``target.name`` is ``replacement`` while the bug is planted."""
    return lambda: mock.patch.object(target, name, replacement)


def put_at(path: str, replacement: Any) -> Callable[[], AbstractContextManager[Any]]:
    """The same for a module's name, ``ottla.raft.election.settle``."""
    return lambda: mock.patch(path, replacement)


def together(*plants: Callable[[], AbstractContextManager[Any]]) -> Callable[[], AbstractContextManager[Any]]:
    """Several places at once."""

    @contextlib.contextmanager
    def planted() -> Iterator[None]:
        with ExitStack() as stack:
            for plant in plants:
                stack.enter_context(plant())
            yield

    return planted
