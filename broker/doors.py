"""Everything a node reaches the world through."""

from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from ottla.log.chance import Chance
from ottla.log.clock import Clock
from ottla.log.run_blocking import RunBlocking
from ottla.log.storage import Storage


@dataclass(frozen=True, slots=True)
class Doors:
    """Of one node."""

    storage: Storage
    clock: Clock
    chance: Chance
    session: aiohttp.ClientSession
    run_for_raft: RunBlocking  # one call at a time: the journal's own
    run_for_logs: RunBlocking
    set_log_level: Callable[[str], None] = lambda level: None  # of the whole process
