"""Jobs in threads. A thread cannot be interrupted, only asked; one that does not listen is left behind, counted.

Separate because cancellation means something else here: the job's scope is cancelled, the thread is told through
`JobContext.check_cancelled()`, and gets the clean-up time to end by itself before the run goes on without it.
"""

import contextlib
import inspect
from collections.abc import Callable
from typing import TypeVar

import trio

from milvaion_trio.runtime.grace import with_grace
from milvaion_trio.runtime.run import Run

__all__ = ["run_in_thread"]

T = TypeVar("T")


async def run_in_thread(run: Run, function: Callable[[], T], *, limiter: trio.CapacityLimiter, grace: float) -> T:
    """Run a plain function in a thread and return what it returns, or raise what it raises.

    If cancelled, the thread is told; when it has not ended after `grace` seconds it is abandoned: `Cancelled` is
    raised here, and `run.code_ended` is called once the function has really ended.
    """
    token = trio.lowlevel.current_trio_token()
    alive = True
    results: list[T] = []
    raised: BaseException | None = None

    def ended() -> None:
        nonlocal alive
        alive = False
        run.left_behind_no_more()

    def body() -> list[T]:  # which Trio lets pass, where it would refuse a coroutine in words about this function
        try:
            return [function()]
        finally:
            with contextlib.suppress(trio.RunFinishedError):  # the program has left; there is nobody to tell
                token.run_sync_soon(ended)

    async def called() -> None:
        nonlocal raised
        try:
            results.extend(await trio.to_thread.run_sync(body, abandon_on_cancel=True, limiter=limiter))
        except trio.Cancelled:
            raise
        except BaseException as error:
            raised = error  # raised again below, where no nursery wraps it

    def tell() -> None:
        run.tell()

    if not await with_grace(called, tell, grace):
        run.left_behind = alive
        await trio.lowlevel.checkpoint()  # the job's own cancellation, which was held back until now
    if raised is not None:
        raise raised
    value = results[0]
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError("a plain `def` returned a coroutine; write `async def`, and await it in there")
    return value
