"""`ottla health`: is every node that should be there ready, and has the quorum a leader?"""

import time
from collections.abc import Callable
from typing import Any

from .output import Output, show_document, show_table, talk
from .probe import describe, is_ready
from .problems import EXIT_DONE, EXIT_FAILED

POLL_S = 0.1
REDRAW_S = 1.0
COLUMNS = ("node", "address", "ready", "state")

Address = tuple[str, int]


def check(servers: str, *, watch: bool, exit_when_healthy: bool, timeout_s: float | None, output: Output) -> int:
    """Show the health; with ``watch`` again and again, until healthy if asked so, at most ``timeout_s`` seconds.
    Returns the exit code: failed unless healthy at the end."""
    from ottla.client.servers import parse_servers

    seeds = [(server.host, server.port) for server in parse_servers(servers)]
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    waiting = watch and exit_when_healthy
    while True:
        health = observe(seeds)
        done = _is_done(health["healthy"], watch, exit_when_healthy, deadline_s)
        if done or not waiting:
            _show(health, output)
        if done:
            return EXIT_DONE if health["healthy"] else EXIT_FAILED
        time.sleep(POLL_S if waiting else REDRAW_S)


def _is_done(healthy: bool, watch: bool, exit_when_healthy: bool, deadline_s: float | None) -> bool:
    if not watch or (exit_when_healthy and healthy):
        return True
    return deadline_s is not None and time.monotonic() >= deadline_s


def observe(
    seeds: list[Address],
    ask: Callable[[str, int], dict[str, Any] | None] = describe,
    ready: Callable[[str, int], bool] = is_ready,
) -> dict[str, Any]:
    """Every voter that a node knows of, and the seeds that are none of them."""
    account = _first_account(seeds, ask)
    voters = [(int(number), (str(host), int(port))) for number, host, port in account.get("voters", ())]
    nodes: list[tuple[int | None, Address]] = list(voters)
    if not voters:
        nodes = [(None, seed) for seed in seeds]
    rows = [_row(number, address, ask, ready) for number, address in nodes]
    leader = account.get("quorum_leader")
    return {
        "healthy": leader is not None and all(row["ready"] for row in rows),
        "quorum_leader": leader,
        "quorum_term": account.get("quorum_term"),
        "nodes": rows,
    }


def _first_account(seeds: list[Address], ask: Callable[[str, int], dict[str, Any] | None]) -> dict[str, Any]:
    accounts = [account for host, port in seeds if (account := ask(host, port)) is not None]
    informed = [account for account in accounts if account.get("voters")]
    return next(iter(informed or accounts), {})


def _row(
    number: int | None,
    address: Address,
    ask: Callable[[str, int], dict[str, Any] | None],
    ready: Callable[[str, int], bool],
) -> dict[str, Any]:
    account = ask(*address)
    state = "unreachable" if account is None else account.get("state")
    there = None if account is None else account.get("node_id")
    replaced = number is not None and there is not None and there != number
    if replaced:  # the voter's data directory was lost or exchanged
        state = f"replaced by n{there}"
    return {
        "node": number,
        "address": f"{address[0]}:{address[1]}",
        "ready": account is not None and not replaced and ready(*address),
        "state": state,
    }


def _show(health: dict[str, Any], output: Output) -> None:
    if output is not Output.table:
        show_document(health, output)
        return
    show_table(health["nodes"], COLUMNS)
    leader = health["quorum_leader"]
    quorum = "the quorum has no leader" if leader is None else f"quorum leader n{leader}, term {health['quorum_term']}"
    ill = [row["address"] if row["node"] is None else f"n{row['node']}" for row in health["nodes"] if not row["ready"]]
    not_ready = f"; not ready: {', '.join(ill)}" if ill else ""
    talk(f"{'Healthy' if health['healthy'] else 'Not healthy'}: {quorum}{not_ready}.")
