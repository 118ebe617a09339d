"""`ottla config`: ls, set, unset, show, lint; and `ottla topic set`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .output import Output, show_rows, talk
from .sdk import with_client
from .start import CONFIG_FILE, read_config

if TYPE_CHECKING:
    from ottla.client.protocol import ConfigEntry

COLUMNS = ("name", "value", "source")


def list_configs(servers: str, node: int | None, everything: bool, output: Output) -> None:
    """A row for each that somebody has set, or for each."""
    from ottla.log.model import BrokerId

    broker = None if node is None else BrokerId(node)
    entries = with_client(servers, lambda client: client.admin.broker_config(broker))
    rows = [_row(entry) for entry in entries if everything or entry.source != "default"]
    if not rows and output is Output.table:
        talk("Nothing is set: everything is as it is by default. -a shows that.")
        return
    show_rows(rows, COLUMNS, output)


def change_broker_configs(servers: str, node: int | None, changes: Mapping[str, str | None], dry_run: bool) -> None:
    """Of all nodes, or of one."""
    from ottla.log.model import BrokerId

    broker = None if node is None else BrokerId(node)
    with_client(servers, lambda client: client.admin.alter_broker_config(broker, dict(changes), validate_only=dry_run))
    _tell(changes, "the cluster" if node is None else f"node {node}", dry_run)


def change_topic_configs(servers: str, name: str, changes: Mapping[str, str | None], dry_run: bool) -> None:
    """Of one topic."""
    with_client(servers, lambda client: client.admin.alter_topic_config(name, dict(changes), validate_only=dry_run))
    _tell(changes, name, dry_run)


def show_settings(config: Path | None, origin: bool, output: Output) -> None:
    """Every setting as `ottla start` would take it here, flags aside."""
    from ottla.broker.config import origins_of, setting_name

    path = config or CONFIG_FILE
    file = read_config(path, optional=config is None)
    settings, origins = origins_of({}, environment=os.environ, file=file, file_name=str(path))
    rows: list[dict[str, Any]] = [
        {"name": setting_name(field), "value": getattr(settings, field), "origin": origins.get(field, "default")}
        for field in sorted(settings.__struct_fields__)
    ]
    show_rows(rows, ("name", "value", "origin") if origin else ("name", "value"), output)


def lint(file: Path) -> None:
    """Raises ConfigError at the first thing that is wrong."""
    from ottla.broker.config import load_settings

    load_settings({}, file=read_config(file, optional=False), file_name=str(file))
    talk(f"{file} is right.")


def _row(entry: "ConfigEntry") -> dict[str, Any]:
    return {
        "name": entry.name,
        "value": entry.value,
        "source": entry.source,
        "type": entry.kind,
        "changeable": not entry.read_only,
        "about": entry.says,
    }


def _tell(changes: Mapping[str, str | None], what: str, dry_run: bool) -> None:
    said = ", ".join(f"{key} unset" if value is None else f"{key}={value}" for key, value in changes.items())
    talk(f"{'Would set' if dry_run else 'Set'} on {what}: {said}.")
