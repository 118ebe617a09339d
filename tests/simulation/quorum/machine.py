"""The state machine that the simulated quorum replicates: a few registers, and each request's result. Pure."""

import hashlib
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from ottla.raft.snapshot_keeper import Captured

Kind = Literal["write", "swap", "poison"]
Request = tuple[int, int]
"""(client, sequence): one wish of a client, however often it is proposed."""


class Command(msgspec.Struct, frozen=True, array_like=True):
    """One attempt at one request. ``value`` is unique; ``expected`` is a swap's; "poison" raises wherever applied."""

    client: int
    sequence: int
    attempt: int
    kind: Kind
    key: int
    value: int
    expected: int | None = None

    @property
    def request(self) -> Request:
        return self.client, self.sequence

    @property
    def name(self) -> tuple[int, int, int]:
        """Of this attempt, unique in a run."""
        return self.client, self.sequence, self.attempt


class Result(msgspec.Struct, frozen=True, array_like=True):
    """``index``: where the request had its effect; ``held``: what the register held before it."""

    index: int
    done: bool
    held: int | None


class _State(msgspec.Struct, array_like=True):
    index: int = 0  # of the last command that was applied
    digest: bytes = b""  # of all commands up to there, chained
    registers: dict[int, int] = msgspec.field(default_factory=dict)
    results: dict[int, tuple[int, Result]] = msgspec.field(default_factory=dict)  # per client, of its last request


class Machine:
    """``restored(index, digest)`` is told of each state that a snapshot brings."""

    def __init__(self, restored: Callable[[int, bytes], None] = lambda index, digest: None) -> None:
        self._state = _State()
        self._restored = restored

    @property
    def index(self) -> int:
        return self._state.index

    @property
    def digest(self) -> bytes:
        return self._state.digest

    def get(self, key: int) -> int | None:
        """What a register holds."""
        return self._state.registers.get(key)

    def apply(self, index: int, data: bytes) -> tuple[bytes, bool]:
        """The result as bytes, and whether the request had its effect here and not before. Raises for poison."""
        state = self._state
        command = msgspec.msgpack.decode(data, type=Command)
        state.index = index
        state.digest = hashlib.blake2b(state.digest + b"%d " % index + data, digest_size=16).digest()
        if command.kind == "poison":
            raise ValueError("poison")
        sequence, result = state.results.get(command.client, (-1, None))
        if result is not None and sequence >= command.sequence:
            return msgspec.msgpack.encode(result), False
        held = state.registers.get(command.key)
        done = command.kind == "write" or held == command.expected
        if done:
            state.registers[command.key] = command.value
        result = Result(index, done, held)
        state.results[command.client] = command.sequence, result
        return msgspec.msgpack.encode(result), True

    def capture(self) -> Captured:
        """StateHooks.snapshot."""
        data = msgspec.msgpack.encode(self._state)
        return Captured(1, lambda: data)

    def restore(self, data: bytes) -> Callable[[], None]:
        """StateHooks.restore."""
        try:
            state: Any = msgspec.msgpack.decode(data, type=_State)
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from error

        def put() -> None:
            self._state = state
            self._restored(state.index, state.digest)

        return put
