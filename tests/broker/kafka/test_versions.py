"""What is advertised is served, and known to be encoded as it is."""

import re
from pathlib import Path

import pytest

from ottla.broker.kafka.router import _handlers
from ottla.broker.kafka.versions import SERVED, ApiKey, is_flexible

from .kio_bytes import every_version, request_class

BY_HAND = {ApiKey.PRODUCE, ApiKey.FETCH, ApiKey.METADATA, ApiKey.API_VERSIONS}


@pytest.mark.parametrize(("key", "version"), every_version())
def test_flexible_encodings_begin_where_the_schemas_say(key: ApiKey, version: int) -> None:
    assert is_flexible(key, version) == request_class(key, version).__flexible__


def test_everything_advertised_has_a_handler_and_nothing_else() -> None:
    assert set(_handlers()) | BY_HAND == set(SERVED)
    assert not set(_handlers()) & BY_HAND


def test_the_documentation_lists_what_is_served() -> None:
    text = (Path(__file__).parents[3] / "docs" / "kafka.md").read_text()
    told = {
        (name.lower(), int(oldest), int(newest or oldest))
        for name, oldest, newest in re.findall(r"\| (\w+) \| (\d+)(?:-(\d+))? (?=\|)", text)
    }
    assert told == {(key.name.replace("_", "").lower(), v.oldest, v.newest) for key, v in SERVED.items()}
