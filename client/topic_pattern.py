"""Topics by regular expression: RE2's, as Kafka's brokers take them, in time linear in the name whatever the pattern.

A pattern matches a whole name. The cluster's own topics are never matched. Pure.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from .group_names import INTERNAL_TOPICS

PATTERN_CHARACTERS_MAX = 1_000
PROGRAM_BYTES_MAX = 1 << 20
"""What a pattern may become, so that one with many repetitions takes no more memory than a short one."""
MATCHING_BYTES_MAX = 8 << 20
"""That, and what the library keeps to be quick."""


class BadPattern(ValueError):
    """Not a regular expression of RE2's, or too large a one; the text says why."""


def matching(pattern: str, names: Iterable[str]) -> tuple[str, ...]:
    """The names that a pattern means, sorted. Raises BadPattern."""
    matches = _compiled(pattern)
    return tuple(sorted(name for name in names if name not in INTERNAL_TOPICS and matches(name)))


def check_pattern(pattern: str) -> None:
    """Raises BadPattern."""
    _compiled(pattern)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Callable[[str], Any]:
    import re2  # with the first pattern: most nodes and clients never meet one

    if len(pattern) > PATTERN_CHARACTERS_MAX:
        raise BadPattern(f"a pattern has at most {PATTERN_CHARACTERS_MAX} characters, not {len(pattern)}")
    try:
        re2.compile(pattern, _options(PROGRAM_BYTES_MAX))  # says what is wrong, where a set does not
        alone = re2.Set.FullMatchSet(_options(MATCHING_BYTES_MAX))  # of one: three times as quick, for want of groups
        alone.Add(pattern)
        alone.Compile()
    except (re2.error, UnicodeEncodeError) as error:
        why = error.args[0] if isinstance(error, re2.error) else "it is not text"
        why = why.decode(errors="replace") if isinstance(why, bytes) else why
        raise BadPattern(f"{pattern[:100]!a} is not a regular expression of RE2's: {why}") from None
    match: Callable[[str], Any] = alone.Match
    return match


def _options(bytes_max: int) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    options.max_mem = bytes_max
    return options
