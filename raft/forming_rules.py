"""How nodes that were given the same list of addresses become one cluster: the decision. Pure.

All of them say "forming" until the first of the sorted list has heard that from every other with the same list.
It alone then writes the voter set; the others take it from whoever has it. So there is one writer, and two
halves of a list can never become two clusters. A node whose data directory is not in the set joins it as an observer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import msgspec

from .identity import Voter, cluster_id_of

JOIN_MISMATCH = "OTTLA-JOIN-MISMATCH"
VOTERS_MAX = 7

_Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=300)]


class FormingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself. ``node_nonce`` is fresh at each start: whoever hears its own has found itself."""

    node_nonce: _Text
    directory_id: _Text
    state: Literal["forming", "formed"]
    join: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=64)] = ()
    cluster_id: _Text | None = None
    voters: Annotated[tuple[Voter, ...], msgspec.Meta(max_length=VOTERS_MAX)] = ()


@dataclass(frozen=True, slots=True)
class Local:
    """This node: ``join`` is its normalized list, ``address`` where others reach it, as far as it knows."""

    node_nonce: str
    directory_id: str
    join: tuple[str, ...]
    address: str = ""

    def is_listed(self, told: "Mapping[str, FormingAnswer]") -> bool:
        """Whether its list names this node: an address of it leads here, or is this node's own."""
        return self.address in self.join or any(answer.node_nonce == self.node_nonce for answer in told.values())


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do yet; ``waiting_for`` says for whom and why, one phrase each."""

    waiting_for: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WriteVoters:
    """This node decides: the voter set is this. Others may learn it once it is durable here."""

    voters: tuple[Voter, ...]
    node_id: int


@dataclass(frozen=True, slots=True)
class AdoptVoters:
    """Another node decided; this one is in the set."""

    voters: tuple[Voter, ...]
    node_id: int


@dataclass(frozen=True, slots=True)
class Observe:
    """The cluster is formed without this node's data directory: it joins as an observer, under an id it is given."""

    voters: tuple[Voter, ...]


@dataclass(frozen=True, slots=True)
class Refuse:
    """It cannot become right by waiting."""

    code: str
    message: str


Decision: TypeAlias = Wait | WriteVoters | AdoptVoters | Observe | Refuse


def normalize_join(join: "tuple[str, ...] | list[str]") -> tuple[str, ...]:
    """The list in the one form in which all nodes compare it: lower case, sorted by (host, port), no repetition.
    Raises ValueError on what is not ``host:port`` and on more than seven addresses."""
    addresses = sorted({split_address(address) for address in join})
    if len(addresses) > VOTERS_MAX:
        raise ValueError(f"--join names {len(addresses)} nodes; a quorum has 1 to {VOTERS_MAX} voters")
    return tuple(f"{host}:{port}" for host, port in addresses)


def split_address(address: str) -> tuple[str, int]:
    """(host, port) of ``host:port`` or ``[v6]:port``. Raises ValueError."""
    host, colon, port = address.strip().rpartition(":")
    host = host.strip("[]").lower()
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= 65535:
        raise ValueError(f"{address!r} is no host:port")
    return host, int(port)


def decide_forming(local: Local, answers: Mapping[str, FormingAnswer | str]) -> Decision:
    """What to do when each address of the list last answered this, or did not for the reason given."""
    told = {address: answer for address, answer in answers.items() if isinstance(answer, FormingAnswer)}
    formed = {address: answer for address, answer in told.items() if answer.state == "formed"}
    if formed:
        return _join_formed(local, formed, listed=local.is_listed(told))
    refusal = _check_identities(local, told)
    if refusal is not None:
        return refusal
    missing = [_waiting_phrase(local, address, answers.get(address)) for address in local.join]
    waiting = tuple(phrase for phrase in missing if phrase is not None)
    if waiting:
        return Wait(waiting)
    if not local.is_listed(told):
        return Wait(tuple(f"{address} (not a cluster yet)" for address in local.join))
    return _settle(local, told)


def _join_formed(local: Local, formed: Mapping[str, FormingAnswer], *, listed: bool) -> Decision:
    sets = {answer.voters for answer in formed.values()}
    if len(sets) > 1:
        return Refuse(
            JOIN_MISMATCH,
            f"{' and '.join(sorted(formed))} belong to different clusters. Name the nodes of one cluster in --join.",
        )
    voters = sets.pop()
    if {answer.cluster_id for answer in formed.values()} != {cluster_id_of(voters)}:
        return Refuse(JOIN_MISMATCH, f"{', '.join(sorted(formed))} name a cluster id that is not their voters'.")
    mine = [voter.position for voter in voters if voter.directory_id == local.directory_id]
    there = {split_text(voter.address) for voter in voters}
    if (mine or listed) and there != {split_text(address) for address in local.join}:
        return Refuse(
            JOIN_MISMATCH,
            f"this node was started with --join {','.join(local.join)}, but the cluster was formed by "
            f"{','.join(voter.address for voter in voters)}. Start it with the list of the "
            "cluster, or leave its own address out, to join as an observer.",
        )
    return AdoptVoters(voters, mine[0]) if mine else Observe(voters)


def split_text(address: str) -> str:
    """An address without the brackets of IPv6, for comparison."""
    return address.replace("[", "").replace("]", "").lower()


def _check_identities(local: Local, told: Mapping[str, FormingAnswer]) -> Refuse | None:
    by_nonce: dict[str, str] = {}
    for address, answer in sorted(told.items()):
        if answer.node_nonce in by_nonce:
            return Refuse(
                JOIN_MISMATCH,
                f"{by_nonce[answer.node_nonce]} and {address} are the same node. Name each node once in --join.",
            )
        by_nonce[answer.node_nonce] = address
    directories = [answer.directory_id for answer in told.values()]
    if len(set(directories)) < len(directories):
        return Refuse(
            JOIN_MISMATCH, "two nodes have the same directory id: a data directory was copied. Empty one of the two."
        )
    return None


def _waiting_phrase(local: Local, address: str, answer: FormingAnswer | str | None) -> str | None:
    if answer is None:
        return address
    if isinstance(answer, str):
        return f"{address} ({answer})" if answer else address
    if answer.join != local.join:
        return f"{address} (it was started with another list: {','.join(answer.join)})"
    return None


def _settle(local: Local, told: Mapping[str, FormingAnswer]) -> Decision:
    first = local.join[0]
    if told[first].node_nonce != local.node_nonce:
        return Wait((f"{first} (it decides)",))
    voters = tuple(
        Voter(position, *split_address(address), told[address].directory_id)
        for position, address in enumerate(local.join, start=1)
    )
    return WriteVoters(voters, 1)
