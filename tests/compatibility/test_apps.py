"""Stream processors: each reads a topic, keeps a sum for each key in a state with a changelog, writes another topic,
and goes on where it was when it is started again."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import note, start
from .registry import APPS, installed
from .target import Target
from .worker import Sent, Worker

pytestmark = [pytest.mark.processes, pytest.mark.slow, pytest.mark.xdist_group("apps")]
HERE = Path(__file__).parent / "apps"


@pytest.fixture(scope="module")
def other(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """Who feeds the app and reads what it wrote."""
    if not installed():
        pytest.skip("no Kafka client is installed")
    worker = start(installed()[0].name, target, tmp_path_factory.mktemp("feeder"))
    yield worker
    worker.close()


@contextmanager
def running(script: str, directory: Path, *arguments: str) -> Iterator[None]:
    assert APPS is not None
    with (directory / "app.log").open("ab") as log:
        app = subprocess.Popen((str(APPS), str(HERE / script), *arguments), stdout=log, stderr=log, cwd=directory)
    try:
        yield
    finally:
        app.terminate()
        try:
            app.wait(30)
        except subprocess.TimeoutExpired:
            app.kill()
            app.wait()


@pytest.mark.skipif(APPS is None, reason="the stream processors are not installed")
@pytest.mark.parametrize(("app", "script"), [("quixstreams", "quix.py"), ("faust-streaming", "faust_app.py")])
def test_a_stream_is_mapped_with_state(target: Target, other: Worker, tmp_path: Path, app: str, script: str) -> None:
    assert APPS is not None
    version = subprocess.check_output(
        (str(APPS), "-c", f"import importlib.metadata as m; print(m.version({app!r}))"), text=True
    ).strip()
    try:
        feed_and_check(target, other, tmp_path, script)
    except BaseException:
        note(client=app, version=version, case="app", params={}, outcome="failed")
        print((tmp_path / "app.log").read_text()[-3000:])
        raise
    note(client=app, version=version, case="app", params={}, outcome="passed")


def feed_and_check(target: Target, other: Worker, directory: Path, script: str) -> None:
    source, sink = target.topic(partitions=2), target.topic(partitions=2)
    arguments = (script, directory, target.servers, target.name("app"), source, sink)
    expected: list[tuple[bytes, int, int]] = []
    totals = {b"a": 0, b"b": 0}
    for start_at in (1, 51):  # it is started twice
        with running(*arguments):
            for number in range(start_at, start_at + 50):
                key = b"ab"[number % 2 :][:1]
                totals[key] += number
                expected.append((key, 2 * number, totals[key]))
            batch = range(start_at, start_at + 50)
            other.produce(source, [Sent(b'{"n": %d}' % n, key=b"ab"[n % 2 :][:1], partition=n % 2) for n in batch])
            found = other.consume(sink, len(expected), timeout_s=80.0)
        assert sorted(understood(record.key, record.value) for record in found) == sorted(expected)


def understood(key: bytes | None, value: bytes | None) -> tuple[bytes, int, int]:
    content = json.loads(value or b"null")
    return (key or b"").strip(b'"'), content["n"], content["total"]
