"""Whether what a program gives a consumer is of the kind that it has to be: each raises ConfigError where it is not."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ottla.log.model import TopicPartition

from .errors import ConfigError

OFFSET_MAX = (1 << 63) - 1


def is_whole(number: Any) -> bool:
    """Python's True is a number, too."""
    return isinstance(number, int) and not isinstance(number, bool)


def check_offset(offset: Any) -> None:
    """Of a record, as the log counts them."""
    if not is_whole(offset):
        raise ConfigError(f"offset is {offset!r:.100}.", hint="It is a whole number.")
    if not 0 <= offset <= OFFSET_MAX:
        raise ConfigError(f"offset is {offset!r:.100}.", hint="Offsets begin at 0, and have 63 bits.")


def check_ends(ends: Any) -> None:
    """By partition, where a reading stops."""
    if ends is not None and not (isinstance(ends, Mapping) and all(map(is_whole, ends.values()))):
        raise ConfigError(f"the ends are {ends!r:.100}.", hint="They are a mapping, from partitions to offsets.")


def check_times(timestamps_ms: Any) -> None:
    """By partition, milliseconds since 1970."""
    if not isinstance(timestamps_ms, Mapping):
        raise ConfigError(f"the times are {timestamps_ms!r:.100}.", hint="They are a mapping, by partition.")
    for timestamp_ms in timestamps_ms.values():
        check_time(timestamp_ms)


def check_time(timestamp_ms: Any) -> None:
    """Milliseconds since 1970."""
    if not is_whole(timestamp_ms) or not -OFFSET_MAX <= timestamp_ms <= OFFSET_MAX:
        raise ConfigError(f"a time is {timestamp_ms!r:.100}.", hint="It is a whole number: milliseconds since 1970.")


def check_number(name: str, value: Any) -> None:
    """Above 0."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise ConfigError(f"{name} is {value!r:.100}.", hint="It is a number above 0.")


def check_whole(name: str, value: Any) -> None:
    """Above 0."""
    if not is_whole(value) or value <= 0:
        raise ConfigError(f"{name} is {value!r:.100}.", hint="It is a whole number above 0.")


def check_flag(name: str, value: Any) -> None:
    """Yes or no."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r:.100}.", hint="It is True or False.")


def check_batches(max_records: Any, max_wait: Any) -> None:
    """What ``batches`` is told."""
    check_whole("max_records", max_records)
    if max_wait != 0 or isinstance(max_wait, bool):
        check_number("max_wait", max_wait)


def pair(key: Any) -> TopicPartition:
    """The partition that (topic, number) is."""
    if isinstance(key, tuple | list) and len(key) == 2:
        topic, number = key
        if isinstance(topic, str) and is_whole(number):
            return TopicPartition(topic, number)
    raise ConfigError(f"a partition is {key!r:.100}.", hint='It is a pair of topic and number: ("orders", 0).')


def by_pair(what: str, given: Any) -> dict[TopicPartition, Any]:
    """A mapping by (topic, partition)."""
    if not isinstance(given, Mapping):
        raise ConfigError(f"{what} are {given!r:.100}.", hint="They are a mapping, by (topic, partition).")
    return {pair(key): value for key, value in given.items()}


def chosen_partitions(numbers: Any) -> tuple[int, ...] | None:
    """Of one topic; None for all of them."""
    if numbers is None:
        return None
    found = tuple(numbers) if isinstance(numbers, Iterable) else ()
    if not found or not all(map(is_whole, found)):
        raise ConfigError(f"partitions are {numbers!r:.100}.", hint="They are numbers, one or more; None means all.")
    return tuple(dict.fromkeys(found))


def chosen_topics(topics: Any) -> tuple[str, ...]:
    """One name, or several."""
    found = (topics,) if isinstance(topics, str) else tuple(topics) if isinstance(topics, Iterable) else ()
    if not found or not all(isinstance(topic, str) for topic in found) or len(set(found)) < len(found):
        raise ConfigError(f"the topics are {topics!r:.100}.", hint="Name one or more, each once.")
    return found


def chosen_functions(name: str, functions: Any) -> tuple[Callable[..., Any], ...]:
    """All of them."""
    found = tuple(functions) if isinstance(functions, Iterable) else (None,)
    if not all(map(callable, found)):
        raise ConfigError(f"{name} are {functions!r:.100}.", hint="They are functions, in a list.")
    return found


def check_function(name: str, function: Any) -> None:
    """Or None."""
    if function is not None and not callable(function):
        raise ConfigError(f"{name} is {function!r:.100}.", hint="It is a function, or a coroutine function.")
