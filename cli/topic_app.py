"""The flags of `ottla topic`."""

from typing import Annotated

import typer

from .options import DEFAULT_SERVERS, DryRun, OutputOption, Partitions, Servers, Topic, Yes, confirm
from .output import Output, counted


def topic_app() -> typer.Typer:
    """The group."""
    app = typer.Typer(help="Topics.", no_args_is_help=True, rich_markup_mode=None)
    app.command("create", help="Make a topic.")(_create)
    app.command("ls", help="Every topic.")(_ls)
    app.command("show", help="A topic's partitions: leader, epoch, replicas, ISR, offsets, size.")(_show)
    app.command("set", help="Change a topic's settings: KEY=VALUE, or KEY= to unset.")(_set)
    app.command("grow", help="Add partitions; keys map to other partitions from then on.")(_grow)
    app.command("trim", help="Drop the records below an offset or a time, in every partition.")(_trim)
    app.command("rm", help="Delete a topic with its records.")(_rm)
    return app


def _create(
    name: Topic,
    partitions: Partitions = None,
    replication: Annotated[int | None, typer.Option("-r", "--replication", min=1, help="Replicas of each.")] = None,
    configs: Annotated[
        list[str] | None, typer.Option("-c", "--config", metavar="KEY=VALUE", help="May be repeated.")
    ] = None,
    servers: Servers = DEFAULT_SERVERS,
) -> None:
    from .topics import create

    create(servers, name, partitions, replication, configs or [])


def _ls(
    everything: Annotated[bool, typer.Option("-a", "--all", help="The cluster's own topics too.")] = False,
    servers: Servers = DEFAULT_SERVERS,
    output: OutputOption = Output.table,
) -> None:
    from .topics import list_all

    list_all(servers, output, everything)


def _show(name: Topic, servers: Servers = DEFAULT_SERVERS, output: OutputOption = Output.table) -> None:
    from .topics import show

    show(servers, name, output)


def _set(
    name: Topic,
    pairs: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="KEY= unsets.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check only.")] = False,
    servers: Servers = DEFAULT_SERVERS,
) -> None:
    from .configs import change_topic_configs
    from .start import parse_pairs

    change_topic_configs(servers, name, {key: value or None for key, value in parse_pairs(pairs).items()}, dry_run)


def _grow(
    name: Topic,
    partitions: Annotated[int, typer.Option("-p", "--partitions", min=1, help="The new number, in all.")],
    servers: Servers = DEFAULT_SERVERS,
) -> None:
    from .topics import grow

    grow(servers, name, partitions)


def _trim(
    name: Topic,
    to: Annotated[str, typer.Option("--to", metavar="end|OFFSET|@TIME", help="The first record that stays.")],
    partitions: Annotated[
        list[int] | None, typer.Option("-p", "--partition", min=0, help="Only this one; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and change nothing.")] = False,
    servers: Servers = DEFAULT_SERVERS,
    yes: Yes = False,
    output: OutputOption = Output.table,
) -> None:
    from .trim import plan_trim, trim

    plan = plan_trim(servers, name, to, partitions or [])
    if not dry_run:
        confirm(f"Delete {counted(plan.records, 'record')} of {name} for good?", yes)
        trim(servers, plan)
    plan.show(output)


def _rm(
    name: Topic,
    dry_run: DryRun = False,
    servers: Servers = DEFAULT_SERVERS,
    yes: Yes = False,
    output: OutputOption = Output.table,
) -> None:
    from .topics import preview_removal, remove

    if dry_run:
        preview_removal(servers, name, output)
        return
    confirm(f"Delete topic {name} with all its records?", yes)
    remove(servers, name)
