"""Loads by name. Each takes a Stage."""

from collections.abc import Callable

from ..stage import Stage, Workload
from .acks01 import Acks01Workload
from .compact import CompactWorkload
from .flush import FlushWorkload
from .group import GroupWorkload
from .idem import IdemWorkload
from .meta import MetaWorkload
from .queue import QueueWorkload
from .remake import RemakeFlushWorkload, RemakeWorkload

WORKLOADS: dict[str, Callable[[Stage], Workload]] = {
    "queue": QueueWorkload,
    "idem": IdemWorkload,
    "acks01": Acks01Workload,
    "meta": MetaWorkload,
    "remake": RemakeWorkload,
    "remake-flush": RemakeFlushWorkload,
    "flush": FlushWorkload,
    "compact": CompactWorkload,
    "group": GroupWorkload,
}
