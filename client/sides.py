"""Between whom the network of a test's cluster is cut. Pure."""

from collections.abc import Collection, Sequence
from itertools import combinations

from .errors import ConfigError


def check_node(number: object, nodes: Collection[int]) -> int:
    """One of them. Raises ConfigError."""
    if type(number) is not int or number not in nodes:
        raise ConfigError(f"there is no node {number!r:.100}.", hint=f"There are {', '.join(map(str, nodes))}.")
    return number


def sides_to_cut(sides: Sequence[object], nodes: Collection[int]) -> list[set[int]]:
    """Two sets of nodes and more, with none in common; one alone stands against all others. Raises ConfigError."""
    groups = [_group(side, nodes) for side in sides]
    if len(groups) == 1:
        groups.append(set(nodes) - groups[0])
    if len(groups) < 2 or not all(groups):
        hint = "Name a set of some nodes, or two and more: partition({1}), partition({1}, {2, 3})."
        raise ConfigError("there is nothing to cut between.", hint=hint)
    if twice := {node for one, other in combinations(groups, 2) for node in one & other}:
        raise ConfigError(f"node {min(twice)} is on two sides.", hint="The sets have no node in common.")
    return groups


def _group(side: object, nodes: Collection[int]) -> set[int]:
    if not isinstance(side, set | frozenset | list | tuple):
        raise ConfigError(f"{side!r:.100} is no set of nodes.", hint="Such as partition({1}, {2, 3}).")
    return {check_node(number, nodes) for number in side}
