"""`ottla consume -g`: what was written out is committed, however the command ends."""

import json

import pytest

from ottla.cli.main import run
from ottla.client import sync
from ottla.client.testing import LocalCluster

RECORDS = 5000


@pytest.mark.parametrize("limit", [1, 700, 4200])
def test_a_limit_ends_behind_the_last_commit(
    ottla_cluster: LocalCluster, capfdbinary: pytest.CaptureFixture[bytes], limit: int
) -> None:
    servers = ",".join(ottla_cluster)
    with sync.connect(ottla_cluster) as client:
        client.admin.create_topic("orders", partitions=6)
        with client.producer() as producer:
            for number in range(RECORDS):
                producer.send_nowait("orders", b"%d" % number, key=b"%d" % number)
            producer.flush()
    assert run(["consume", "orders", "-g", "g", "--from", "start", "-n", str(limit), "--servers", servers]) == 0
    assert len(capfdbinary.readouterr().out.splitlines()) == limit
    assert run(["group", "show", "g", "-o", "json", "--servers", servers]) == 0
    shown = json.loads(capfdbinary.readouterr().out)
    assert sum(partition["committed"] or 0 for partition in shown["partitions"]) == limit
