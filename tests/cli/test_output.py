import json

import pytest

from ottla.cli.output import Output, counted, plain, show_bytes, show_rows
from ottla.cli.yaml_emitter import emit_yaml

ROWS = [
    {"name": "a", "isr": [1, 2], "size": 3, "extra": None},
    {"name": "b" * 200, "isr": [], "size": None, "extra": 1},
]


def test_a_table_has_a_line_per_row_and_never_wraps(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(ROWS, ("name", "isr", "size"), Output.table)
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split() == ["NAME", "ISR", "SIZE"]
    assert first.split() == ["a", "1,2", "3"]
    assert second.split() == ["b" * 200, "-", "-"]


def test_json_holds_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(ROWS, ("name",), Output.json)
    assert json.loads(capsys.readouterr().out) == ROWS


def test_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(ROWS[:1], ("name",), Output.yaml)
    assert capsys.readouterr().out == "- name: a\n  isr:\n    - 1\n    - 2\n  size: 3\n  extra: null\n"


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, "{}\n"),
        ([], "[]\n"),
        ({"a": {}, "b": []}, "a: {}\nb: []\n"),
        ([[1, 2], [3]], "- - 1\n  - 2\n- - 3\n"),
        ({"a": [{"b": {"c": 1}}]}, "a:\n  - b:\n      c: 1\n"),
        (["no", "True", "null", "1", "1.5", "", " x", "a: b", "#c", "-", "x\ny", "ö", "127.0.0.1:7080"],
         '- "no"\n- "True"\n- "null"\n- "1"\n- "1.5"\n- ""\n- " x"\n- "a: b"\n- "#c"\n- "-"\n- "x\\ny"\n'
         '- "\\u00f6"\n- "127.0.0.1:7080"\n'),
        ({"retention.ms": "5", "on": True}, 'retention.ms: "5"\n"on": true\n'),
    ],
)  # fmt: skip
def test_yaml_quotes_whatever_could_be_mistaken(document: object, expected: str) -> None:
    assert emit_yaml(document) == expected


def test_cells() -> None:
    assert [plain(value) for value in (None, [], (1, 2), True, False, 0, "x")] == [
        "-",
        "-",
        "1,2",
        "yes",
        "no",
        "0",
        "x",
    ]
    assert [show_bytes(size) for size in (0, 1023, 1536, 5 << 40)] == ["0 B", "1023 B", "1.5 KiB", "5.0 TiB"]


def test_counting() -> None:
    assert [counted(number, "record") for number in (0, 1, 2, 1234)] == [
        "0 records",
        "1 record",
        "2 records",
        "1,234 records",
    ]
