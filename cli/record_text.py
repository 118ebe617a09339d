"""Records as text and back (pure): what `ottla produce` reads and `ottla consume` prints."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.client.errors import OttlaError

from .problems import UsageProblem

if TYPE_CHECKING:
    from ottla.client.consumer import ConsumerRecord

Headers = tuple[tuple[str, bytes | None], ...]
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "0": "\0", "\\": "\\"}
_JSON_FIELDS = frozenset({"key", "value", "headers", "partition", "timestamp", "topic", "offset"})


class TextRecord(NamedTuple):
    """One record to produce; None where nothing was said."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    partition: int | None = None
    timestamp_ms: int | None = None


class BadRecord(OttlaError):
    """A line of the input is not a record."""

    code = "OTTLA-BAD-RECORD"


class LineSplitter:
    """Bytes in, lines out. A last line without its newline is a line too."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []

    def receive(self, chunk: bytes) -> list[bytes]:
        """The lines that ``chunk`` completes."""
        first, newline, _ = chunk.partition(b"\n")
        if not newline:
            self._rest.append(chunk)
            return []
        lines = chunk.split(b"\n")
        lines[0] = b"".join((*self._rest, first))
        self._rest = [lines.pop()]
        return lines

    def end(self) -> list[bytes]:
        """What is left at the end of the input."""
        rest, self._rest = b"".join(self._rest), []
        return [rest] if rest else []


# --- in --------------------------------------------------------------------------------------------------------------


def line_parser(separator: str | None) -> Callable[[bytes], TextRecord]:
    """Reads a line as a value, or as key and value around the first ``separator``."""
    if separator is None:
        return TextRecord
    mark = unescape(separator).encode()
    if not mark:
        raise UsageProblem("the separator of -k must not be empty")

    def parse(line: bytes) -> TextRecord:
        key, found, value = line.partition(mark)
        return TextRecord(value, key) if found else TextRecord(line)

    return parse


def parse_json_record(line: bytes) -> TextRecord:
    """Reads what ``show_json`` writes; topic and offset are ignored. Raises BadRecord."""
    try:
        document = json.loads(line.decode())  # of bytes, json would guess UTF-16 and others
    except UnicodeDecodeError as error:
        raise BadRecord(f"{_quote(line)} is not UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"{_quote(line)} is not JSON: {error}") from error
    if not isinstance(document, dict) or not set(document) <= _JSON_FIELDS:
        raise BadRecord(
            f"{_quote(line)} is not a record.", hint=f"It is an object with some of {', '.join(sorted(_JSON_FIELDS))}."
        )
    return TextRecord(
        value=_read_bytes(document.get("value"), "value"),
        key=_read_bytes(document.get("key"), "key"),
        headers=_read_headers(document.get("headers")),
        partition=_read_whole(document.get("partition"), "partition"),
        timestamp_ms=_read_whole(document.get("timestamp"), "timestamp", "a whole number of milliseconds since 1970"),
    )


def parse_header(text: str) -> tuple[str, bytes]:
    """``name=value``. Raises UsageProblem."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageProblem(f"-H {text!r} is not NAME=VALUE")
    return name, value.encode()


def _read_bytes(value: Any, field: str) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and set(value) == {"base64"} and isinstance(value["base64"], str):
        try:
            return base64.b64decode(value["base64"], validate=True)
        except binascii.Error as error:
            raise BadRecord(f"{field}: not base64: {error}") from error
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()  # JSON inside JSON is kept as JSON


def _read_headers(value: Any) -> Headers:
    if value is None:
        return ()
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs
    ):
        raise BadRecord("headers is neither an object nor a list of pairs")
    return tuple((name, _read_bytes(content, "headers")) for name, content in pairs)


def _read_whole(value: Any, field: str, what: str = "a whole number") -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise BadRecord(f"{field} is {json.dumps(value, ensure_ascii=False)}, not {what}.")


def _quote(line: bytes) -> str:
    text = line.decode(errors="replace")
    return repr(text if len(text) <= 60 else text[:57] + "...")


# --- out -------------------------------------------------------------------------------------------------------------


def record_formatter(shape: str) -> "Callable[[ConsumerRecord], bytes]":
    """``value``, ``json`` or a format string. Raises UsageProblem."""
    if shape == "value":
        return lambda record: (record.value or b"") + b"\n"
    if shape == "json":
        return show_json
    if "%" not in shape:
        raise UsageProblem(f"-o {shape!r} is not value, json or a format like '%k\\t%v\\t%o'")
    return _format(shape)


def show_json(record: "ConsumerRecord") -> bytes:
    """One line of JSON. Text is a string, other bytes ``{"base64": ...}``; headers are an object, or a list of pairs
    where a name comes twice."""
    pairs = [(name, _show_bytes(value)) for name, value in record.headers]
    unique = len({name for name, _ in pairs}) == len(pairs)
    document = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp_ms,
        "key": _show_bytes(record.key),
        "value": _show_bytes(record.value),
        "headers": dict(pairs) if unique else pairs,
    }
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"


def _show_bytes(data: bytes | None) -> str | dict[str, str] | None:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


_PLACEHOLDERS: "dict[str, Callable[[ConsumerRecord], bytes]]" = {
    "k": lambda record: record.key or b"",
    "v": lambda record: record.value or b"",
    "o": lambda record: b"%d" % record.offset,
    "p": lambda record: b"%d" % record.partition,
    "t": lambda record: record.topic.encode(),
    "T": lambda record: b"%d" % record.timestamp_ms,
    "h": lambda record: b",".join(name.encode() + b"=" + (value or b"") for name, value in record.headers),
    "%": lambda record: b"%",
}


def _format(shape: str) -> "Callable[[ConsumerRecord], bytes]":
    parts: list[Callable[[ConsumerRecord], bytes]] = []
    for index, piece in enumerate(re.split(r"%(.)", shape, flags=re.DOTALL)):
        if index % 2 == 0:
            if piece.endswith("%"):
                raise UsageProblem("the format ends with a lone %; write %% for a percent sign")
            parts.append(_literal(unescape(piece).encode()))
        elif piece in _PLACEHOLDERS:
            parts.append(_PLACEHOLDERS[piece])
        else:
            raise UsageProblem(f"%{piece} means nothing; there are %k %v %o %p %t %T %h and %%")
    return lambda record: b"".join(part(record) for part in parts) + b"\n"


def _literal(text: bytes) -> "Callable[[ConsumerRecord], bytes]":
    return lambda record: text


def unescape(text: str) -> str:
    r"""``\t``, ``\n``, ``\r``, ``\0`` and ``\\`` as a shell hands them over."""
    return re.sub(r"\\([tnr0\\])", lambda match: _ESCAPES[match[1]], text)


def merge_headers(fixed: Sequence[tuple[str, bytes]], own: Headers) -> Headers:
    """The headers of the command line, then the record's own."""
    return (*fixed, *own)
