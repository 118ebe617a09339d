"""What tests of a stopping node share."""

import asyncio
from typing import Any

import pytest

from ottla.broker.api.fetch import LongPolls


@pytest.fixture
def polled(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Somebody waits for news."""
    event, add = asyncio.Event(), LongPolls.add

    def noted(self: LongPolls, poll: Any) -> None:
        add(self, poll)
        event.set()

    monkeypatch.setattr(LongPolls, "add", noted)
    return event
