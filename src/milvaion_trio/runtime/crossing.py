"""The way from asyncio code back to Trio, where there is one.

Separate because what a job calls (`enqueue`) must find the way without knowing how the job runs.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import ParamSpec, Protocol, TypeVar

__all__ = ["Crossing", "in_asyncio", "on_trio", "with_crossing"]

P = ParamSpec("P")
T = TypeVar("T")


class Crossing(Protocol):
    """Runs a Trio async function while asyncio code waits for it."""

    def __call__(self, function: Callable[..., Awaitable[T]], *args: object) -> Awaitable[T]:
        """To be awaited by asyncio code. If cancelled, so is the function."""


_crossing: ContextVar[Crossing | None] = ContextVar("milvaion_trio_crossing", default=None)


def in_asyncio() -> bool:
    """Whether the code that calls this runs in a job with `run="asyncio"`."""
    return _crossing.get() is not None


def with_crossing(crossing: Crossing) -> None:
    """Say in the current context that its code is asyncio's, and how it reaches Trio."""
    _crossing.set(crossing)


async def on_trio(function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Await an async function of Trio's, from Trio or from a job in asyncio. If cancelled, it is cancelled."""
    crossing = _crossing.get()
    if crossing is None:
        return await function(*args, **kwargs)

    async def crossed() -> T:
        _crossing.set(None)
        return await function(*args, **kwargs)

    return await crossing(crossed)
