"""The door to randomness. Product code asks a Chance, never the random, secrets or uuid modules."""

import base64
import random
import secrets
from typing import Protocol


class Chance(Protocol):
    """Where randomness comes from; the simulator seeds its own."""

    def random(self) -> float:
        """A float in [0, 1)."""
        ...

    def randbelow(self, bound: int) -> int:
        """An int in [0, bound)."""
        ...

    def token_bytes(self, size: int) -> bytes:
        """Unguessable bytes: nonces and identities."""
        ...


class SystemChance:
    """This machine's randomness; identities come from the operating system's generator."""

    def random(self) -> float:
        return random.random()

    def randbelow(self, bound: int) -> int:
        return random.randrange(bound)

    def token_bytes(self, size: int) -> bytes:
        return secrets.token_bytes(size)


def new_id(chance: Chance) -> str:
    """A fresh identity (topic, directory, incarnation): 16 bytes as 22 characters of URL-safe base64.

    Never starts with ``-``, which a shell would take for a flag (as Kafka's Uuid.randomUuid).
    """
    while True:
        identity = base64.urlsafe_b64encode(chance.token_bytes(16)).rstrip(b"=").decode()
        if not identity.startswith("-"):
            return identity
