"""Virtual time: Trio's mock clock, and a wall clock that follows it.

Separate because a job alone and a whole worker need the same one.
"""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
from trio.testing import MockClock

from milvaion_trio.model.instant import Instant

__all__ = ["VIRTUAL_START", "clock_ns", "instant_now", "virtual"]

T = TypeVar("T")

VIRTUAL_START = Instant.parse("2030-01-01T00:00:00Z")
"""What the wall clock shows at second 0 of a mock clock: a date that is easy to reckon with."""

_START_NS = int(VIRTUAL_START.to_datetime().timestamp()) * 1_000_000_000


def virtual(async_fn: Callable[..., Awaitable[T]], *args: object) -> T:
    """Like `trio.run`, but an hour takes no time: as soon as every task waits, the clock jumps to the next deadline.

    A job in a thread or process is not seen to be busy, so the clock jumps over its time limit. Run those in real time.
    """
    return trio.run(async_fn, *args, clock=MockClock(autojump_threshold=0))


def clock_ns() -> int:
    """The wall clock in nanoseconds: on a mock clock `VIRTUAL_START` plus its seconds, else the real one."""
    if isinstance(trio.lowlevel.current_clock(), MockClock):
        # Rounded to the wire's ticks of 100 ns, in which a sum of tenths of seconds comes out even.
        return _START_NS + round(trio.current_time() * 1e7) * 100
    return time.time_ns()


def instant_now() -> Instant:
    """The wall clock as a date of the wire."""
    return Instant.from_unix_ns(clock_ns())
