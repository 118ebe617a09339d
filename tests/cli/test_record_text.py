import json

import pytest
from hypothesis import given, strategies as st

from ottla.cli.problems import UsageProblem
from ottla.cli.record_text import (
    BadRecord,
    LineSplitter,
    TextRecord,
    line_parser,
    merge_headers,
    parse_header,
    parse_json_record,
    record_formatter,
    show_json,
    unescape,
)
from ottla.client.consumer import ConsumerRecord

CONTENT = st.none() | st.binary(max_size=20) | st.text(max_size=20).map(str.encode)
HEADERS = st.lists(st.tuples(st.text(max_size=5), CONTENT), max_size=4).map(tuple)


def record(**fields: object) -> ConsumerRecord:
    base = ConsumerRecord("orders", 3, 42, 1_700_000_000_000, b"k", b"v", (("src", b"web"), ("n", None)))
    return base._replace(**fields)


@given(key=CONTENT, value=CONTENT, headers=HEADERS, timestamp=st.integers(0, 2**53))
def test_what_consume_prints_as_json_produce_reads_back(key, value, headers, timestamp) -> None:
    line = show_json(record(key=key, value=value, headers=headers, timestamp_ms=timestamp))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parse_json_record(line) == TextRecord(value, key, headers, 3, timestamp)


@given(data=st.lists(st.sampled_from([b"a", b"\n", b"\r", b"bc"]), max_size=30), cuts=st.lists(st.integers(1, 5)))
def test_lines_do_not_depend_on_where_chunks_end(data: list[bytes], cuts: list[int]) -> None:
    whole, splitter, lines, position = b"".join(data), LineSplitter(), [], 0
    for cut in cuts:
        lines += splitter.receive(whole[position : position + cut])
        position += cut
    lines += splitter.receive(whole[position:])
    lines += splitter.end()
    expected = whole.split(b"\n")
    assert lines == (expected if expected[-1] else expected[:-1])


def test_an_empty_line_is_a_record_and_the_last_line_needs_no_newline() -> None:
    splitter = LineSplitter()
    assert splitter.receive(b"a\n\nb") == [b"a", b""]
    assert splitter.end() == [b"b"]
    assert splitter.end() == []


def test_key_and_value_part_at_the_first_separator() -> None:
    parse = line_parser("\\t")
    assert parse(b"k\tv\tw") == TextRecord(b"v\tw", b"k")
    assert parse(b"no separator") == TextRecord(b"no separator")
    assert parse(b"\tv") == TextRecord(b"v", b"")
    assert line_parser(None)(b"a=b") == TextRecord(b"a=b")
    with pytest.raises(UsageProblem):
        line_parser("")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("value", b"v\n"),
        ("%k\\t%v\\t%o", b"k\tv\t42\n"),
        ("%t-%p %T %h", b"orders-3 1700000000000 src=web,n=\n"),
        ("100%% %v\\\\n", b"100% v\\n\n"),
    ],
)
def test_formats(shape: str, expected: bytes) -> None:
    assert record_formatter(shape)(record()) == expected


def test_what_is_not_there_prints_as_nothing() -> None:
    assert record_formatter("[%k|%v|%h]")(record(key=None, value=None, headers=())) == b"[||]\n"
    assert json.loads(show_json(record(value=None)))["value"] is None


@pytest.mark.parametrize("shape", ["table", "%x", "%v%", ""])
def test_formats_that_mean_nothing_are_refused(shape: str) -> None:
    with pytest.raises(UsageProblem):
        record_formatter(shape)


def test_json_values_that_are_not_strings_are_kept_as_json() -> None:
    assert parse_json_record(b'{"value": {"id": 1, "x": [true]}}').value == b'{"id":1,"x":[true]}'
    assert parse_json_record(b'{"value": 7}').value == b"7"


def test_headers_may_repeat() -> None:
    pairs = (("a", b"1"), ("a", b"2"))
    assert parse_json_record(show_json(record(headers=pairs))).headers == pairs
    assert parse_json_record(b'{"headers": {"a": "1"}}').headers == (("a", b"1"),)


@pytest.mark.parametrize(
    "line",
    [b"{", b"[]", b'{"valu": 1}', b'{"partition": -1}', b'{"partition": true}', b'{"headers": [["a"]]}', b"\xff"],
)
def test_lines_that_are_no_records_are_refused(line: bytes) -> None:
    with pytest.raises(BadRecord):
        parse_json_record(line)


def test_headers_of_the_command_line_come_first() -> None:
    assert merge_headers([parse_header("a=b=c")], (("x", None),)) == (("a", b"b=c"), ("x", None))
    for text in ("a", "=b"):
        with pytest.raises(UsageProblem):
            parse_header(text)


def test_escapes() -> None:
    assert unescape(r"a\tb\nc\\d\q") == "a\tb\nc\\d\\q"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"value": "x"}'.encode("utf-16"), "not UTF-8"),
        (b'{"value": "\xff"}', "not UTF-8"),
        (b'{"timestamp": "now"}', 'timestamp is "now", not a whole number of milliseconds since 1970'),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(line: bytes, said: str) -> None:
    with pytest.raises(BadRecord, match=said):
        parse_json_record(line)
