"""Moments as people write them."""

import pytest

from ottla.client.times import parse_time

NOW_MS = 1_793_577_600_000


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("@2026-11-01T00:00Z", 1_793_491_200_000),
        ("@2026-11-01", 1_793_491_200_000),
        ("@2026-11-01T01:00:00.250+01:00", 1_793_491_200_250),
        ("@-1d", NOW_MS - 86_400_000),
        ("@-90m", NOW_MS - 5_400_000),
        ("@-250ms", NOW_MS - 250),
        ("@-999999999w", 0),
        ("@1793491200000", 1_793_491_200_000),
        ("@1960-01-01", 0),
        ("@20261101", 1_793_491_200_000),
        ("@0", 0),
        ("@793491200", 793_491_200),
    ],
)
def test_a_moment(text: str, moment: int) -> None:
    assert parse_time(text, NOW_MS) == moment


@pytest.mark.parametrize(
    "text",
    [
        "@",
        "@-1",
        "@-1y",
        "@1h",
        "@2026-13-01",
        "@yesterday",
        "@1",
        "@00",
        "@2026",
        "@202611",
        "@-\u0661h",
        "@" + "9" * 30,
    ],
)
def test_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        parse_time(text, NOW_MS)
