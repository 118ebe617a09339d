"""Bugs to plant, each a mistake a real system has made: what the fault injection misses of these, it is blind to.

python -m tests.chaos bugs --only ack_early                         hunt one, as tests/chaos/hunts.py says
python -m tests.simulation.run --seeds 0:20 --plant ack_early       the same in the simulation's own story
"""

from .base import Bug
from .cleaning import CLEANING
from .groups import GROUPS
from .log import LOG
from .membership import MEMBERSHIP
from .metadata import METADATA
from .moves import MOVES
from .replication import REPLICATION

BUGS: dict[str, Bug] = {**REPLICATION, **MEMBERSHIP, **METADATA, **MOVES, **LOG, **CLEANING, **GROUPS}
PLANTED = {name: bug.plant for name, bug in BUGS.items()}
