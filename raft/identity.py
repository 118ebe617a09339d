"""Who a data directory is: ``identity.json``, written when it is first used and checked at every start.

A voter that forgot its log may vote twice in one term, so a directory that lost its identity, or never had the
one the cluster knows, is refused and not formatted anew (defect D11, docs/raft.md).
"""

import base64
import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from ottla.log.chance import Chance, new_id
from ottla.log.storage import DirectoryLocked, Storage

FORMAT_VERSION = 1
DIRECTORY_LOCKED = "OTTLA-DIRECTORY-LOCKED"
IDENTITY_LOST = "OTTLA-IDENTITY-LOST"
IDENTITY_DAMAGED = "OTTLA-IDENTITY-DAMAGED"
FORMAT_UNKNOWN = "OTTLA-FORMAT-UNKNOWN"

_FILE = "identity.json"
_TEMPORARY = "identity.json.tmp"
_LOCK = "lock"


class IdentityRefused(Exception):
    """This data directory cannot be used. ``code`` is one of this module's; the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Voter(msgspec.Struct, frozen=True, array_like=True):
    """One of the quorum's voters. ``position`` counts from 1 and is its node id."""

    position: Annotated[int, msgspec.Meta(ge=1, le=7)]
    host: str
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)]
    directory_id: str

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The content of identity.json. While forming only the directory id is known."""

    format_version: int = FORMAT_VERSION
    directory_id: str
    state: Literal["forming", "formed"] = "forming"
    node_id: int | None = None
    cluster_id: str | None = None
    voters: tuple[Voter, ...] = ()
    joined_by: tuple[str, ...] = ()  # an observer's list: it may name observers only

    @property
    def is_voter(self) -> bool:
        """Whether the cluster was formed with this data directory."""
        return any(voter.directory_id == self.directory_id for voter in self.voters)


class DataDirectory:
    """A data directory that this process alone holds."""

    def __init__(self, path: Path, storage: Storage, identity: Identity) -> None:
        self.path = path
        self.identity = identity
        self._storage = storage

    def save(self, identity: Identity) -> None:
        """Make ``identity`` this directory's, durably, or not at all. Blocks. Raises OSError."""
        _write(self.path, self._storage, identity)
        self.identity = identity


@contextlib.contextmanager
def open_directory(path: Path, storage: Storage, chance: Chance) -> Iterator[DataDirectory]:
    """Lock the directory for as long as the context lasts, and format it if it is new. Blocks.

    Raises IdentityRefused.
    """
    storage.mkdir(path)
    storage.sync_directory(path.parent)
    with _locked(path, storage):
        yield DataDirectory(path, storage, _read_or_format(path, storage, chance))


@contextlib.contextmanager
def _locked(path: Path, storage: Storage) -> Iterator[None]:
    lock = storage.lock(path / _LOCK)
    try:
        lock.__enter__()
    except DirectoryLocked:
        raise IdentityRefused(
            DIRECTORY_LOCKED, f"another process uses {path}. Stop it, or start this node on a directory of its own."
        ) from None
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def _read_or_format(path: Path, storage: Storage, chance: Chance) -> Identity:
    if storage.exists(path / _FILE):
        return _parse(path, storage.read_bytes(path / _FILE))
    if storage.exists(path / "wal") or storage.exists(path / "raft"):
        raise IdentityRefused(
            IDENTITY_LOST,
            f"{path} holds a log but no {_FILE}. Put the file back from a backup, or move the directory away "
            "and let the node start empty.",
        )
    identity = Identity(directory_id=new_id(chance))
    _write(path, storage, identity)
    return identity


def _parse(path: Path, data: bytes) -> Identity:
    try:
        identity = msgspec.json.decode(data, type=Identity)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise IdentityRefused(
            IDENTITY_DAMAGED, f"{path / _FILE} cannot be read ({error}). Put it back from a backup."
        ) from error
    if identity.format_version != FORMAT_VERSION:
        raise IdentityRefused(
            FORMAT_UNKNOWN,
            f"{path} has format {identity.format_version}, this version of Ottla knows {FORMAT_VERSION}. "
            "Start the version that wrote it.",
        )
    complete = identity.node_id is not None and identity.cluster_id is not None and identity.voters
    if identity.state == "formed" and not complete:
        raise IdentityRefused(IDENTITY_DAMAGED, f"{path / _FILE} says formed and does not say as what.")
    return identity


def _write(path: Path, storage: Storage, identity: Identity) -> None:
    storage.remove(path / _TEMPORARY)
    file = storage.open(path / _TEMPORARY, create=True)
    try:
        file.append(msgspec.json.format(msgspec.json.encode(identity)))
        file.sync()
    finally:
        file.close()
    storage.replace(path / _TEMPORARY, path / _FILE)
    storage.sync_directory(path)


def cluster_id_of(voters: Sequence[Voter]) -> str:
    """The cluster's id: a hash of its voter set, in the 22 characters that all identities have."""
    data = b"ottla cluster 1\0" + msgspec.json.encode(sorted(voters, key=lambda voter: voter.position))
    while True:
        data = hashlib.sha256(data).digest()
        identity = base64.urlsafe_b64encode(data[:16]).rstrip(b"=").decode()
        if not identity.startswith("-"):  # a shell would take it for a flag
            return identity
