"""The flags of `ottla node`."""

from typing import Annotated

import typer

from .options import DEFAULT_SERVERS, OutputOption, Servers, Yes
from .output import Output

Node = Annotated[int, typer.Argument(metavar="N", min=1, help="The node's number.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")]


def node_app() -> typer.Typer:
    """The group."""
    app = typer.Typer(help="Nodes.", no_args_is_help=True, rich_markup_mode=None)
    app.command("ls", help="Every node.")(_ls)
    app.command("drain", help="Its leaderships go to others and stay away, over restarts, until undrain.")(_drain)
    app.command("undrain", help="It may lead again.")(_undrain)
    app.command("decommission", help="Drain it and move all its replicas to other nodes.")(_decommission)
    return app


def _ls(servers: Servers = DEFAULT_SERVERS, output: OutputOption = Output.table) -> None:
    from .status import list_nodes

    list_nodes(servers, output)


def _drain(node: Node, dry_run: DryRun = False, servers: Servers = DEFAULT_SERVERS) -> None:
    from .nodes import drain

    drain(servers, node, dry_run)


def _undrain(node: Node, dry_run: DryRun = False, servers: Servers = DEFAULT_SERVERS) -> None:
    from .nodes import undrain

    undrain(servers, node, dry_run)


def _decommission(
    node: Node,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Until nothing is left on it.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    servers: Servers = DEFAULT_SERVERS,
    output: OutputOption = Output.table,
) -> None:
    from .nodes import decommission

    decommission(servers, node, watch=watch, dry_run=dry_run, yes=yes, output=output)
