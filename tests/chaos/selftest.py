"""The proof of the checkers: ``python -m tests.chaos.selftest``.

Planted histories must each be called what they are; of mutations of valid histories nearly all must be caught, each
kind by its own name; of valid histories none may be called bad. Prints a table; exits with 1 where one of this is not
so.
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from .checkers.acks01 import check_acks01
from .checkers.group import check_group
from .checkers.idem import check_idempotence
from .checkers.meta import check_meta
from .checkers.queue import check_queue
from .group.histories import valid_group
from .group.mutations import GROUP
from .histories import valid_history, valid_topics
from .history import Op
from .mutations import ACKS01, IDEMPOTENCE, QUEUE, TOPICS, Ground, Mutation
from .planted import planted

RECALL_MIN = 0.995
GROUNDS = 8
"""So many valid histories are changed, in turn."""
TRIES_MAX = 2_000

Check = Callable[[list[Op]], Any]
check_acks1_idempotent = partial(check_acks01, idempotent=True)


@dataclass(frozen=True)
class Family:
    """A checker with the valid histories it is given, by seed, and what is done to them."""

    name: str
    check: Check
    valid: Callable[[int], list[Op]]
    mutations: dict[str, tuple[str, Mutation]]


@dataclass
class Score:
    """``caught`` of ``planted``; ``missed`` has the draws that repeat what was not."""

    kind: str
    planted: int = 0
    caught: int = 0
    missed: list[str] = field(default_factory=list)

    @property
    def recall(self) -> float:
        return self.caught / self.planted if self.planted else 0.0

    @property
    def good(self) -> bool:
        return self.recall >= RECALL_MIN


def families(operations: int) -> list[Family]:
    """All checkers that judge histories."""
    few = max(100, operations // 10)
    return [
        Family("queue", check_queue, partial(valid_history, operations=operations), QUEUE),
        Family("acks01", check_acks1_idempotent, partial(valid_history, operations=operations), ACKS01),
        Family("idem", check_idempotence, partial(valid_history, operations=operations, resend=True), IDEMPOTENCE),
        Family("meta", check_meta, partial(valid_topics, operations=few), TOPICS),
        Family("group", check_group, partial(valid_group, operations=operations), GROUP),
    ]


def false_alarms(count: int, operations: int) -> Iterator[tuple[str, int, list[str]]]:
    """(checker, seed, what it said) of valid histories that were called bad; ``count`` are tried, over all checkers."""
    checks: list[tuple[str, Check, Callable[[int], list[Op]]]] = [
        *((family.name, family.check, family.valid) for family in families(operations)),
        ("queue, subscribed", check_queue, partial(valid_history, operations=operations, subscribe=True)),
        ("acks01, retried", check_acks01, partial(valid_history, operations=operations)),
        ("queue, loss allowed", partial(check_queue, loss_allowed=True), partial(valid_history, operations=operations)),
        (
            "meta, asking again",
            partial(check_meta, hidden_retries=True),
            partial(valid_topics, operations=max(100, operations // 10)),
        ),
    ]
    for seed in range(count):
        name, check, valid = checks[0] if seed % 2 == 0 else checks[1 + seed // 2 % (len(checks) - 1)]
        result = check(valid(seed))
        if result.errors:
            yield name, seed, sorted(result.errors)


def recall(family: Family, kind: str, injections: int, grounds: list[Ground]) -> Score:
    """One kind, so many times. Where it says ``this|that`` either name is right."""
    where, mutation = family.mutations[kind]
    score = Score(f"{family.name}: {kind}" + (" (allowed)" if where == "allowed" else ""))
    for number in range(injections):
        ops = _changed(grounds[number % len(grounds)], mutation, Random(f"{family.name} {kind} {number}"))
        if ops is None:
            continue
        score.planted += 1
        if not set(kind.split("|")).isdisjoint(getattr(family.check(ops), where)):
            score.caught += 1
        else:
            score.missed.append(f"{family.name} {kind} {number}")
    return score


def _changed(ground: Ground, mutation: Mutation, chance: Random) -> list[Op] | None:
    for _ in range(TRIES_MAX):
        if (ops := mutation(ground, chance)) is not None:
            return ops
    return None


def run(operations: int, injections: int, valid: int, only: list[str]) -> bool:
    """Print the table. Whether all is as it must be."""
    table = planted()
    wrong = [(entry.name, said) for entry in table if (said := entry.missed()) is not None]
    print(f"{'planted histories':<44} {len(table) - len(wrong):>6} of {len(table)}")
    for name, said in wrong:
        print(f"  {name}: {said}")
    scores = [score for family in families(operations) for score in _family(family, injections, only)]
    total = Score("all", sum(score.planted for score in scores), sum(score.caught for score in scores))
    print(f"{total.kind:<44} {total.caught:>6} of {total.planted:<6} {total.recall:8.2%}")
    alarms = list(false_alarms(valid, operations))
    print(f"{'false alarms':<44} {len(alarms):>6} of {valid}")
    for name, seed, kinds in alarms:
        print(f"  {name}, seed {seed}: {', '.join(kinds)}")
    return not wrong and not alarms and all(score.good for score in scores) and (total.good or not scores)


def _family(family: Family, injections: int, only: list[str]) -> Iterator[Score]:
    kinds = [kind for kind in family.mutations if not only or {kind, family.name} & set(only)]
    if not kinds:
        return
    grounds = [Ground.of(family.valid(seed)) for seed in range(GROUNDS)]
    gc.freeze()  # the valid histories stay; looking through them again and again takes longer than the checks
    for kind in kinds:
        began_s = time.perf_counter()
        score = recall(family, kind, injections, grounds)
        took_s = time.perf_counter() - began_s
        print(
            f"{score.kind:<44} {score.caught:>6} of {score.planted:<6} {score.recall:8.2%} {took_s:7.1f} s", flush=True
        )
        for missed in score.missed[:3]:
            print(f"  missed: {missed}")
        yield score
    gc.unfreeze()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.selftest", description="The proof of the checkers.")
    parser.add_argument("--operations", type=int, default=10_000, help="operations of a valid history")
    parser.add_argument("--injections", type=int, default=200, help="how often each anomaly is injected")
    parser.add_argument("--valid", type=int, default=200, help="valid histories to be called good")
    parser.add_argument("--only", nargs="*", default=[], help="these checkers, or kinds of anomalies")
    arguments = parser.parse_args()
    good = run(arguments.operations, arguments.injections, arguments.valid, arguments.only)
    print("the checkers are as they must be" if good else "the checkers are NOT as they must be")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
