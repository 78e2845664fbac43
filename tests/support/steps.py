"""Cancel an operation once at each of its scheduler steps."""

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio
from tests.support.virtual import virtual

__all__ = ["Case", "cancelled_after", "passes", "play_with_every_step"]

Case: TypeAlias = Callable[[int], Awaitable[bool]]
"""Builds a fresh world, cancels the operation at that step, checks; `True` when the operation ended by itself."""

MOST_STEPS = 60
ORDERS = 8
"""Trio runs the tasks of one pass in random order: so often each step is played, to meet the orders that matter."""


def play_with_every_step(case: Case) -> None:
    """Play the case with the cancellation one step later each time, until the operation ends before it."""
    for step in range(MOST_STEPS):
        ended = [virtual(case, step) for _ in range(ORDERS)]
        if all(ended):
            assert step > 0, "the operation ended without a step at which it can be cancelled"
            return
    raise AssertionError(f"the operation did not end within {MOST_STEPS} steps")


async def cancelled_after(steps: int, operation: Callable[[], Awaitable[object]]) -> bool:
    """Run the operation, cancel it after so many scheduler passes, and see that no task is left behind.

    `True` when it ended by itself.
    """
    before = _unowned_tasks()
    scope = trio.CancelScope()

    async def run() -> None:
        with scope:
            await operation()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await passes(steps)
        scope.cancel()
    assert _unowned_tasks() == before
    return not scope.cancelled_caught


async def passes(count: int) -> None:
    """Let every task that can run take that many steps."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()


def _unowned_tasks() -> set[trio.lowlevel.Task]:
    """Nurseries own all other tasks, so that only system tasks can be left behind."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return {task for nursery in root.child_nurseries for task in nursery.child_tasks}
