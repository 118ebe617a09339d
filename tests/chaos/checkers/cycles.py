"""Cycles of dependencies between operations (Adya's G0 and G1c; Elle), in linear time.

An edge ww joins the writers of values that are neighbours in a version order; wr a writer and each who read its value.
A realtime edge joins an operation that ended with one that began later, a process edge two of one process. Without
write isolation other writers may come between the sends of a transaction, so cycles with ww edges are allowed; a cycle
of wr edges alone (``G1c``) says that two operations each saw the other's uncommitted doings, or one the future.

Kinds: ``G0``, ``G1c`` (wr only), ``G1c-ww`` (wr and ww), each also ``-process`` and ``-realtime`` for cycles that need
such an edge. An operation both sends and polls only in a transaction; without transactions none has wr edges on both
sides.
"""

from collections.abc import Iterable
from itertools import pairwise

from .findings import Findings
from .versions import Deed, Versions

Graph = list[list[int]]
CYCLE_SHOWN_MAX = 8


def check_cycles(deeds: list[Deed], versions: Versions, findings: Findings) -> None:
    """All kinds; the graph of all edges first, since without a cycle there none has one."""
    size = len(deeds)
    ww, wr = _ww(size, versions), _wr(deeds, versions)
    later, time_size = _realtime(deeds)
    after = _process(deeds)
    suspects = sorted({node for group in _groups(_joined(time_size, ww, wr, later, after)) for node in group})
    if not suspects:
        return
    small = {node: place for place, node in enumerate(suspects)}
    ww, wr, later, after = (_only(graph, small) for graph in (ww, wr, later, after))
    for name, graphs, must, bad in (("G0", [ww], ww, False), ("G1c", [wr], wr, True), ("G1c-ww", [ww, wr], wr, False)):
        known: set[int] = set()
        for suffix, extra in (("", []), ("-process", [after]), ("-realtime", [after, later])):
            for group in _groups(_joined(len(suspects), *graphs, *extra)):
                if known.isdisjoint(group) and _has_edge(must, set(group)) and not _is_weaker(name, group, ww):
                    known.update(group)
                    ops = sorted(deeds[suspects[place]].index for place in group if suspects[place] < size)
                    findings.add(name + suffix, bad=bad, ops=ops[:CYCLE_SHOWN_MAX], size=len(ops))


def _is_weaker(name: str, group: list[int], ww: Graph) -> bool:
    """A group without a ww edge has been reported as G1c already."""
    return name == "G1c-ww" and not _has_edge(ww, set(group))


def _ww(size: int, versions: Versions) -> Graph:
    graph: Graph = [[] for _ in range(size)]
    writers = versions.writers
    for key, order in versions.orders.items():
        numbers = [deed.number for here in order.values if (deed := writers.get((key, here[0]))) is not None]
        for before, behind in pairwise(numbers):
            if before != behind:
                graph[before].append(behind)
    return graph


def _wr(deeds: list[Deed], versions: Versions) -> Graph:
    graph: Graph = [[] for _ in deeds]
    writers = versions.writers
    for deed in deeds:
        if deed.type == "ok" and deed.polled:
            sources = {
                writer.number
                for key, records in deed.polled
                for _, value in records
                if (writer := writers.get((key, value))) is not None
            }
            for source in sources:
                if source != deed.number:
                    graph[source].append(deed.number)
    return graph


def _process(deeds: list[Deed]) -> Graph:
    graph: Graph = [[] for _ in deeds]
    latest: dict[int, int] = {}
    for deed in deeds:
        if deed.sent or deed.polled:
            if deed.process in latest:
                graph[latest[deed.process]].append(deed.number)
            if deed.type == "ok":
                latest[deed.process] = deed.number
            else:
                latest.pop(deed.process, None)  # unknown when it happened, if it did
    return graph


def _realtime(deeds: list[Deed]) -> tuple[Graph, int]:
    """Instead of all pairs: a chain of moments, one for each end, that ends lead into and beginnings lead out of."""
    graph: Graph = [[] for _ in deeds]
    does = [deed for deed in deeds if deed.sent or deed.polled]
    moments = [(deed.begin_ns, 0, deed.number) for deed in does]
    # At one instant beginnings come first: what began as another ended did not follow it.
    moments += [(deed.end_ns, 1, deed.number) for deed in does if deed.type == "ok" and deed.end_ns is not None]
    moments.sort()
    now: int | None = None
    for _, is_end, number in moments:
        if is_end:
            graph.append([])
            if now is not None:
                graph[now].append(len(graph) - 1)
            now = len(graph) - 1
            graph[number].append(now)
        elif now is not None:
            graph[now].append(number)
    return graph, len(graph)


def _joined(size: int, *graphs: Graph) -> Graph:
    joined: Graph = [[] for _ in range(size)]
    for graph in graphs:
        for node, behind in enumerate(graph):
            if behind:
                joined[node] = joined[node] + behind
    return joined


def _only(graph: Graph, small: dict[int, int]) -> Graph:
    """The part of a graph between these nodes, which get new numbers."""
    return [[small[behind] for behind in graph[node] if behind in small] if node < len(graph) else [] for node in small]


def _has_edge(graph: Graph, nodes: set[int]) -> bool:
    """A group is strongly connected, so each edge within it is part of a cycle."""
    return any(behind in nodes for node in nodes if node < len(graph) for behind in graph[node])


def _groups(graph: Graph) -> Iterable[list[int]]:
    """The strongly connected components of more than one node.

    Whatever has no way in or no way out is peeled off first (Kahn); of a good history nothing is left.
    """
    ways_in = [0] * len(graph)
    for behind in graph:
        for node in behind:
            ways_in[node] += 1
    ready = [node for node, count in enumerate(ways_in) if not count]
    for node in ready:  # grows as it is read
        for behind in graph[node]:
            ways_in[behind] -= 1
            if not ways_in[behind]:
                ready.append(behind)
    if len(ready) < len(graph):
        yield from _tarjan(graph, [node for node, count in enumerate(ways_in) if count])


def _tarjan(graph: Graph, roots: list[int]) -> Iterable[list[int]]:
    number: dict[int, int] = {}
    low: dict[int, int] = {}
    on_stack: set[int] = set()
    stack: list[int] = []
    for root in roots:
        if root in number:
            continue
        work = [(root, iter(graph[root]))]
        number[root] = low[root] = len(number)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, rest = work[-1]
            for behind in rest:
                if behind not in number:
                    number[behind] = low[behind] = len(number)
                    stack.append(behind)
                    on_stack.add(behind)
                    work.append((behind, iter(graph[behind])))
                    break
                if behind in on_stack:
                    low[node] = min(low[node], number[behind])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == number[node]:
                    group: list[int] = []
                    while node not in group[-1:]:
                        group.append(stack.pop())
                    on_stack.difference_update(group)
                    if len(group) > 1:
                        yield group
