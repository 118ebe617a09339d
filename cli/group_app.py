"""The flags of `ottla group`."""

from typing import Annotated

import typer

from .options import DEFAULT_SERVERS, DryRun, OutputOption, Servers, Watch, Yes
from .output import Output

Group = Annotated[str, typer.Argument(metavar="GROUP", help="The group's name.")]


def group_app() -> typer.Typer:
    """The group of commands about groups."""
    app = typer.Typer(help="Consumer groups.", no_args_is_help=True, rich_markup_mode=None)
    app.command("ls", help="Every group.")(_ls)
    app.command("show", help="A group's members, and how far it is behind.")(_show)
    app.command("seek", help="Set where a group without members reads on.")(_seek)
    app.command("forget", help="Forget what a group has committed for topics.")(_forget)
    app.command("rm", help="Forget a group without members, and what it committed.")(_rm)
    return app


def _ls(servers: Servers = DEFAULT_SERVERS, output: OutputOption = Output.table) -> None:
    from .groups import list_all

    list_all(servers, output)


def _show(
    name: Group, watch: Watch = False, servers: Servers = DEFAULT_SERVERS, output: OutputOption = Output.table
) -> None:
    from .groups import show

    show(servers, name, watch, output)


def _seek(
    name: Group,
    to: Annotated[
        list[str],
        typer.Option("--to", metavar="start|end|@TIME|TOPIC:PARTITION:OFFSET", help="The last may be repeated."),
    ],
    topics: Annotated[
        list[str] | None,
        typer.Option("-t", "--topic", help="Only this one; may be repeated. Default: all it has committed for"),
    ] = None,
    dry_run: DryRun = False,
    servers: Servers = DEFAULT_SERVERS,
    yes: Yes = False,
    output: OutputOption = Output.table,
) -> None:
    from .groups import seek

    seek(servers, name, to, topics or [], dry_run=dry_run, yes=yes, output=output)


def _forget(
    name: Group,
    what: Annotated[list[str], typer.Argument(metavar="TOPIC[:PARTITION]...", help="What no member reads any more.")],
    dry_run: DryRun = False,
    servers: Servers = DEFAULT_SERVERS,
    yes: Yes = False,
    output: OutputOption = Output.table,
) -> None:
    from .groups import forget

    forget(servers, name, what, dry_run=dry_run, yes=yes, output=output)


def _rm(
    name: Group,
    dry_run: DryRun = False,
    servers: Servers = DEFAULT_SERVERS,
    yes: Yes = False,
    output: OutputOption = Output.table,
) -> None:
    from .groups import remove

    remove(servers, name, dry_run=dry_run, yes=yes, output=output)
