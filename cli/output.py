"""Results on standard output: a table for people, JSON or YAML for programs. Talk goes to standard error."""

import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

Row = Mapping[str, Any]


class Output(StrEnum):
    """What ``-o`` may say."""

    table = "table"
    json = "json"
    yaml = "yaml"


def show_rows(rows: Sequence[Row], columns: Sequence[str], output: Output) -> None:
    """``columns``: the table's, in order; JSON and YAML hold all fields of each row."""
    if output is Output.table:
        show_table(rows, columns)
    else:
        show_document(list(rows), output)


def show_document(document: Any, output: Output) -> None:
    """Anything JSON can hold."""
    if output is Output.yaml:
        from .yaml_emitter import emit_yaml

        sys.stdout.write(emit_yaml(document))
        return
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")


def show_table(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Aligned columns; bold headings on a terminal, and never wrapped elsewhere: pipes have no width."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        numeric = all(type(row[column]) in (int, float, type(None)) for row in rows)
        table.add_column(column.replace("_", " ").upper(), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(plain(row[column]) for column in columns))
    console = Console(width=None if sys.stdout.isatty() else 10_000, markup=False, highlight=False, emoji=False)
    with console.capture() as capture:
        console.print(table)
    sys.stdout.write("".join(line.rstrip() + "\n" for line in capture.get().splitlines()))


def plain(value: Any) -> str:
    """A cell's text: absence is a dash, lists are comma-separated."""
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)


def talk(line: str) -> None:
    """A line for whoever watches."""
    print(line, file=sys.stderr, flush=True)


def counted(count: int, noun: str) -> str:
    """``1 member``, ``1,234 members``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def show_bytes(size: float) -> str:
    """``1536`` as ``1.5 KiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
