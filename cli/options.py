"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from .output import Output, talk
from .problems import EXIT_FAILED

DEFAULT_SERVERS = "127.0.0.1:7080"

Servers = Annotated[
    str, typer.Option("--servers", envvar="OTTLA_SERVERS", metavar="HOST:PORT,...", help="Any nodes of the cluster.")
]
OutputOption = Annotated[Output, typer.Option("-o", "--output", help="How to show it.")]
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")]
Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="The topic's name.")]
Watch = Annotated[bool, typer.Option("-w", "--watch", help="Again and again, until Ctrl-C.")]
Partitions = Annotated[int | None, typer.Option("-p", "--partitions", min=1, help="Number of partitions.")]
DevDirectory = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Which cluster. Default: ./ottla-dev", show_default=False)
]
DevNumber = Annotated[int, typer.Argument(metavar="N", help="The node's number, from 1.")]


def confirm(question: str, yes: bool) -> None:
    """Ask before something is destroyed. Raises typer.Exit for a no: it was not done, so the exit code is 1."""
    if yes:
        return
    try:
        agreed = typer.confirm(question, err=True)
    except (EOFError, typer.Abort) as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise
        talk("\nNo answer. Use -y.")
        raise typer.Exit(EXIT_FAILED) from error
    if not agreed:
        talk("Nothing changed.")
        raise typer.Exit(EXIT_FAILED)
