"""The flags of `ottla dev`."""

from pathlib import Path
from typing import Annotated

import typer

from .options import DevDirectory, DevNumber, Yes, confirm
from .output import talk


def dev_app() -> typer.Typer:
    """The group; without a command it starts the cluster."""
    app = typer.Typer(
        help="A cluster of real processes on this machine.", invoke_without_command=True, rich_markup_mode=None
    )
    app.callback()(_dev)
    app.command("stop", help="Stop all nodes gracefully.")(_stop)
    app.command("wipe", help="Stop all nodes and delete their data.")(_wipe)
    app.command("kill", help="kill -9 a node.")(_kill)
    app.command("pause", help="Freeze a node (SIGSTOP).")(_pause)
    app.command("resume", help="Let a frozen node go on.")(_resume)
    app.command("restart", help="Start a node again.")(_restart)
    return app


def _dev(
    context: typer.Context,
    nodes: Annotated[int | None, typer.Option("-n", min=1, max=7, help="Nodes. Default: 3")] = None,
    data: DevDirectory = None,
    base_http: Annotated[
        int | None,
        typer.Option(metavar="PORT", min=0, max=65_000, help="First HTTP port; 0: any free ones. Default: 7080"),
    ] = None,
    base_kafka: Annotated[
        int | None,
        typer.Option(metavar="PORT", min=0, max=65_000, help="First Kafka port; 0: any free ones. Default: 9092"),
    ] = None,
    ephemeral: Annotated[bool, typer.Option("--ephemeral", help="Data in a temporary directory.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Leave it running.")] = False,
    logs: Annotated[bool, typer.Option("--logs", help="Show the nodes' logs.")] = False,
) -> int | None:
    if context.invoked_subcommand is not None:
        return None
    from .dev import run_dev

    return run_dev(
        nodes=nodes,
        data=data,
        base_http=base_http,
        base_kafka=base_kafka,
        ephemeral=ephemeral,
        detach=detach,
        logs=logs,
    )


def _chosen(context: typer.Context, data: Path | None) -> Path:
    """``--data`` may stand before or after the command's name."""
    from .dev import DEFAULT_DIRECTORY

    above = context.parent.params.get("data") if context.parent is not None else None
    return data or above or DEFAULT_DIRECTORY


def _stop(context: typer.Context, data: DevDirectory = None) -> None:
    from .dev import stop

    stop(_chosen(context, data))


def _wipe(context: typer.Context, data: DevDirectory = None, yes: Yes = False) -> None:
    from .dev import wipe
    from .dev_state import require_state

    directory = _chosen(context, data)
    require_state(directory)
    confirm(f"Stop the cluster in {directory} and delete its data?", yes)
    wipe(directory)


def _kill(context: typer.Context, number: DevNumber, data: DevDirectory = None) -> None:
    from .dev import kill

    kill(_chosen(context, data), number)
    talk(f"n{number} killed.")


def _pause(context: typer.Context, number: DevNumber, data: DevDirectory = None) -> None:
    from .dev import pause

    pause(_chosen(context, data), number)
    talk(f"n{number} paused.")


def _resume(context: typer.Context, number: DevNumber, data: DevDirectory = None) -> None:
    from .dev import resume

    resume(_chosen(context, data), number)
    talk(f"n{number} resumed.")


def _restart(context: typer.Context, number: DevNumber, data: DevDirectory = None) -> None:
    from .dev import restart

    restart(_chosen(context, data), number)
    talk(f"n{number} is ready.")
