"""What a program gives a consumer that no consumer can take is refused at once, with a code, and breaks nothing."""

from typing import Any

import pytest

from ottla.client.client import connect
from ottla.client.errors import ConfigError, OttlaError
from tests.client.fake_broker import FakeCluster
from tests.client.test_consumer import fill
from tests.client.test_group_consumer import QUICK, in_group, soon, until

GROUPED = pytest.mark.parametrize("grouped", [{}, {"group": "g", **QUICK}], ids=["alone", "in a group"])
NO_OFFSETS = [-1, 1 << 63, 1 << 70, 1.5, True, None, b"1", "1", "middle"]


@GROUPED
@pytest.mark.parametrize("offset", NO_OFFSETS, ids=repr)
async def test_a_seek_to_what_is_no_offset_is_refused_and_moves_nothing(offset: Any, grouped: dict[str, Any]) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        async with client.consumer("t", **grouped) as consumer:
            await soon(anext(consumer))
            with pytest.raises(ConfigError):
                await soon(consumer.seek("t", 0, offset))
            assert (await soon(anext(consumer))).offset == 1
        assert cluster.groups.offsets.get(("t", 0), 2) == 2


@pytest.mark.parametrize("start", [-1, 1 << 63, 1.5, True, None, "middle"], ids=repr)
async def test_a_start_at_what_is_no_offset_is_refused(start: Any) -> None:
    with pytest.raises(ConfigError):
        connect("127.0.0.1:1").consumer("t", start=start)


async def test_a_bug_that_ends_the_commits_is_told_to_who_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeCluster() as cluster, connect(cluster.servers) as client:
        fill(cluster.create("t"), 0, 5)
        async with in_group(client) as consumer:
            await soon(anext(consumer))
            await soon(anext(consumer))
            await until(lambda: cluster.groups.offsets.get(("t", 0)) == 1)

            def broken(keys: Any) -> Any:
                raise OverflowError("int too big to convert")

            with monkeypatch.context() as patched:
                patched.setattr(consumer._parts, "finished", broken)
                await until(lambda: consumer._fetcher._ended)
            assert [(await soon(anext(consumer))).offset for _ in range(3)] == [2, 3, 4]  # of the batch that is open
            with pytest.raises(OttlaError, match="commits ended by OverflowError"):
                await soon(anext(consumer))
        assert cluster.groups.offsets["t", 0] == 5
