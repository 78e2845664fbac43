"""Cancel signals: from the signal port to the ledger and to the scope of the job they mean.

Redis, or whatever carries them, is advisory: when it fails, jobs go on, and this task subscribes again.
"""

import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable

import trio
from attrs import frozen

from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.outcome import StopReason
from milvaion_trio.policy.backoff import reconnect_delays
from milvaion_trio.policy.ledger import Ledger
from milvaion_trio.ports import Signals
from milvaion_trio.runtime.run import Run

__all__ = ["CancelListener"]

_log = logging.getLogger("milvaion_trio.runtime")


@frozen
class CancelListener:
    """Listens for cancel signals."""

    signals: Signals
    ledger: Ledger[Run]
    wall_clock: Callable[[], float]

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

    async def _listen(self, task_status: trio.TaskStatus[None]) -> None:
        delays = None
        deaf_since = trio.current_time()
        while True:
            try:
                async with self.signals.cancellations() as cancellations:
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    if delays is not None:
                        _log.warning(
                            "cancel signals are heard again, deaf for %.1f s", trio.current_time() - deaf_since
                        )
                        delays = None
                    async for cancellation in cancellations:
                        self.ledger.cancel(cancellation.occurrence_id, cancellation.reason, self.wall_clock())
                        for run in self.ledger.find(cancellation.occurrence_id):
                            run.stop(StopReason.CANCELLED, cancellation.reason)
            except LinkLost as lost:
                if delays is None:
                    delays = reconnect_delays(iter(random.random, None))
                    deaf_since = trio.current_time()
                    _log.warning("cancel signals cannot be heard: %s; listening again as soon as possible", lost)
                delay = next(delays)
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await trio.sleep(delay)
