"""The flags of `ottla log`."""

from pathlib import Path
from typing import Annotated

import typer

from .options import OutputOption
from .output import Output


def log_app() -> typer.Typer:
    """The group."""
    app = typer.Typer(help="Files of logs, ours and Kafka's.", no_args_is_help=True, rich_markup_mode=None)
    app.command("dump", help="What is in a segment, an index, a snapshot, a checkpoint, a file of the Raft log.")(_dump)
    app.command("verify", help="Is every batch, and every entry of every index, what it should be?")(_verify)
    return app


def _dump(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...")],
    records: Annotated[bool, typer.Option("-r", "--records", help="Of a segment, each record too.")] = False,
    output: OutputOption = Output.table,
) -> int:
    from .log_files import dump_files

    return dump_files(files, records, output)


def _verify(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A partition's, or one with many below it.")],
    output: OutputOption = Output.table,
) -> int:
    from .log_files import verify_below

    return verify_below(directory, output)
