"""Moments as people write them after an @: absolute, or so long ago. Pure."""

import re
from datetime import UTC, datetime

_AGO = re.compile(r"-([0-9]{1,9})(ms|s|m|h|d|w)")
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
_DIGITS_MAX = 15
_DATE_DIGITS = 8
"""So many digits are a date, and fewer were meant as one, or as an offset; but for 0."""


def parse_time(text: str, now_ms: int) -> int:
    """Milliseconds since 1970 of ``@2026-11-01T00:00Z`` (without a zone: UTC), ``@-1h`` (ms, s, m, h, d or w before
    ``now_ms``) or ``@1793491200000``. Raises ValueError saying what would be understood."""
    moment = text.removeprefix("@")
    if ago := _AGO.fullmatch(moment):
        return max(0, now_ms - int(ago[1]) * _UNIT_MS[ago[2]])
    digits = len(moment) if moment.isascii() and moment.isdigit() else 0
    if moment == "0" or _DATE_DIGITS < digits <= _DIGITS_MAX:
        return int(moment)
    try:
        parsed = datetime.fromisoformat(moment)
        parsed = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
        return max(0, int(parsed.timestamp() * 1000))
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text[:50]!r} is no time; write @2026-11-01T00:00Z, @-1h (ms, s, m, h, d, w) or milliseconds since 1970"
        ) from None
