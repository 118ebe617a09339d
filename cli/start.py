"""`ottla start`: one node in this process."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ottla.client.errors import ConfigError, OttlaError
from ottla.client.loading import without_collector
from ottla.client.version import VERSION

from .output import talk
from .port_owner import port_owner
from .problems import UsageProblem

if TYPE_CHECKING:
    from ottla.broker.config import Settings
    from ottla.broker.node import Node

CONFIG_FILE = Path("ottla.toml")


def start_node(flags: Mapping[str, Any], pairs: Sequence[str], config: Path | None) -> int:
    """Run a node until it is told to stop. ``pairs``: ``key=value`` of any setting; they win over the flags."""
    with without_collector():
        from ottla.broker.config import load_settings
        from ottla.broker.kafka.listener import KafkaPortTaken
        from ottla.broker.run import run_node

    path = config or CONFIG_FILE
    file = read_config(path, optional=config is None)
    chosen = {**flags, **parse_pairs(pairs)}
    settings = load_settings(chosen, environment=os.environ, file=file, file_name=str(path))
    try:
        return run_node(settings, version=VERSION, announce=_announce if sys.stderr.isatty() else None)
    except OttlaError as error:
        if error.code == "OTTLA-PORT-IN-USE":
            raise name_the_owner(settings, "kafka" if isinstance(error, KafkaPortTaken) else "http") from error
        if error.code == "OTTLA-SECRET-UNREADABLE":
            error.hint = "Copy the cluster's secret there, or make one: head -c 32 /dev/urandom | base64 > cluster.key"
        raise


def parse_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """``["a=1", "b=2"]`` as a dict. Raises UsageProblem for anything else."""
    parsed: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UsageProblem(f"{pair!r} is not KEY=VALUE")
        parsed[key.strip()] = value
    return parsed


def name_the_owner(settings: "Settings", door: str = "http") -> OttlaError:
    """The same refusal, with the name of whoever has the port. ``door``: whose it was to be, ``http`` or ``kafka``."""
    from ottla.broker.config import parse_address

    host, port = parse_address(getattr(settings, door), door)
    owner = port_owner(port)
    taken = f"is taken by pid {owner.pid} ({owner.name})" if owner else "is taken by another process"
    return OttlaError(f"{host}:{port} {taken}.", code="OTTLA-PORT-IN-USE", hint=f"Use --{door} HOST:PORT, or stop it.")


def read_config(path: Path, optional: bool) -> bytes | None:
    """What is in a file of settings; None where it is ``optional`` and missing. Raises ConfigError."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        if optional:
            return None
        raise ConfigError(f"there is no file {path}.", hint="--config names a TOML file.") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.") from error


def _announce(node: "Node") -> None:
    settings = node.settings
    kafka = "" if node.kafka_port is None else f"kafka {settings.kafka_address_told(node.kafka_port)}, "
    http = settings.advertised_address(node.port)
    talk(f"Ready: http {http}, {kafka}data {settings.data}. Ctrl-C drains and stops.")
