"""What a node reads before it listens: its secret, its data directory, and whom it is to form a cluster with."""

from contextlib import ExitStack
from pathlib import Path

from ottla.client.errors import ConfigError, OttlaError
from ottla.log.chance import Chance
from ottla.log.storage import Storage
from ottla.raft.forming import FormingDesk
from ottla.raft.identity import DataDirectory, IdentityRefused, open_directory

from .config import Settings

SECRET_BYTES_MIN = 16


class NodeStopped(OttlaError):
    """The node cannot go on; the message says why."""

    code = "OTTLA-NODE-STOPPED"


def read_secret(settings: Settings, storage: Storage) -> bytes | None:
    """What nodes prove to each other; None where nothing is to be proven. Raises ConfigError."""
    if settings.secret_file is None:
        return None
    path = Path(settings.secret_file)
    try:
        secret = storage.read_bytes(path).strip()
    except OSError as error:
        raise ConfigError(f"secret.file {path}: {error.strerror}.", code="OTTLA-SECRET-UNREADABLE") from error
    if len(secret) < SECRET_BYTES_MIN:
        raise ConfigError(
            f"secret.file {path} holds {len(secret)} bytes, at least {SECRET_BYTES_MIN} are needed.",
            code="OTTLA-SECRET-TOO-SHORT",
            hint="Make one: head -c 32 /dev/urandom | base64 > cluster.key",
        )
    return secret


def lock_directory(stack: ExitStack, path: Path, storage: Storage, chance: Chance) -> DataDirectory:
    """The data directory, this process's own until ``stack`` is closed. Raises NodeStopped."""
    try:
        return stack.enter_context(open_directory(path, storage, chance))
    except IdentityRefused as refused:
        raise NodeStopped(refused.message, code=refused.code) from refused
    except OSError as error:
        raise NodeStopped(f"{path}: {error.strerror}.", code="OTTLA-DATA-UNUSABLE") from error


def make_desk(settings: Settings, directory: DataDirectory, secret: bytes | None, chance: Chance) -> FormingDesk:
    """Where this node meets those that it is to form a cluster with. Raises ConfigError."""
    join = [f"{host}:{port}" for host, port in settings.join_addresses]
    try:
        return FormingDesk(directory, join, secret, chance)
    except ValueError as error:
        raise ConfigError(f"join: {error}.") from error
