"""How long to wait before trying again."""

from ottla.log.chance import Chance

FIRST_S = 0.02
LONGEST_S = 1.0
JITTER = 0.2


def backoff_s(attempt: int, chance: Chance) -> float:
    """Seconds before attempt ``attempt`` + 1, from 20 ms doubling to 1 s, give or take a fifth: clients that failed
    together must not come back together (KIP-580)."""
    pause_s = min(LONGEST_S, FIRST_S * 2.0 ** min(attempt, 16))
    return pause_s * (1 - JITTER + 2 * JITTER * chance.random())
