"""The commands and their flags. What they do is imported when one is run, so that `--help` is quick."""

from pathlib import Path
from typing import Annotated

import typer

from ottla.client.version import VERSION

from .config_app import config_app
from .dev_app import dev_app
from .group_app import group_app
from .log_app import log_app
from .node_app import node_app
from .options import DEFAULT_SERVERS, OutputOption, Servers, Watch
from .output import Output
from .partition_app import partition_app, rebalance_command
from .records_app import bench_app, consume_command, produce_command
from .topic_app import topic_app

_PLAIN = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}


def make_app() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        help="Ottla: a replicated log. One process per node, consensus built in.",
        no_args_is_help=True,
        **_PLAIN,  # type: ignore[arg-type]
    )
    app.callback()(_root)
    app.command("start", help="Run one node, until SIGTERM or Ctrl-C.")(_start)
    app.add_typer(dev_app(), name="dev")
    app.command("health", help="Is every node ready? Exit code 0 if so.")(_health)
    app.command("status", help="Nodes, quorum, partitions in trouble, disk.")(_status)
    app.command("top", help="What the cluster does: nodes, throughput, topics, groups. Until Ctrl-C.")(_top)
    app.command("doctor", help="What is wrong, and what to do about it. Exit code 1 if something is.")(_doctor)
    app.add_typer(node_app(), name="node")
    app.add_typer(topic_app(), name="topic")
    app.add_typer(group_app(), name="group")
    app.add_typer(config_app(), name="config")
    app.add_typer(partition_app(), name="partition")
    app.command("rebalance", help="Even out replicas and leaders over nodes and racks.")(rebalance_command)
    app.add_typer(log_app(), name="log")
    app.command("produce", help="Send one record a line from standard input.")(produce_command)
    app.command("consume", help="Print records; stop at the end unless -f.")(consume_command)
    app.add_typer(bench_app(), name="bench")
    return app


def _print_version(asked: bool) -> None:
    if asked:
        print(f"ottla {VERSION}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def _start(
    data: Annotated[str | None, typer.Option(metavar="DIR", help="Data directory. Default: ./ottla-data")] = None,
    http: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where to listen. Default: 127.0.0.1:7080")
    ] = None,
    kafka: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT|off", help="Where Kafka clients are served. Default: 127.0.0.1:9092"),
    ] = None,
    join: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT,...", help="Every voter, or some of a cluster to join. Default: alone"),
    ] = None,
    advertise: Annotated[str | None, typer.Option(metavar="HOST", help="How others reach this node.")] = None,
    rack: Annotated[str | None, typer.Option(help="Replicas are spread over racks.")] = None,
    secret_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Nodes prove to each other that they know its content.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond loopback without a secret: the network is yours alone.")
    ] = False,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Settings. Default: ./ottla.toml if any")] = None,
    pairs: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting; may be repeated.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning, error or critical.")
    ] = None,
) -> int:
    from .start import start_node

    flags = {
        "data": data,
        "http": http,
        "kafka": kafka,
        "join": join,
        "advertise": advertise,
        "rack": rack,
        "secret_file": secret_file,
        "insecure": insecure or None,
        "log_level": log_level,
    }
    return start_node(flags, pairs or [], config)


def _health(
    servers: Servers = DEFAULT_SERVERS,
    watch: Watch = False,
    exit_when_healthy: Annotated[bool, typer.Option("--exit-when-healthy", help="With -w: wait for it.")] = False,
    timeout: Annotated[float | None, typer.Option(metavar="S", min=0.0, help="With -w: seconds at most.")] = None,
    output: OutputOption = Output.table,
) -> int:
    from .health import check

    return check(servers, watch=watch, exit_when_healthy=exit_when_healthy, timeout_s=timeout, output=output)


def _doctor(servers: Servers = DEFAULT_SERVERS, output: OutputOption = Output.table) -> int:
    from .doctor import show_doctor

    return show_doctor(servers, output)


def _status(servers: Servers = DEFAULT_SERVERS, watch: Watch = False, output: OutputOption = Output.table) -> None:
    from .status import show_status

    show_status(servers, output, watch)


def _top(
    servers: Servers = DEFAULT_SERVERS,
    interval: Annotated[
        float, typer.Option("-i", "--interval", metavar="S", min=0.1, max=3600.0, help="Seconds between two looks.")
    ] = 2.0,
    iterations: Annotated[
        int | None, typer.Option("-n", "--iterations", min=1, metavar="N", help="Show it so many times, then end.")
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    from .top import top

    top(servers, interval, iterations, output)
