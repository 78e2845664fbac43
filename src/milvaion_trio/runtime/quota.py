"""How many jobs one process may run (`max_jobs_per_process`), against what leaks.

Separate from the slots of `limits.py`, which come back. What is counted is the beginning of a job, so that a process
runs exactly as many; it leaves when they are settled, however long they take, and none is cut off for it.
"""

import trio
from attrs import define, field

from milvaion_trio.model.events import JobLimitReached
from milvaion_trio.runtime.observers import Observers
from milvaion_trio.runtime.readiness import JOB_LIMIT, Readiness
from milvaion_trio.runtime.runs import Runs
from milvaion_trio.runtime.shutdown import Shutdown

__all__ = ["Quota"]


@define(eq=False)
class Quota:
    """What is left of the jobs that this process may run."""

    _total: int
    """0 for no limit."""
    _readiness: Readiness
    _begun: int = field(default=0, init=False)
    _used_up: trio.Event = field(factory=trio.Event, init=False)

    @property
    def is_used_up(self) -> bool:
        """Whether no other job may begin."""
        return self._used_up.is_set()

    def take(self) -> None:
        """Count a job that begins; with the last one the intakes end."""
        self._begun += 1
        if self._begun == self._total:
            self._used_up.set()
            self._readiness.report(JOB_LIMIT, f"the process has begun {self._begun} jobs, as many as it may run")

    def try_take(self) -> bool:
        """Count a job that begins, unless no other may."""
        if self.is_used_up:
            return False
        self.take()
        return True

    async def leave(self, runs: Runs, shutdown: Shutdown, observers: Observers) -> None:
        """Ask the worker to leave once the jobs are used up and settled. If cancelled, nothing is asked for."""
        await self._used_up.wait()
        observers.tell(JobLimitReached(self._begun))
        await runs.until_all_settled()
        shutdown.drain()
