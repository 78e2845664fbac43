"""Cancel signals: from the signal port to the ledger and to the scope of the job they mean.

Redis, or whatever carries them, is advisory: when it fails, jobs go on, and this task subscribes again. What was sent
meanwhile is lost, so that the time is measured and told, also in the logs of the jobs it may have concerned.
"""

import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable

import trio
from attrs import define, field

from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.messages import Cancellation, LogLevel
from milvaion_trio.model.outcome import StopReason
from milvaion_trio.policy.backoff import reconnect_delays
from milvaion_trio.policy.ledger import Ledger
from milvaion_trio.policy.system_logs import seconds_text
from milvaion_trio.ports import Signals
from milvaion_trio.runtime.reporting import Reporter
from milvaion_trio.runtime.run import Phase, Run

__all__ = ["CancelListener"]

_log = logging.getLogger("milvaion_trio.runtime")


@define(eq=False)
class CancelListener:
    """Listens for cancel signals."""

    signals: Signals
    ledger: Ledger[Run]
    reporter: Reporter
    wall_clock: Callable[[], float]
    outages: int = field(default=0, init=False)
    """How often signals could not be heard any more, or not from the start."""
    _earlier_outages: float = field(default=0.0, init=False)
    _deaf_since: float | None = field(default=None, init=False)

    @property
    def deaf_seconds(self) -> float:
        """How long no signal could be heard, all outages together."""
        return self._earlier_outages + self._deaf_for(0.0)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Act on every signal while the context is open; it is entered once the first subscription was tried.

        A cancel for an occurrence that does not run here is remembered: its message may still come, or come again.
        """
        async with trio.open_nursery() as nursery:
            await nursery.start(self._listen)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()

    def run_ended(self, run: Run) -> None:
        """Say in its log if the code of a job ended while no signal could be heard."""
        if self._deaf_since is not None and run.phase is Phase.RUNNING:
            self._tell(run)

    async def _listen(self, task_status: trio.TaskStatus[None]) -> None:
        delays = reconnect_delays(iter(random.random, None))
        while True:
            try:
                async with self.signals.cancellations() as cancellations:
                    self._hears()
                    delays = reconnect_delays(iter(random.random, None))
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    async for cancellation in cancellations:
                        self._cancel(cancellation)
            except LinkLost as lost:
                self._is_deaf(lost)
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            await trio.sleep(next(delays))

    def _cancel(self, cancellation: Cancellation) -> None:
        self.ledger.cancel(cancellation.occurrence_id, cancellation.reason, self.wall_clock())
        for run in self.ledger.find(cancellation.occurrence_id):
            run.stop(StopReason.CANCELLED, cancellation.reason)

    # --- outages ----------------------------------------------------------------------------------------------------

    def _is_deaf(self, lost: LinkLost) -> None:
        if self._deaf_since is None:
            self._deaf_since = trio.current_time() - lost.silent_for
            self.outages += 1
            _log.warning("cancel signals cannot be heard: %s; jobs go on, listening again as soon as possible", lost)

    def _hears(self) -> None:
        if self._deaf_since is None:
            return
        running = [run for run in self.ledger if run.phase is Phase.RUNNING]
        for run in running:
            self._tell(run)
        seconds = self._deaf_for(0.0)
        self._earlier_outages += seconds
        self._deaf_since = None
        _log.warning(
            "cancel signals are heard again; what was sent in the last %.1f s was not heard (jobs running: %d)",
            seconds,
            len(running),
        )

    def _tell(self, run: Run) -> None:
        seconds = self._deaf_for(run.started_clock)
        text = f"For {seconds_text(seconds)} s of this run no cancel signal could be heard; one sent then had no effect"
        self.reporter.log(run, LogLevel.WARNING, text, {"DeafSeconds": round(seconds, 3)}, category="Cancellation")

    def _deaf_for(self, since: float) -> float:
        """Seconds of this outage, counted from a moment on Trio's clock at the earliest."""
        if self._deaf_since is None:
            return 0.0
        return trio.current_time() - max(since, self._deaf_since)
