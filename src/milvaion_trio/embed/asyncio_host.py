"""A worker in a host that runs asyncio: served by Trio in a thread of its own, awaited here.

What it raises is raised here, once, as itself; a cancellation here cancels it there and is held back until it has
left, as long as its budgets allow.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from milvaion_trio.embed.crossing import until_done
from milvaion_trio.embed.serving import Ready, Servable
from milvaion_trio.embed.trio_thread import Started, TrioThread
from milvaion_trio.runtime import os_signals

__all__ = ["serve_on_asyncio", "serving_on_asyncio"]

GRACE = 2.0
"""Seconds over the budgets: one that closing the lifespan has, and one for two threads to hear of each other."""


async def serve_on_asyncio(worker: Servable, handle_signals: bool | None, task_status: Any) -> None:
    """`Worker.serve` as asyncio code awaits it. Signals are handled only if asked, which works in the main thread.

    Raises what serving raises. If cancelled, the worker is cancelled and waited for, for `cleanup_timeout`,
    `flush_timeout` and two seconds at most.
    """
    await _serve_in(_thread_for(worker), worker, handle_signals, task_status)


@asynccontextmanager
async def serving_on_asyncio(worker: Servable, handle_signals: bool | None) -> AsyncIterator[None]:
    """`serving` in asyncio code. If cancelled, the worker is cancelled and waited for.

    Left normally it waits for the worker's three budgets and two seconds at most.
    """
    loop = asyncio.get_running_loop()
    host = asyncio.current_task()
    assert host is not None  # this is a coroutine
    ready: asyncio.Future[None] = loop.create_future()
    status = Ready(lambda: None if ready.done() else ready.set_result(None))
    thread, budgets = _thread_for(worker), worker.settings.shutdown
    served = loop.create_task(_caught(_serve_in(thread, worker, handle_signals, status)))
    is_inside = was_interrupted = False

    def interrupt(_: object) -> None:
        nonlocal was_interrupted
        if is_inside and _error_of(served) is not None:
            was_interrupted = True
            host.cancel("the worker failed")

    try:
        first: list[asyncio.Future[Any]] = [ready, served]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if (error := _error_of(served)) is not None:
            raise error
        is_inside = True
        served.add_done_callback(interrupt)
        yield
        is_inside = False
        worker.drain()
        limit = budgets.drain_timeout + budgets.cleanup_timeout + budgets.flush_timeout + GRACE
        await asyncio.wait([served], timeout=limit)
        if not served.done():
            thread.leave_behind()
            await asyncio.wait([served])
    except GeneratorExit:
        served.cancel()
        raise
    except BaseException:
        is_inside = False
        served.cancel()
        await until_done(served)
        if was_interrupted:
            host.uncancel()
        if (error := _error_of(served)) is not None:
            raise error  # noqa: ASYNC104, B904  # what was raised here is its context
        raise
    if was_interrupted:  # and the block took no notice
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        host.uncancel()
    if (error := _error_of(served)) is not None:
        raise error


def _thread_for(worker: Servable) -> TrioThread:
    budgets = worker.settings.shutdown

    async def serve(started: Started) -> None:
        await worker.serve(handle_signals=False, task_status=Ready(started))

    patience = budgets.cleanup_timeout + budgets.flush_timeout + GRACE
    return TrioThread(serve, name=f"worker {worker.settings.worker_id}", patience=patience)


async def _serve_in(thread: TrioThread, worker: Servable, handle_signals: bool | None, task_status: Any) -> None:
    numbers = os_signals.to_handle(True) if handle_signals else ()

    def drain() -> None:
        # Before it serves there is nothing to drain, and the signal must not be lost.
        thread.cancel() if worker.trio_token is None else worker.drain()

    with os_signals.counted(numbers, drain, thread.cancel):
        async with thread:
            task_status.started(worker)  # in this task, since AnyIO moves the task that calls it


async def _caught(serving: Coroutine[None, None, None]) -> BaseException | None:
    # A task that raises SystemExit ends the loop at once, and asyncio then tells of it in two more places.
    try:
        await serving
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: ASYNC103  # raised by whoever asks the task
        return error
    return None


def _error_of(task: "asyncio.Task[BaseException | None]") -> BaseException | None:
    return task.result() if task.done() and not task.cancelled() else None
