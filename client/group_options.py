"""What a consumer in a group can be told."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ottla.log.model import TopicPartition

from .arguments import check_flag, check_function, check_number
from .assignors import ASSIGNORS, Assignor
from .errors import ConfigError
from .reading import check_name

OnPartitions = Callable[[frozenset[TopicPartition]], Awaitable[None] | None]
"""Called, and awaited where it is a coroutine function, with the partitions it is about."""

SECONDS_MAX = (2**31 - 1) // 1000
"""Milliseconds travel in 32 bits."""


@dataclass(frozen=True, slots=True)
class GroupOptions:
    """``auto_commit``: commit, every ``commit_interval_s`` seconds, what the handler has finished. ``instance_id``:
    of a static member (KIP-345): after a restart within the session it has its partitions back without a rebalance.
    ``protocol``: "consumer" (KIP-848), with ``assignor``: "uniform" or "range", None for the group's; or "classic",
    with ``assignors``: "range", "roundrobin", "sticky", "cooperative-sticky" or your own, the best first, and
    ``session_timeout_s``. ``max_poll_interval_s``: how long a handler may take
    for one record, or batch: then its partitions are paused until it is done, and a revocation waits no longer.
    ``on_assigned``: before the first record of these; ``on_revoked``: before they go to others, with time to commit;
    ``on_lost``: they have gone already."""

    protocol: str = "consumer"
    auto_commit: bool = True
    commit_interval_s: float = 1.0
    commit_timeout_s: float = 10.0
    instance_id: str | None = None
    assignor: str | None = None
    assignors: tuple[str | Assignor, ...] = ("cooperative-sticky",)
    session_timeout_s: float = 45.0
    max_poll_interval_s: float = 300.0
    on_assigned: OnPartitions | None = None
    on_revoked: OnPartitions | None = None
    on_lost: OnPartitions | None = None

    def check(self) -> None:
        """Raises ConfigError."""
        if self.protocol not in ("consumer", "classic"):
            raise ConfigError(f"protocol is {self.protocol!r}.", hint='It is "consumer" or "classic".')
        self._check_assignors()
        if self.protocol == "consumer" and self.session_timeout_s != GroupOptions().session_timeout_s:
            raise ConfigError(
                "session_timeout_s is of the classic protocol.",
                hint="Here the brokers' group.consumer.session.timeout.ms holds for all members.",
            )
        check_flag("auto_commit", self.auto_commit)
        for name in ("on_assigned", "on_revoked", "on_lost"):
            check_function(name, getattr(self, name))
        for name in ("commit_interval_s", "commit_timeout_s", "max_poll_interval_s", "session_timeout_s"):
            check_number(name, getattr(self, name))
        for name in ("max_poll_interval_s", "session_timeout_s"):
            if getattr(self, name) > SECONDS_MAX:
                raise ConfigError(f"{name} is {getattr(self, name)}.", hint=f"It is {SECONDS_MAX} at most: 24 days.")
        if self.instance_id == "":
            raise ConfigError("instance_id is empty.", hint="Leave it out for a dynamic member.")
        check_name("instance_id", "" if self.instance_id is None else self.instance_id, 249)
        check_name("assignor", "" if self.assignor is None else self.assignor, 255)

    def _check_assignors(self) -> None:
        self.chosen_assignors()
        if self.protocol == "consumer" and tuple(self.assignors) != GroupOptions().assignors:
            raise ConfigError(
                "assignors are of the classic protocol.", hint='Give assignor, or protocol="classic" beside them.'
            )
        if self.protocol == "classic" and self.assignor is not None:
            raise ConfigError('assignor is of the protocol "consumer".', hint="Give assignors.")

    def chosen_assignors(self) -> tuple[Assignor, ...]:
        """Of the classic protocol. Raises ConfigError."""
        given: Any = self.assignors
        named = given if isinstance(given, Iterable) and not isinstance(given, str) else ()
        chosen: tuple[Any, ...] = tuple(ASSIGNORS.get(one) if isinstance(one, str) else one for one in named)
        if not chosen or not all(map(_is_assignor, chosen)):
            raise ConfigError(
                f"assignors are {given!r:.200}.",
                hint=f"In a list, there are {', '.join(ASSIGNORS)}, and objects with name, cooperative and assign.",
            )
        return chosen


def _is_assignor(given: Any) -> bool:
    return all(hasattr(given, name) for name in ("name", "cooperative", "assign"))
