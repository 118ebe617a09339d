"""One run of a simulated quorum, watched and with what the nemesis injects, in a world of its own."""

import gc
import traceback
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from ottla.raft.codec import ResponseVote
from ottla.raft.pysyncobj_core import PySyncObjCore
from ottla.raft.transport import RaftTransport, Received

from ..loop import PROCESS, SimulatedLoop
from ..network import host_of
from ..patches import simulated_world
from ..world import Outcome, Violation, _bury, _let_go_of_frames
from .hooks import watched
from .world import QuorumWorld, chance_of

CHECK_EVERY_S = 0.02
ECHO_VOTE_CHANCE = 0.7
ECHO_S = 1.5
RAISING_CHANCE = 0.02

Story = Callable[[QuorumWorld], Awaitable[Any]]


def simulate(seed: int, story: Story, size: int) -> tuple[Outcome, QuorumWorld]:
    """Run ``story`` in a world of its own. Never raises for what the story raises: it is in the outcome."""
    loop = SimulatedLoop(seed)
    world = QuorumWorld(loop, seed, size)
    result, error = None, None
    collecting = gc.isenabled()
    gc.disable()  # a collection runs finalizers at moments that no seed decides
    try:
        with ExitStack() as stack:
            stack.enter_context(simulated_world(loop, seed, world.skew_of))
            stack.enter_context(injections(world))
            stack.enter_context(watched(world.ledger))
            loop.every(CHECK_EVERY_S, lambda: _stop_when_broken(world))
            try:
                result = loop.run_until_complete(loop.spawn("", story(world)))
                _stop_when_broken(world)
            except Exception as raised:
                error = raised
                loop.trace.note("", "".join(traceback.format_exception(raised)))
                _let_go_of_frames(raised)
            if error is None and loop.problems:
                error = Violation(f"unheard: {loop.problems[:5]}")
            digest, now = loop.trace.digest, loop.now
            world.let_go()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # calls that a stopped process never began
                _bury(loop)
    finally:
        if collecting:
            gc.enable()
    return Outcome(seed, digest, now, loop.steps, result, error, loop), world


def _stop_when_broken(world: QuorumWorld) -> None:
    if world.ledger.broken:
        raise Violation(world.ledger.broken[0])


@contextmanager
def injections(world: QuorumWorld) -> Iterator[None]:
    """For a run: messages heard again late, as if the transport's guards were not there, and raising callbacks."""
    chance = chance_of(world, "injections")
    take, propose = RaftTransport.take_events, PySyncObjCore.propose

    def take_events(transport: RaftTransport) -> Any:
        events = take(transport)
        if world.echoing and host_of(PROCESS.get()) in world.echoing:
            for event in events:
                vote = isinstance(event, Received) and isinstance(event.message, ResponseVote)
                if isinstance(event, Received) and chance.random() < (ECHO_VOTE_CHANCE if vote else world.echo_chance):
                    world.effects["message heard twice"] += 1
                    delay_s = chance.uniform(0, ECHO_S * chance.choice((0.01, 1, 3)))
                    world.loop.call_later(delay_s, transport._happened, event)
        return events

    def proposed(core: Any, command: bytes, done: Any, *, no_op: bool = False) -> None:
        if world.raising and chance.random() < RAISING_CHANCE:
            propose(core, command, lambda outcome: _raise_after(world, done, outcome), no_op=no_op)
        else:
            propose(core, command, done, no_op=no_op)

    with (
        mock.patch.object(RaftTransport, "take_events", take_events),
        mock.patch.object(PySyncObjCore, "propose", proposed),
    ):
        yield


def _raise_after(world: QuorumWorld, done: Callable[[Any], None], outcome: Any) -> None:
    done(outcome)
    world.effects["raising callback"] += 1
    raise RuntimeError("a callback raised")
