"""The pictures of a run are whole, name what they show, and need nothing from a network."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, strategies as st

from .checkers.verdict import RunFacts, judge, write_verdict
from .history import Fault
from .planted import Script, seen
from .report import write_report
from .report.svg import Chart, round_ticks, tag


@pytest.fixture
def run(tmp_path: Path) -> Path:
    script = Script().assign(1, 0).sent(4).send(2, (0, None, 99), type="info", error="<late> & lost")
    script.poll(1, (0, seen(0, 3))).poll(3, (0, [seen(0, 0)[0], *seen(2, 3)])).topic(4, "create", "a", 1)
    history = script.history
    history.faults = [
        Fault(3_000_000, "kill", "start", ["n1"], detail="at <append>"),
        Fault(9_000_000, "kill", "end", ["n1"]),
        Fault(10_000_000, "cut", "start", ["n2", "n3"]),
    ]
    history.write(tmp_path)
    write_verdict(tmp_path, judge(history.ops, history.faults, RunFacts(seed=3)))
    return tmp_path


def test_every_picture_is_well_formed(run: Path) -> None:
    written = write_report(run)
    names = [str(path.relative_to(run)) for path in written]
    assert names == ["timeline.html", "latency.svg", "rate.svg", "unseen.svg", "orders/0.svg"]
    for path in written[1:]:
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_the_timeline_has_a_lane_for_everybody_and_tells_of_each_operation(run: Path) -> None:
    page = write_report(run)[0].read_text()
    assert all(f">{lane}<" in page for lane in ("node n1", "node n2", "node n3", "process 0", "process 4"))
    assert page.count('class="bar"') == 9 + 3  # operations, and faults by node
    assert "&lt;late&gt; &amp; lost" in page
    assert "BAD: int-poll-skip" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "<script" not in page


def test_faults_are_behind_every_chart(run: Path) -> None:
    for path in write_report(run)[1:4]:
        said = path.read_text()
        assert "fault: kill" in said
        assert "at &lt;append&gt;" in said


def test_the_order_of_a_bad_key_marks_who_skipped(run: Path) -> None:
    said = (write_report(run)[-1]).read_text()
    assert 'style="fill:#c62828">poll ok, process 3' in said
    assert 'style="fill:#333">poll ok, process 1' in said


def test_without_a_verdict_the_bad_keys_are_found(run: Path) -> None:
    (run / "verdict.json").unlink()
    assert [path.name for path in write_report(run)][-1] == "0.svg"


def test_an_empty_run_has_pictures_too(tmp_path: Path) -> None:
    Script().history.write(tmp_path)
    assert len(write_report(tmp_path)) == 4


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    ticks = round_ticks(low, low + span)
    assert len(ticks) <= 9
    slack = 1e-6 * max(1.0, abs(low), span)
    assert all(low - slack <= tick <= low + span + slack for tick in ticks)


@given(st.text(max_size=30))
def test_any_text_is_escaped(said: str) -> None:
    printable = "".join(sign for sign in said if sign.isprintable())
    element = ElementTree.fromstring(tag("rect", title=printable, id=printable))
    assert element[0].text == printable if printable else len(element) == 0
    assert element.get("id") == printable


def test_a_chart_of_nothing_can_be_drawn() -> None:
    chart = Chart("nothing", "ms", 0.0, 0.01, 0.01, logarithmic=True)
    ElementTree.fromstring(chart.finish())
