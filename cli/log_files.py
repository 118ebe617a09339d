"""`ottla log dump` and `verify`: read files, change nothing."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ottla.client.errors import OttlaError

from .output import Output, show_bytes, show_document, show_rows, talk
from .problems import EXIT_DONE, EXIT_FAILED, NotFound, UsageProblem
from .progress import progress

if TYPE_CHECKING:
    from ottla.log.verify import Verdict

COLUMNS = ("partition", "segments", "batches", "records", "start", "end", "size", "problems")


def dump_files(files: Sequence[Path], records: bool, output: Output) -> int:
    """A line for each batch, record or entry; with JSON and YAML a list a file. 1 if a file is damaged."""
    code = EXIT_DONE
    for file in files:
        rows = _guarded(file, _rows_of(file, records))
        if output is not Output.table:
            document = list(rows)
            show_document(document, output)
            code = max(code, EXIT_FAILED if any("problem" in row for row in document) else EXIT_DONE)
            continue
        for number, row in enumerate(rows):
            if not number:
                print(f"{file}:")
            indent = "| " if "keySize" in row else ""
            print(indent + " ".join(f"{key}: {value}" for key, value in row.items()))
            code = max(code, EXIT_FAILED if "problem" in row else EXIT_DONE)
    return code


def verify_below(directory: Path, output: Output) -> int:
    """A row for each partition; 1 if anything is wrong with one."""
    from ottla.log.storage import SystemStorage
    from ottla.log.verify import partitions_below, verify

    storage = SystemStorage()
    found: list[dict[str, Any]] = []
    partitions = list(_guarded(directory, partitions_below(storage, directory)))
    with progress("verifying", len(partitions)) as bar:
        for number, partition in enumerate(partitions):
            bar.to(number, note=partition.name)
            found.append(_verdict_on(partition, verify(storage, partition)))
    if not found:
        raise NotFound(f"there is no log in {directory}.", hint="Name a partition's directory, or a node's data.")
    show_rows(found, COLUMNS, output)
    for row in found:
        for problem in row["what"]:
            talk(f"{row['partition']}: {problem}")
    return EXIT_FAILED if any(row["problems"] for row in found) else EXIT_DONE


def _verdict_on(partition: Path, verdict: "Verdict") -> dict[str, Any]:
    return {
        "partition": partition.name,
        "segments": verdict.segments,
        "batches": verdict.batches,
        "records": verdict.records,
        "start": verdict.start_offset,
        "end": verdict.end_offset,
        "size": show_bytes(verdict.size_bytes),
        "size_bytes": verdict.size_bytes,
        "problems": verdict.found,
        "what": verdict.problems,
    }


def _rows_of(file: Path, records: bool) -> Iterator[dict[str, Any]]:
    from ottla.log.inspect import NotALog, dump
    from ottla.log.storage import SystemStorage

    storage = SystemStorage()
    if file.suffix == ".wal":
        from ottla.raft.wal_dump import dump_wal

        yield from dump_wal(storage, file)
        return
    try:
        yield from dump(storage, file, records=records)
    except NotALog as error:
        raise UsageProblem(str(error)) from error


def _guarded(path: Path, rows: "Iterator[Any]") -> "Iterator[Any]":
    """The system's refusals as ours."""
    try:
        yield from rows
    except FileNotFoundError as error:
        raise NotFound(f"there is no {path}.") from error
    except OSError as error:
        raise OttlaError(f"{path}: {error.strerror}.", code="OTTLA-UNREADABLE") from error
