"""Jobs in asyncio: on one loop of the worker, which is opened when the first such job runs.

Separate because cancellation means something else here: asyncio code is cancelled once, may swallow that, and may leave
tasks behind that nobody owns. What a job leaves is cancelled when it ends; what ignores that is left behind, counted.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import Context, copy_context
from typing import Protocol, TypeVar

import trio
from attrs import define, field

from milvaion_trio.model.messages import LogLevel
from milvaion_trio.runtime.context import LogSink
from milvaion_trio.runtime.grace import with_grace
from milvaion_trio.runtime.run import Run

__all__ = ["AsyncioCode", "AsyncioJobs", "AsyncioLoop", "OpenLoop"]

T = TypeVar("T")

LEAVING = 0.5
"""Seconds in which what still runs on the loop ends when the worker leaves."""

_log = logging.getLogger("milvaion_trio.runtime")


class AsyncioCode(Protocol):
    """An asyncio coroutine function that was started, and every task that it has created."""

    was_cancelled: bool
    """Whether it ended by `asyncio.CancelledError`."""

    async def ended(self) -> None:
        """Return when the function has ended. If cancelled, nothing changes."""

    def result(self) -> object:
        """What the function returned, or raise what it raised; never `asyncio.CancelledError`."""

    def cancel(self) -> None:
        """Cancel it, once."""

    def cancel_rest(self) -> tuple[str, ...]:
        """Cancel the tasks that it has left; returns what they are called."""

    async def all_ended(self) -> None:
        """Return when none of its tasks runs. If cancelled, nothing changes."""

    def when_all_ended(self, act: Callable[[], None]) -> None:
        """Call this in Trio's thread when none of its tasks runs any more."""


class AsyncioLoop(Protocol):
    """A loop that runs in this worker's thread."""

    def start(self, function: Callable[[], object], context: Context) -> AsyncioCode:
        """Start a coroutine function without arguments in this context."""

    async def quieten(self, seconds: float) -> int:
        """Cancel all tasks; returns how many still ran after `seconds`, which are never run again.

        If cancelled, some may still run.
        """


class OpenLoop(Protocol):
    """How a loop is made: by the bridge, which the runtime does not know."""

    def __call__(self, on_error: Callable[[str], None]) -> AbstractAsyncContextManager[AsyncioLoop]:
        """A loop while the context is open; `on_error` is told what no asyncio code handled."""


@define(eq=False)
class AsyncioJobs:
    """The jobs of one worker that run in asyncio."""

    _open_loop: OpenLoop
    _sink: LogSink
    _grace: float
    """Seconds that a job has to end after it was told to."""
    _nursery: trio.Nursery | None = field(default=None, init=False)
    _loop: AsyncioLoop | None = field(default=None, init=False)
    _opened: trio.Event | None = field(default=None, init=False)
    _left: trio.Event = field(factory=trio.Event, init=False)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """A loop may be needed while the context is open; leaving closes it, whatever still runs on it."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                yield
            finally:
                self._left.set()

    async def run(self, run: Run, function: Callable[[], object]) -> object:
        """Run a coroutine function and return what it returns, or raise what it raises.

        If cancelled, so is its task; when that has not ended in time it is left behind: `Cancelled` is raised here,
        and `run.code_ended` is called once the task, and all that it has created, have really ended.
        """
        loop = await self._needed()
        code = loop.start(function, copy_context())
        deadline = None

        def tell() -> None:
            nonlocal deadline
            deadline = trio.current_time() + self._grace
            run.tell()
            code.cancel()

        has_ended = await with_grace(code.ended, tell, self._grace)
        rest = code.cancel_rest()
        if rest or not has_ended:
            await self._end_rest(run, code, rest, trio.current_time() + self._grace if deadline is None else deadline)
        if not has_ended or (code.was_cancelled and run.told_to_stop):
            await trio.lowlevel.checkpoint()  # the job's own cancellation, which was held back until now
        return code.result()

    async def _end_rest(self, run: Run, code: AsyncioCode, rest: tuple[str, ...], deadline: float) -> None:
        with trio.CancelScope(shield=True, deadline=deadline) as patience:
            await code.all_ended()
        if rest:
            how = "cancelled; some have not ended" if patience.cancelled_caught else "cancelled"
            names = ", ".join(rest)
            message = f"The job ended and left {len(rest)} asyncio tasks running, which were {how}: {names}"
            self._sink.log(run, LogLevel.WARNING, message, None, category="UserDefined")
        if patience.cancelled_caught:
            run.left_behind = True
            code.when_all_ended(run.left_behind_no_more)

    async def _needed(self) -> AsyncioLoop:
        if self._opened is None:
            if self._nursery is None:
                raise AssertionError("asyncio jobs run while the worker serves")
            manager = self._open_loop(_tell)  # whatever is wrong with it, this job is told
            self._opened = trio.Event()
            self._nursery.start_soon(self._hold, manager)
        if self._loop is None:
            await self._opened.wait()
        if self._loop is None:
            raise AssertionError("the loop was closed while a job ran")
        return self._loop

    async def _hold(self, manager: AbstractAsyncContextManager[AsyncioLoop]) -> None:
        """Have the loop open until the worker leaves. Cancellation does not reach it, so that jobs can end on it."""
        if self._opened is None:
            raise AssertionError("somebody needs the loop")
        with trio.CancelScope(shield=True):
            try:
                async with manager as self._loop:
                    self._opened.set()
                    await self._left.wait()
                    await self._loop.quieten(LEAVING)
            finally:
                self._loop = None
                self._opened.set()


def _tell(problem: str) -> None:
    _log.error("asyncio: %s", problem)
