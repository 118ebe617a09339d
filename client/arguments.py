"""Whether what a program gives a consumer is of the kind that it has to be: each raises ConfigError."""

from typing import Any

from ottla.log.model import TopicPartition

from .errors import ConfigError

OFFSET_MAX = (1 << 63) - 1


def check_offset(offset: Any) -> None:
    """Of a record, as the log counts them."""
    if not isinstance(offset, int) or isinstance(offset, bool):
        raise ConfigError(f"offset is {offset!r:.100}.", hint="It is a whole number.")
    if not 0 <= offset <= OFFSET_MAX:
        raise ConfigError(f"offset is {offset!r:.100}.", hint="Offsets begin at 0, and have 63 bits.")


def pair(key: Any) -> TopicPartition:
    """The partition that (topic, number) is."""
    if isinstance(key, tuple) and len(key) == 2:
        topic, number = key
        if isinstance(topic, str) and isinstance(number, int) and not isinstance(number, bool):
            return TopicPartition(topic, number)
    raise ConfigError(f"a partition is {key!r:.100}.", hint='Each is a pair of topic and number: ("orders", 0).')
