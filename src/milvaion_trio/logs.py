"""The default reader of events: the standard `logging`, one line per event, facts in the line.

ERROR means that a person must act; a change of state is said once.
"""

import logging

from milvaion_trio.model import events
from milvaion_trio.model.error_text import error_summary
from milvaion_trio.model.occurrence import OccurrenceStatus

__all__ = ["log_event"]

_log = logging.getLogger("milvaion_trio")

SUMMARY = 1000
"""Characters of an error in a log line; all of it is in the occurrence's own log."""


def log_event(event: events.Event) -> None:
    """Log one event of a worker."""
    match event:
        case events.JobStarted(job_name, occurrence_id, attempt, run_number):
            _log.debug("job started: %s %s, attempt %d, run %d", job_name, occurrence_id, attempt, run_number)
        case events.JobConcluded(job_name, occurrence_id, attempt, status, duration, text):
            level = logging.INFO if status is OccurrenceStatus.COMPLETED else logging.WARNING
            if _log.isEnabledFor(level):  # asked first: this comes for every job, and its words cost more than the rest
                _log.log(
                    level,
                    "job %s: %s %s, attempt %d, %.3f s%s",
                    status.name.lower(),
                    job_name,
                    occurrence_id,
                    attempt,
                    duration,
                    _summary(text),
                )
        case events.JobRetried(job_name, occurrence_id, attempt, delay, why, text):
            summary = _summary(text)
            _log.warning(
                "job %s: %s %s, attempt %d, next in %g s%s", why, job_name, occurrence_id, attempt, delay, summary
            )
        case events.JobReturned(job_name, occurrence_id, attempt, why):
            _log.warning("job given back: %s %s, attempt %d, because %s", job_name, occurrence_id, attempt, why)
        case events.DeliveryRefused(queue, occurrence_id, why):
            _log.error("message refused: queue %s, occurrence %s: %s", queue, occurrence_id or "unknown", why)
        case events.LinkUp(link, broker):
            _log.info("link up: %s to %s", link, broker)
        case events.LinkDown(link, broker, why, was_up=False):
            _log.warning("no link: %s to %s (%s), trying again", link, broker, why)
        case events.LinkDown(link, broker, why):
            _log.warning("link down: %s to %s (%s), connecting again", link, broker, why)
        case events.ReadinessChanged(True):
            _log.debug("ready")
        case events.ReadinessChanged(False, problems):  # each has its own line, from where it was noticed
            _log.debug("not ready: %s", "; ".join(f"{part}: {why}" for part, why in problems.items()))
        case events.WorkerReady(instance_id, ()):
            _log.warning(
                "worker ready: %s, but it has no jobs; decorate a function with @worker.job(), or call "
                "worker.discover(PACKAGE)",
                instance_id,
            )
        case events.WorkerReady(instance_id, queues):
            _log.info("worker ready: %s consumes %s", instance_id, ", ".join(queues))
        case events.ShutdownBegan(hard, running):
            _log.info(
                "shutdown: %s %s",
                "1 running job" if running == 1 else f"{running} running jobs",
                "cancelled" if hard else "may end",
            )
        case events.JobLimitReached(jobs):
            _log.warning(
                "job limit reached: jobs=%d (max_jobs_per_process); this worker leaves when they have ended, and does "
                "not start again by itself",
                jobs,
            )
        case events.WorkerStopped(instance_id, unstoppable_jobs):
            if unstoppable_jobs:
                _log.error(
                    "worker stopped: %s; these jobs ignored their cancellation, their messages went back: %s",
                    instance_id,
                    ", ".join(unstoppable_jobs),
                )
            else:
                _log.info("worker stopped: %s", instance_id)


def _summary(text: str | None) -> str:
    return f": {error_summary(text)[:SUMMARY]}" if text else ""
