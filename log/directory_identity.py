"""Whose a directory of logs is: ``meta.properties``, as Kafka's (KIP-858), and which ones a node is known to have.

A directory that comes back empty, or another one in its place, must not pass for one that never held anything: a
replica that lost its records without knowing could lead. So the node remembers its directories by their ids.
"""

import base64
import hashlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from .checkpoint import write_atomically
from .errors import LogError
from .storage import Storage

META_FILE = "meta.properties"
KNOWN_FILE = "log-directories.json"


class ForeignDirectory(LogError):
    """A directory of logs belongs to another node, or another cluster."""

    code = "INVALID_REQUEST"


class Owner(NamedTuple):
    """Who may use a directory."""

    cluster_id: str
    node_id: int


class _Known(msgspec.Struct):
    directories: dict[str, str]  # path by id


def claim(storage: Storage, path: Path, owner: Owner, now_ms: int) -> str:
    """The directory's id; it is given one if it has none. Blocks. Raises ForeignDirectory, OSError."""
    file = path / META_FILE
    if storage.exists(file):
        return _read(storage.read_bytes(file), path, owner)
    directory_id = _new_id(path, owner, now_ms)
    lines = {"cluster.id": owner.cluster_id, "directory.id": directory_id, "node.id": owner.node_id, "version": 1}
    text = "".join(f"{key}={value}\n" for key, value in lines.items())
    write_atomically(storage, file, text.encode())
    return directory_id


def _new_id(path: Path, owner: Owner, now_ms: int) -> str:
    """22 characters, as Kafka's ids: what comes to the same place later is another directory."""
    digest = hashlib.blake2b(f"{owner.cluster_id} {owner.node_id} {path} {now_ms}".encode(), digest_size=16).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _read(data: bytes, path: Path, owner: Owner) -> str:
    lines = (line.partition("=") for line in data.decode(errors="replace").splitlines() if not line.startswith("#"))
    found = {key.strip(): value.strip() for key, _, value in lines}
    whose = Owner(found.get("cluster.id", ""), int(found["node.id"]) if found.get("node.id", "").isdecimal() else -1)
    if whose != owner or not found.get("directory.id"):
        raise ForeignDirectory(
            f"{path} belongs to node {whose.node_id} of cluster {whose.cluster_id}, and this is node {owner.node_id} "
            f"of {owner.cluster_id}; name another directory in log.dirs, or remove {META_FILE} and what is in it"
        )
    return found["directory.id"]


def read_known(storage: Storage, data: Path) -> dict[str, str]:
    """The directories this node had last, by id; what cannot be read knows of none. Blocks."""
    try:
        return msgspec.json.decode(storage.read_bytes(data / KNOWN_FILE), type=_Known).directories
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}


def write_known(storage: Storage, data: Path, directories: dict[str, str]) -> None:
    """Durably. Blocks. Raises OSError."""
    write_atomically(storage, data / KNOWN_FILE, msgspec.json.encode(_Known(directories)))
