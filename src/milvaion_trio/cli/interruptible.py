"""Running a command's asynchronous part so that Ctrl-C ends it in an orderly way.

Python's own way raises KeyboardInterrupt wherever the program happens to be, also while it closes what is open. Here
Ctrl-C is a cancellation: links are closed, which takes 3 s at most, and then the command ends as if interrupted.
"""

import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import trio

from milvaion_trio.model.exception_groups import sole

__all__ = ["run_interruptible"]

T = TypeVar("T")


def run_interruptible(function: Callable[[], Awaitable[T]]) -> T:
    """As `trio.run`; raises what the function raises, in no group, and KeyboardInterrupt when it was interrupted."""
    # Elsewhere nothing can be said about signals, and nobody is interrupted by one.
    is_main = threading.current_thread() is threading.main_thread()
    return trio.run(_interruptible if is_main else _as_it_is, function)


async def _as_it_is(function: Callable[[], Awaitable[T]]) -> T:
    return await function()


async def _interruptible(function: Callable[[], Awaitable[T]]) -> T:
    ended: list[T] = []
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_at_the_first, signals, nursery.cancel_scope)
                ended.append(await function())
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            error = sole(group)
            raise error from error.__cause__
    if not ended:
        raise KeyboardInterrupt
    return ended[0]


async def _cancel_at_the_first(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()
