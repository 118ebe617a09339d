"""What `ottla dev` knows of a laptop cluster: DIR/dev.json, shared by the foreground and the other commands."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ottla.client.errors import OttlaError

from .problems import NotFound
from .processes import ProcessIdentity, is_alive

STATE_FILE = "dev.json"


class DevNode(msgspec.Struct, frozen=True, kw_only=True):
    """``number`` from 1. ``kafka_port``: None in a cluster of a release that had none. ``process``: None once it was
    stopped by a command."""

    number: int
    port: int
    kafka_port: int | None = None
    process: ProcessIdentity | None = None

    @property
    def alive(self) -> bool:
        return is_alive(self.process)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def kafka_address(self) -> str:
        """Or ``off``."""
        return "off" if self.kafka_port is None else f"127.0.0.1:{self.kafka_port}"


class DevState(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster in a directory. The ports are part of its identity: its voters know each other by them."""

    nodes: tuple[DevNode, ...]

    def node(self, number: int) -> DevNode:
        """Raises NotFound."""
        for node in self.nodes:
            if node.number == number:
                return node
        raise NotFound(f"there is no node {number}.", hint=f"There are 1 to {len(self.nodes)}.")

    def with_process(self, number: int, process: ProcessIdentity | None) -> "DevState":
        """The same cluster, that node being this process."""
        return DevState(
            nodes=tuple(
                msgspec.structs.replace(node, process=process) if node.number == number else node for node in self.nodes
            )
        )

    @property
    def join(self) -> str | None:
        """Every voter's address; None for a node that forms alone."""
        return ",".join(node.address for node in self.nodes) if len(self.nodes) > 1 else None


def new_state(ports: Sequence[int], kafka_ports: Sequence[int] | None = None) -> DevState:
    """A cluster that has not run yet. Node ids are positions in the sorted list of addresses. Without ``kafka_ports``
    it does not serve Kafka clients."""
    no_ports: list[int | None] = [None] * len(ports)
    pairs = zip(sorted(ports), kafka_ports or no_ports, strict=True)
    return DevState(
        nodes=tuple(DevNode(number=n, port=port, kafka_port=kafka) for n, (port, kafka) in enumerate(pairs, 1))
    )


def read_state(directory: Path) -> DevState | None:
    """What was last written; None where there is no cluster. Raises OttlaError for a file that is not ours."""
    path = directory / STATE_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=DevState)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise OttlaError(
            f"{path} cannot be read: {error}.", code="OTTLA-DEV-STATE", hint="Remove the file if no node runs."
        ) from error


def require_state(directory: Path) -> DevState:
    """As ``read_state``; raises NotFound where there is no cluster."""
    state = read_state(directory)
    if state is None:
        raise NotFound(
            f"there is no cluster in {directory}.", hint="Start one: ottla dev -n 3, or name it: --data DIR."
        )
    return state


def write_state(directory: Path, state: DevState) -> None:
    """Atomically: whoever reads sees the old or the new one."""
    temporary = directory / f"{STATE_FILE}.{os.getpid()}"
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(state)))
    temporary.replace(directory / STATE_FILE)
