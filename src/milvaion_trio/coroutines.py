"""Coroutine functions of asyncio that are started and ended as a whole: with every task they create.

asyncio's own loop lets tasks outlive whoever made them, waits for ever for one that swallows its cancellation, and ends
with a `SystemExit` that any of them raises. None of that may reach a worker.
"""

import asyncio
import ctypes
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import Context, ContextVar
from typing import Any, TypeVar

import trio

from milvaion_trio.bridge import Abandoned, TrioAsyncioExit, TrioExecutor, open_bridge

__all__ = ["Loop", "Started", "open_loop"]

T = TypeVar("T")

THREADS = 40
"""How many calls of `asyncio.to_thread` run at once on one loop; Trio allows as many."""

_family: ContextVar["set[asyncio.Task[Any]] | None"] = ContextVar("milvaion_trio_family", default=None)


class Started:
    """A coroutine function that was started, and every task that it has created."""

    def __init__(self, loop: Any, function: Callable[[], object], context: Context) -> None:
        self.was_cancelled: bool = False
        self._function = function
        self._value: object = None
        self._raised: BaseException | None = None
        self._family: set[asyncio.Task[Any]] = set()
        self._ended = trio.Event()
        context.run(_family.set, self._family)
        self._task: asyncio.Task[None] = loop.create_task(self._run(), context=context)
        self._task.add_done_callback(self._done)

    async def ended(self) -> None:
        """Return when the function has ended. If cancelled, nothing changes."""
        await self._ended.wait()

    def result(self) -> object:
        """What the function returned, or raise what it raised; `Abandoned` for `asyncio.CancelledError`."""
        if isinstance(self._raised, asyncio.CancelledError):
            raise Abandoned("the asyncio task was cancelled, and nobody told the job to stop") from self._raised
        if self._raised is not None:
            raise self._raised
        return self._value

    def cancel(self) -> None:
        """Cancel the function, once."""
        self._task.cancel()

    def cancel_rest(self) -> tuple[str, ...]:
        """Cancel the tasks that it has created and that still run; returns the names of their coroutines."""
        rest = [task for task in self._family if task is not self._task]
        for task in rest:
            task.cancel()
        return tuple(sorted(_shown(task) for task in rest))

    async def all_ended(self) -> None:
        """Return when none of its tasks runs, cancelling those that come up meanwhile. If cancelled, some may run."""
        cancelled: set[asyncio.Task[Any]] = set(self._family)
        while self._family:
            change = trio.Event()
            for task in self._family:
                if task not in cancelled:
                    task.cancel()
                    cancelled.add(task)
                task.add_done_callback(lambda _, change=change: change.set())  # type: ignore[misc]
            await change.wait()

    def when_all_ended(self, act: Callable[[], None]) -> None:
        """Call this, in Trio's thread, when none of its tasks runs any more."""

        def look(_: object) -> None:
            if not self._family:
                act()

        look(None)
        for task in self._family:
            task.add_done_callback(look)

    async def _run(self) -> None:
        try:
            self._value = await self._function()  # type: ignore[misc]  # a coroutine function, checked at start
        except BaseException as error:  # noqa: ASYNC103  # nothing may reach the loop, and nobody else waits for this
            self._raised = error

    def _done(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled():  # before it began
            self._raised = asyncio.CancelledError()
        self.was_cancelled = isinstance(self._raised, asyncio.CancelledError)
        self._ended.set()


class Loop:
    """An asyncio loop for code that is not ours."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop

    def start(self, function: Callable[[], object], context: Context) -> Started:
        """Start a coroutine function without arguments in this context."""
        return Started(self._loop, function, context)

    async def quieten(self, seconds: float) -> int:
        """Cancel all tasks; returns how many still ran after `seconds`: they are never run again.

        If cancelled, some may still run.
        """
        closing = self._loop.create_task(self._loop.shutdown_asyncgens())
        with trio.move_on_after(seconds):
            others = asyncio.all_tasks(self._loop) - {closing}
            for task in others:
                task.cancel()
            for task in (*others, closing):
                await _ended(task)
        stuck = asyncio.all_tasks(self._loop)
        for task in stuck:
            # Leaving the loop would wait for it for ever (LIBRARIES.md 1.5). Forgotten by asyncio, it must never be
            # collected: that would run it once more, without a loop.
            asyncio._unregister_task(task)
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))
        return len(stuck)


@asynccontextmanager
async def open_loop(on_error: Callable[[str], None]) -> AsyncIterator[Loop]:
    """A loop while the context is open; `on_error` is told what no asyncio code handled.

    If cancelled, the loop lives on until the context has been left.
    """
    async with open_bridge(on_error) as bridge:
        loop = bridge.loop
        loop.set_task_factory(_new_task)
        loop.set_default_executor(_LeavingExecutor(max_workers=THREADS))
        loop._main_loop_one = _without_exits(loop._main_loop_one, on_error)
        yield Loop(loop)


class _LeavingExecutor(TrioExecutor):  # type: ignore[misc]  # trio-asyncio has no types
    """Threads that are left behind when whoever waits for them is cancelled, as asyncio does it."""

    async def submit(self, function: Callable[..., T], *args: object) -> T:
        return await trio.to_thread.run_sync(function, *args, abandon_on_cancel=True, limiter=self._limiter)


def _new_task(loop: Any, coroutine: Coroutine[Any, Any, T], **options: Any) -> "asyncio.Task[T]":
    """A task that counts among those of the function that created it, however deep inside."""
    task = asyncio.Task(coroutine, loop=loop, **options)
    context: Context | None = options.get("context")
    family = _family.get() if context is None else context.get(_family)
    if family is not None:
        family.add(task)
        task.add_done_callback(family.discard)
    return task


def _without_exits(
    main_loop_one: Callable[..., Awaitable[None]], on_error: Callable[[str], None]
) -> Callable[..., Awaitable[None]]:
    """The step of the main loop, which nothing that a task raises may end; asyncio lets two exceptions do that."""

    async def step(*args: object, **options: object) -> None:
        try:
            await main_loop_one(*args, **options)
        except TrioAsyncioExit:
            raise
        except (SystemExit, KeyboardInterrupt) as error:
            on_error(f"a task raised {error!r}")

    return step


async def _ended(task: "asyncio.Task[Any]") -> None:
    """Return when the task has ended, however. If cancelled, nothing changes."""
    ended = trio.Event()
    if not task.done():
        task.add_done_callback(lambda _: ended.set())
        await ended.wait()


def _shown(task: "asyncio.Task[Any]") -> str:
    coroutine = task.get_coro()
    return str(getattr(coroutine, "__qualname__", coroutine)).replace("<locals>.", "")
