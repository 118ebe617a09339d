"""The flags of `ottla partition` and `ottla rebalance`."""

from typing import Annotated

import typer

from .options import DEFAULT_SERVERS, OutputOption, Servers, Topic, Watch, Yes
from .output import Output

Numbers = Annotated[
    list[int] | None, typer.Option("-p", "--partition", min=0, help="Only this one; may be repeated. Default: all")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")]


def partition_app() -> typer.Typer:
    """The group."""
    app = typer.Typer(help="Where partitions are, and who leads them.", no_args_is_help=True, rich_markup_mode=None)
    app.command("ls", help="Every partition: leader, replicas, what is being added and removed.")(_ls)
    app.command("show", help="One partition: each replica, and how far behind it is.")(_show)
    app.command("move", help="Move partitions to other nodes, or call that off.")(_move)
    app.command("elect", help="Have the preferred replicas lead.")(_elect)
    return app


def _ls(
    topic: Annotated[str | None, typer.Argument(metavar="[TOPIC]", help="Only of this topic.")] = None,
    reassigning: Annotated[bool, typer.Option("--reassigning", help="Only those that move.")] = False,
    watch: Watch = False,
    servers: Servers = DEFAULT_SERVERS,
    output: OutputOption = Output.table,
) -> None:
    from .partitions import list_partitions

    list_partitions(servers, topic, reassigning, watch, output)


def _show(
    topic: Topic,
    partition: Annotated[int, typer.Option("-p", "--partition", min=0, help="Which one.")] = 0,
    servers: Servers = DEFAULT_SERVERS,
    output: OutputOption = Output.table,
) -> None:
    from .partitions import show_partition

    show_partition(servers, topic, partition, output)


def _move(
    topic: Topic,
    partitions: Numbers = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="N,N,...", help="The nodes, the preferred leader first.")
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Stay where it was before it was asked to move.")] = False,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Until it is there.")] = False,
    dry_run: DryRun = False,
    servers: Servers = DEFAULT_SERVERS,
) -> None:
    from .partitions import move_partitions

    move_partitions(servers, topic, partitions or [], to, cancel=cancel, watch=watch, dry_run=dry_run)


def _elect(
    topic: Topic,
    partitions: Numbers = None,
    unclean: Annotated[
        bool,
        typer.Option("--unclean", help="Where nobody can lead: any live replica. ACKNOWLEDGED RECORDS MAY BE LOST."),
    ] = False,
    leader: Annotated[int | None, typer.Option("--to", metavar="N", min=1, help="With --unclean: this node.")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    servers: Servers = DEFAULT_SERVERS,
) -> None:
    from .partitions import elect

    elect(servers, topic, partitions or [], unclean=unclean, leader=leader, dry_run=dry_run, yes=yes)


def rebalance_command(
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Until all is where it should be.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    servers: Servers = DEFAULT_SERVERS,
    output: OutputOption = Output.table,
) -> None:
    from .rebalance import rebalance

    rebalance(servers, watch=watch, dry_run=dry_run, yes=yes, output=output)
