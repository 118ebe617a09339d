"""How `ottla top` shows a document: drawn on a terminal, or as lines."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .output import plain, show_bytes, show_table

if TYPE_CHECKING:
    from rich.console import RenderableType

NODES = ("node", "address", "state", "quorum", "leads", "holds", "cpu", "memory", "log", "in", "out", "requests/s")
TOPICS = ("topic", "partitions", "records/s", "ends")
GROUPS = ("group", "state", "members", "lag", "change/s")
LINES_BESIDE = 9
"""Of a screen, what headings and empty lines take."""


def heading(document: Mapping[str, Any]) -> list[str]:
    """Two lines on the whole."""
    leader = document["quorum_leader"]
    quorum = "no quorum leader" if leader is None else f"quorum leader n{leader}, term {document['quorum_term']}"
    trouble = f"under-replicated {document['under_replicated']}, leaderless {document['leaderless']}"
    return [
        f"cluster {document['cluster_id']}   {quorum}   partitions {document['partitions']}, {trouble}",
        f"in {_speed(document['in_bytes_per_s'])}, {_number(document['records_per_s'])} records/s   "
        f"out {_speed(document['out_bytes_per_s'])}",
        *(f"problem: {problem}" for problem in document["problems"]),
    ]


def parts(document: Mapping[str, Any]) -> list[tuple[Sequence[str], list[dict[str, Any]]]]:
    """Columns and rows of the three tables."""
    nodes = [
        {
            **node,
            "cpu": None if node["cpu_percent"] is None else f"{node['cpu_percent']:.1f} %",
            "memory": _size(node["memory_bytes"]),
            "log": _size(node["log_bytes"]),
            "in": _speed(node["in_bytes_per_s"]),
            "out": _speed(node["out_bytes_per_s"]),
            "requests/s": _number(node["requests_per_s"]),
        }
        for node in document["nodes"]
    ]
    topics = [{**topic, "records/s": _number(topic["records_per_s"])} for topic in document["topics"]]
    groups = [{**group, "change/s": group["lag_change_per_s"]} for group in document["groups"]]
    return [(NODES, nodes), (TOPICS, topics), (GROUPS, groups)]


def show_plain(document: Mapping[str, Any]) -> None:
    """Everything, as lines."""
    for line in heading(document):
        print(line)
    for columns, rows in parts(document):
        if rows:
            print()
            show_table(rows, columns)
    if document["unseen"]:
        print(f"\nand {document['unseen']} more topics and groups")
    print("---", flush=True)


def paint(document: Mapping[str, Any], height: int) -> "RenderableType":
    """As much as fits: all nodes, then topics and groups by halves of what is left."""
    from rich.console import Group
    from rich.text import Text

    lines: list[RenderableType] = [Text(line, no_wrap=True, overflow="ellipsis") for line in heading(document)]
    (node_columns, nodes), (topic_columns, topics), (group_columns, groups) = parts(document)
    room = max(2, height - len(nodes) - len(lines) - LINES_BESIDE)
    group_rows = min(len(groups), max(room // 2, room - len(topics)))
    topic_rows = room - group_rows
    hidden = document["unseen"] + max(0, len(topics) - topic_rows) + len(groups) - group_rows
    for columns, rows in (
        (node_columns, nodes),
        (topic_columns, topics[:topic_rows]),
        (group_columns, groups[:group_rows]),
    ):
        if rows:
            lines += [Text(), _table(columns, rows)]
    if hidden:
        lines.append(Text(f"and {hidden} more topics and groups", style="dim"))
    return Group(*lines, Text("Ctrl-C ends", style="dim"))


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> "RenderableType":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        left = column in ("address", "state", "quorum", "topic", "group")
        table.add_column(column.upper(), justify="left" if left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(plain(row[column]) for column in columns))
    return table


def _size(size: float | None) -> str | None:
    return None if size is None else show_bytes(size)


def _speed(rate: float | None) -> str:
    return "-" if rate is None else f"{show_bytes(rate)}/s"


def _number(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.0f}"
