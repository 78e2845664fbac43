"""Jobs in threads. A thread cannot be interrupted, only asked; one that does not listen is left behind, counted.

Separate because cancellation means something else here: the job's scope is cancelled, the thread is told through
`JobContext.check_cancelled()`, and gets the clean-up time to end by itself before the run goes on without it.
"""

import contextlib
from collections.abc import Callable
from typing import TypeVar

import trio

from milvaion_trio.runtime.run import Run

__all__ = ["run_in_thread"]

T = TypeVar("T")


async def run_in_thread(run: Run, function: Callable[[], T], *, limiter: trio.CapacityLimiter, grace: float) -> T:
    """Run a plain function in a thread and return what it returns, or raise what it raises.

    If cancelled, the thread is told; when it has not ended after `grace` seconds it is abandoned: `Cancelled` is
    raised here, and `run.thread_ended` is called in Trio's thread once the function has really ended.
    """
    token = trio.lowlevel.current_trio_token()
    alive = True

    def ended() -> None:
        nonlocal alive
        alive = False
        run.abandoned_thread = False  # it may have ended before anybody could wait for its end
        if run.thread_ended is not None:
            run.thread_ended()

    def body() -> T:
        try:
            return function()
        finally:
            with contextlib.suppress(trio.RunFinishedError):  # the program has left; there is nobody to tell
                token.run_sync_soon(ended)

    results: list[T] = []
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        with trio.CancelScope(shield=True) as patience:
            # The task ends with the nursery, later than this scope; all it may do then is set its deadline.
            nursery.start_soon(_tell_when_cancelled, run, patience, grace)  # noqa: ASYNC111
            try:
                results.append(await trio.to_thread.run_sync(body, abandon_on_cancel=True, limiter=limiter))
            except trio.Cancelled:
                raise
            except BaseException as error:
                raised = error
        # Shielded, as the function has ended: what it returned or raised counts, although the job was cancelled.
        nursery.cancel_scope.shield = True
        nursery.cancel_scope.cancel()
    if patience.cancelled_caught:
        run.abandoned_thread = alive
        await trio.lowlevel.checkpoint()  # the job's own cancellation, which was held back until now
    if raised is not None:
        raise raised  # out here, where the nursery does not wrap it
    return results[0]


async def _tell_when_cancelled(run: Run, patience: trio.CancelScope, grace: float) -> None:
    try:
        await trio.sleep_forever()
    finally:
        run.told_to_stop = True
        patience.deadline = trio.current_time() + grace
