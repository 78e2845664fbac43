"""What an APScheduler 3 does, told as jobs and runs: it calls listeners, in whichever of its threads it happens.

Separate because only this module knows its events, and that they come in any order: a short run has ended before its
submission is told, and a job that runs once is removed before it runs.
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from attrs import define, field

from milvaion_trio.external.cron_text import cron_text
from milvaion_trio.external.job import LONGEST_ID, ExternalJob
from milvaion_trio.external.run import Outcome, TrackedRun, completed, missed, outcome_of

if TYPE_CHECKING:
    from milvaion_trio.external.scheduler import ExternalScheduler

__all__ = ["Watch", "Watchable"]

# `apscheduler.events`, which is not imported: this package does not depend on it, and its typing says nothing.
ADDED: Final = 2**9
REMOVED: Final = 2**10
MODIFIED: Final = 2**11
EXECUTED: Final = 2**12
ERROR: Final = 2**13
MISSED: Final = 2**14
SUBMITTED: Final = 2**15
MAX_INSTANCES: Final = 2**16
HEARD: Final = ADDED | REMOVED | MODIFIED | EXECUTED | ERROR | MISSED | SUBMITTED | MAX_INSTANCES

MOST_EARLY: Final = 1000
"""Runs that ended before their submission was told: it follows within the same pass of the scheduler."""


class Watchable(Protocol):
    """What is needed of an APScheduler 3: any of its schedulers."""

    def add_listener(self, callback: Callable[[Any], object], mask: int = ...) -> object:
        """Call it with every event of these kinds."""

    def get_jobs(self) -> list[Any]:
        """All its jobs."""

    def get_job(self, job_id: str, jobstore: str | None = ...) -> Any:
        """One of them, if it is there."""


_Key = tuple[str, str, datetime]
"""Job store, job and scheduled time."""


@define(eq=False)
class Watch:
    """Listens to one scheduler."""

    _milvaion: "ExternalScheduler"
    _scheduler: Watchable
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _running: dict[_Key, TrackedRun] = field(factory=dict, init=False)
    _early: dict[_Key, None] = field(factory=dict, init=False)

    def begin(self) -> None:
        """Tell the jobs that are there, and from now on what happens."""
        self._scheduler.add_listener(self._heard, HEARD)
        for job in self._scheduler.get_jobs():
            self._tell(job)

    def _heard(self, event: Any) -> None:
        if event.code in (ADDED, MODIFIED):
            job = self._scheduler.get_job(event.job_id, event.jobstore)
            if job is not None:
                self._tell(job)
        elif event.code == REMOVED:
            self._milvaion.unregister(event.job_id)
        elif event.code == SUBMITTED:
            for moment in event.scheduled_run_times:
                self._submitted((event.jobstore, event.job_id, moment))
        elif event.code == MAX_INSTANCES:
            why = "Not run: as many runs of it as may go on at a time went on already"
            for moment in event.scheduled_run_times:
                self._milvaion.missed(event.job_id, scheduled_for=moment, why=why)
        else:
            self._ended((event.jobstore, event.job_id, event.scheduled_run_time), _outcome(event))

    def _submitted(self, key: _Key) -> None:
        with self._lock:
            if key in self._early:
                del self._early[key]
            else:
                self._running[key] = self._begun(key)

    def _ended(self, key: _Key, outcome: Outcome) -> None:
        with self._lock:
            run = self._running.pop(key, None)
            if run is None:
                run = self._begun(key)
                self._early[key] = None
                if len(self._early) > MOST_EARLY:
                    del self._early[next(iter(self._early))]
        run.end(outcome)

    def _begun(self, key: _Key) -> TrackedRun:
        _, job_id, moment = key
        run_id = f"{job_id[: LONGEST_ID - 40]}@{moment.isoformat()}"
        return self._milvaion.begin(ExternalJob(id=job_id), scheduled_for=moment, run_id=run_id)

    def _tell(self, job: Any) -> None:
        trigger = job.trigger
        self._milvaion.register(
            job.id,
            name=job.name,
            description=str(trigger),
            cron=cron_text(trigger, datetime.now(UTC)) if hasattr(trigger, "fields") else None,
            next_run=getattr(job, "next_run_time", None),  # of a scheduler that has not started, jobs have none
            type_name=job.func_ref,
        )


def _outcome(event: Any) -> Outcome:
    if event.code == MISSED:
        return missed("Missed: its time was over by more than its misfire_grace_time")
    if event.code == ERROR:
        return outcome_of(event.exception)
    return completed(event.retval)
