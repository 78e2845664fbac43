"""The ways in which a torture job ends, by the word in its data.

Separate from the worker program, so that a scenario adds a word here and nothing elsewhere.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import trio

from milvaion_trio import JobContext, PermanentFailure, RetryLater
from torture.deaths import DEATHS, live_beside
from torture.expectations import Act

__all__ = ["ENDINGS"]


async def ok(ctx: JobContext, act: Act) -> str:
    """Return. If cancelled, it ends."""
    return f"attempt {ctx.attempt}"


async def fail(ctx: JobContext, act: Act) -> str:
    """Raise, with the same words in every run, since copies of a dead letter must be equal. If cancelled, it ends."""
    if act.delay is not None:
        raise RetryLater(act.delay, f"attempt {ctx.attempt} fails")
    raise RuntimeError(f"attempt {ctx.attempt} fails")


async def permanent(ctx: JobContext, act: Act) -> str:
    """Fail for good. If cancelled, it ends."""
    raise PermanentFailure(f"attempt {ctx.attempt} fails for good")


async def until_stopped(ctx: JobContext, act: Act) -> str:
    """Sleep until the time limit or a cancel. If cancelled, it ends."""
    await trio.sleep_forever()
    raise AssertionError("nobody wakes it")


ENDINGS: Final[Mapping[str, Callable[[JobContext, Act], Awaitable[str]]]] = {
    "ok": ok,
    "fail": fail,
    "permanent": permanent,
    "time-out": until_stopped,
    "cancel": until_stopped,
    "neighbour": live_beside,
    **DEATHS,
}
