"""Functions of the user's that the SDK calls: what goes wrong in one is told with its name."""

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from .errors import OttlaError

P = ParamSpec("P")
T = TypeVar("T")


class CallbackFailed(OttlaError):
    """A function of the user's raised; the message says which, ``__cause__`` is what it raised. Where it was called
    behind the loop, as ``on_revoked`` and assignors are, the consumer has left its group."""

    code = "OTTLA-CALLBACK-FAILED"


def failed(what: str, error: Exception) -> CallbackFailed:
    """To be raised from ``error``."""
    return CallbackFailed(f"{what} raised {type(error).__name__}: {error}".rstrip(".") + ".")


def awaited(what: str, function: Callable[P, Any]) -> Callable[P, Awaitable[Any]]:
    """The function, or coroutine function, as one that is awaited and raises CallbackFailed."""

    async def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            answer = function(*args, **kwargs)
            return await answer if inspect.isawaitable(answer) else answer
        except Exception as error:
            raise failed(what, error) from error

    return call


def named(what: str, function: Callable[P, T]) -> Callable[P, T]:
    """The function as one that raises CallbackFailed. An OttlaError is what the user wants to raise."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except OttlaError:
            raise
        except Exception as error:
            raise failed(what, error) from error

    return call


def name_of(function: object) -> str:
    """As its author calls it."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))
