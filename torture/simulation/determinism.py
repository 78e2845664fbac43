"""Trio made to repeat itself: one number decides every order that it leaves open.

Separate because it is all that reaches into Trio's own parts: its scheduler shuffles what can run, and a scope that
is shielded outlives whoever cancels it, which a process that is killed does not.
"""

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
import trio._core._run as scheduler
from attrs import define, field
from trio.abc import Instrument
from trio.testing import MockClock

__all__ = ["Patience", "kill", "run_in_order_of"]

T = TypeVar("T")


def run_in_order_of(
    seed: int, async_fn: Callable[..., Awaitable[T]], *args: object, instruments: tuple[Instrument, ...] = ()
) -> T:
    """Run it in virtual time, with the order of tasks and all that draws from `random` decided by the seed."""
    flag = "_ALLOW_DETERMINISTIC_SCHEDULING"
    before = getattr(scheduler, flag), scheduler._r.getstate(), random.getstate()
    setattr(scheduler, flag, True)
    scheduler._r.seed(seed)
    random.seed(seed)
    try:
        return trio.run(async_fn, *args, clock=MockClock(autojump_threshold=0), instruments=instruments)
    finally:
        setattr(scheduler, flag, before[0])
        scheduler._r.setstate(before[1])
        random.setstate(before[2])


def kill(scope: trio.CancelScope) -> None:
    """Cancel it and everything within, shielded or not: as near as a task comes to a process that is killed."""
    scope.cancel()
    _unshield(scope._cancel_status)


def _unshield(status: object) -> None:
    # Neither the scopes within a scope nor what is shielded of them is to be had otherwise.
    for child in tuple(getattr(status, "_children", ())):
        child._scope.shield = False
        _unshield(child)


@define(eq=False)
class Patience(Instrument):
    """Calls `give_up` when the scheduler went round so often: tasks that wake each other for ever stop the clock."""

    rounds: int
    give_up: Callable[[], None] = field(default=lambda: None, init=False)
    _gone: int = field(default=0, init=False)

    def before_io_wait(self, timeout: float) -> None:
        """Count a round."""
        self._gone += 1
        if self._gone == self.rounds:
            self.give_up()
