"""One call from asyncio into a Trio run that goes on elsewhere: its result, its error and its cancellation cross over.

The loop that asks may be in another thread or, where asyncio runs on the bridge, in the same one.
"""

import asyncio
import contextlib
import contextvars
import math
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import trio

from milvaion_trio.model.errors import NotPublished

__all__ = ["carry", "tell", "until_done"]

T = TypeVar("T")

PATIENCE = 2.0
"""Seconds that a cancelled call is waited for: milliseconds, unless a job blocks the thread."""


async def carry(token: trio.lowlevel.TrioToken, function: Callable[[], Awaitable[T]]) -> T:
    """Run an async function in that Trio run and return what it returns, or raise what it raises.

    It sees the context variables of the caller. Raises `NotPublished` when the run ends before the function does.
    If cancelled, the function is cancelled, and waited for; it may have done its work all the same.
    """
    call = _Call(token, function)
    try:
        token.run_sync_soon(call.start)
    except trio.RunFinishedError:
        raise _left() from None
    try:
        await asyncio.wait([call.ended])
    except GeneratorExit:  # the caller was thrown away, and can wait for nothing
        call.cancel()
        raise
    except BaseException:
        call.cancel()
        await until_done(call.ended, PATIENCE)  # noqa: ASYNC102  # asyncio: shields itself
        raise
    return call.result()


def tell(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[None]") -> None:
    """Mark a future of that loop as done, from any thread; without effect once the loop is closed."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(lambda: None if future.done() else future.set_result(None))


async def until_done(future: "asyncio.Future[Any]", seconds: float = math.inf) -> bool:
    """Wait for it in spite of being cancelled, at most so long, and say whether it is done.

    For who was cancelled and has something to end first; it raises its own `CancelledError` again afterwards.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    # AnyIO cancels again in every pass of the loop, which costs all of a processor, unless its own scope shields.
    anyio = sys.modules.get("anyio")
    with contextlib.nullcontext() if anyio is None else anyio.CancelScope(shield=True):
        while not future.done() and (left := deadline - loop.time()) > 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([future], timeout=None if math.isinf(left) else left)
    return future.done()


class _Call(Generic[T]):
    """One call: made by asyncio, run by Trio."""

    def __init__(self, token: trio.lowlevel.TrioToken, function: Callable[[], Awaitable[T]]) -> None:
        self._token = token
        self._function = function
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._scope = trio.CancelScope()
        self._values: list[T] = []
        self._error: BaseException | None = None

    def start(self) -> None:
        """Begin, in Trio's thread."""
        try:
            trio.lowlevel.spawn_system_task(self._run, context=self._context)
        except RuntimeError:  # the run is at its very end
            tell(self._loop, self.ended)

    def cancel(self) -> None:
        """Cancel it, from the loop's thread; the run may be over."""
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._scope.cancel)

    def result(self) -> T:
        """What the function returned; raises what it raised."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # which holds this frame, which holds it
        if not self._values:
            raise _left()
        return self._values[0]

    async def _run(self) -> None:
        try:
            with self._scope:
                self._values.append(await self._function())
        except trio.Cancelled:  # the run ends, not only this call
            raise
        except BaseException as error:  # noqa: ASYNC103  # a system task that raises would end the whole run
            self._error = error
        finally:
            tell(self._loop, self.ended)


def _left() -> NotPublished:
    return NotPublished("The worker or client in whose thread this was to run has left. Nothing is known to be done.")
