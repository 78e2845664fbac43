"""Shutdown: how a worker is asked to leave, and how long each part of leaving may take.

Two requests: drain (take no more, let jobs end) and stop (cancel the jobs that still run). Three budgets: drain,
clean-up, flush; together they stay inside Kubernetes' 30 seconds (DESIGN.md 2).
The order of leaving itself is the nesting in `serve.py`.
"""

import math

import trio

from milvaion_trio.model.events import ShutdownBegan
from milvaion_trio.model.outcome import StopReason
from milvaion_trio.model.settings import ShutdownSettings
from milvaion_trio.runtime.observers import Observers
from milvaion_trio.runtime.run import Run
from milvaion_trio.runtime.runs import Runs

__all__ = ["Shutdown", "wind_down"]


class Shutdown:
    """The two requests and the budgets. Asking twice changes nothing."""

    def __init__(self, budgets: ShutdownSettings) -> None:
        self.budgets = budgets
        self._drain = trio.Event()
        self._stop = trio.Event()
        self._flush_until = math.inf

    @property
    def is_stopping(self) -> bool:
        """Whether running jobs are to be cancelled at once."""
        return self._stop.is_set()

    def drain(self) -> None:
        """Take no more jobs; let the running ones end within the drain budget."""
        self._drain.set()

    def stop(self) -> None:
        """Take no more jobs and cancel the running ones now."""
        self._drain.set()
        self._stop.set()

    async def requested(self) -> None:
        """Return when the worker was asked to leave. If cancelled, nothing changes."""
        await self._drain.wait()

    async def stop_requested(self) -> None:
        """Return when the running jobs are to be cancelled. If cancelled, nothing changes."""
        await self._stop.wait()

    def flush_scope(self) -> trio.CancelScope:
        """A scope that ends with the flush budget, which all parts that still have to send something share."""
        if math.isinf(self._flush_until):
            self._flush_until = trio.current_time() + self.budgets.flush_timeout
        return trio.CancelScope(deadline=self._flush_until)


async def wind_down(runs: Runs, shutdown: Shutdown, observers: Observers) -> tuple[Run, ...]:
    """Let running jobs end, then cancel them, then give back what ignores that; returns the latter.

    Takes at most `drain_timeout + cleanup_timeout`, and nothing of the first once `stop` was requested.
    If cancelled, jobs are left as they are; their messages return with the connection.
    """
    observers.tell(ShutdownBegan(shutdown.is_stopping, runs.running))
    with trio.move_on_after(shutdown.budgets.drain_timeout):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when_stopping, shutdown, nursery.cancel_scope)
            await runs.until_none_runs()
            nursery.cancel_scope.cancel()
    if runs.running:
        if not shutdown.is_stopping:
            observers.tell(ShutdownBegan(hard=True, running=runs.running))
        runs.stop_running(StopReason.SHUTDOWN, "the worker shuts down")
        with trio.move_on_after(shutdown.budgets.cleanup_timeout):
            await runs.until_none_runs()
    return runs.give_back_unstoppable()


async def _cancel_when_stopping(shutdown: Shutdown, scope: trio.CancelScope) -> None:
    await shutdown.stop_requested()
    scope.cancel()
