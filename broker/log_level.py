"""How much a node says, as the quorum has it: for one node or for all, changed while they run."""

from collections.abc import Callable

from ottla.log.model import BrokerId
from ottla.raft.image import ALL_BROKERS, MetadataImage

LOG_LEVEL = "log.level"


class LogLevel:
    """``at_start``: what holds where the quorum says nothing. ``set_level`` is called with every change."""

    def __init__(self, broker: BrokerId, at_start: str, set_level: Callable[[str], None]) -> None:
        self._broker = str(broker)
        self._at_start = at_start
        self._set_level = set_level
        self._present = at_start

    def follow(self, image: MetadataImage) -> None:
        """The newest image."""
        configs = image.broker_configs
        for key in (self._broker, ALL_BROKERS):
            if (level := configs.get(key, {}).get(LOG_LEVEL)) is not None:
                break
        else:
            level = self._at_start
        if level != self._present:
            self._present = level
            self._set_level(level)
