"""The pictures of a run, out of its directory."""

from pathlib import Path

from ..checkers.queue import check_queue
from ..history import Op
from .charts import latency, rate, unseen
from .key_order import key_order
from .run_data import RunData, read_run
from .timeline import timeline

ORDERS_MAX = 20


def write_report(directory: Path) -> list[Path]:
    """timeline.html, latency.svg, rate.svg, unseen.svg, and orders/<key>.svg for each of the first bad keys.

    Reads history.jsonl, nemesis.jsonl and, if it is there, verdict.json. Returns what was written. Raises
    FileNotFoundError without a history.
    """
    run = read_run(directory)
    pictures = {
        "timeline.html": timeline(run),
        "latency.svg": latency(run),
        "rate.svg": rate(run),
        "unseen.svg": unseen(run),
    }
    pictures |= {f"orders/{key}.svg": key_order(run, key) for key in _bad_keys(run)[:ORDERS_MAX]}
    written = [directory / name for name in pictures]
    for path, picture in zip(written, pictures.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(picture, encoding="utf-8")
    return written


def _bad_keys(run: RunData) -> list[int]:
    """Without a verdict those that the queue's checker names."""
    return run.verdict.bad_keys if run.verdict is not None else check_queue(_queue_ops(run.ops)).bad_keys


def _queue_ops(ops: list[Op]) -> list[Op]:
    return [op for op in ops if op.f in ("send", "poll", "txn", "assign", "subscribe", "crash")]
