"""The flags of `ottla config`."""

from pathlib import Path
from typing import Annotated

import typer

from .options import DEFAULT_SERVERS, OutputOption, Servers
from .output import Output

Node = Annotated[int | None, typer.Option("--node", metavar="N", help="Of that node only. Default: of all nodes.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check only.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Default: ./ottla.toml if any")]


def config_app() -> typer.Typer:
    """The group."""
    app = typer.Typer(help="Settings of nodes and of the cluster.", no_args_is_help=True, rich_markup_mode=None)
    app.command("ls", help="What holds in the cluster, or on a node, and who set it.")(_ls)
    app.command("set", help="Change settings of the cluster, or of a node, while it runs.")(_set)
    app.command("unset", help="Back to what holds without.")(_unset)
    app.command("show", help="What a node started here would take, and whence.")(_show)
    app.command("lint", help="Is this file of settings right?")(_lint)
    return app


def _ls(
    node: Node = None,
    everything: Annotated[bool, typer.Option("-a", "--all", help="Defaults too.")] = False,
    servers: Servers = DEFAULT_SERVERS,
    output: OutputOption = Output.table,
) -> None:
    from .configs import list_configs

    list_configs(servers, node, everything, output)


def _set(
    pairs: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...")],
    node: Node = None,
    dry_run: DryRun = False,
    servers: Servers = DEFAULT_SERVERS,
) -> None:
    from .configs import change_broker_configs
    from .start import parse_pairs

    change_broker_configs(servers, node, parse_pairs(pairs), dry_run)


def _unset(
    keys: Annotated[list[str], typer.Argument(metavar="KEY...")],
    node: Node = None,
    dry_run: DryRun = False,
    servers: Servers = DEFAULT_SERVERS,
) -> None:
    from .configs import change_broker_configs

    change_broker_configs(servers, node, dict.fromkeys(keys), dry_run)


def _show(
    config: ConfigFile = None,
    origin: Annotated[bool, typer.Option("--origin", help="Whence each comes.")] = False,
    output: OutputOption = Output.table,
) -> None:
    from .configs import show_settings

    show_settings(config, origin, output)


def _lint(file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML.")] = Path("ottla.toml")) -> None:
    from .configs import lint

    lint(file)
