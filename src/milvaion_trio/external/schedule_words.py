"""A schedule of ours and the ends of its runs, in the words of an external scheduler.

Separate from their telling: what a server is shown of a schedule is decided here alone.
"""

from datetime import UTC, datetime
from typing import Final

from milvaion_trio.external.job import ExternalJob
from milvaion_trio.external.run import RunEnd, RunStart
from milvaion_trio.model import schedule as ours
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.messages import ExternalEvent
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.policy.cron_grammar import six_fields
from milvaion_trio.policy.scheduling import is_disabled, is_over, next_ticks

__all__ = ["end_of", "is_shown_active", "job_of", "start_of"]

IN_UTC: Final = frozenset({"UTC", "ETC/UTC"})


def job_of(entry: ours.Entry, now: ours.Millis) -> ExternalJob:
    """What the server is to show of a schedule. The next tick is that of now: it heeds that of a new job only."""
    schedule = entry.schedule
    next_tick = next(iter(next_ticks(entry, now, 1)), None)
    stopped = f" Stopped: {entry.progress.disabled_why}" if is_disabled(entry) else ""
    return ExternalJob(
        id=schedule.id,
        description=f"{schedule.job} of the workers {schedule.worker_id}, {_words(schedule.when)}.{stopped}",
        cron=_cron(schedule.when),
        next_run=None if next_tick is None else _date(next_tick),
        tags=(schedule.worker_id,),
        type_name=schedule.job,
        is_active=is_shown_active(entry),
    )


def is_shown_active(entry: ours.Entry) -> bool:
    """Whether it will tick again, as things are."""
    schedule = entry.schedule
    if entry.paused or is_disabled(entry):
        return False
    has_an_end = isinstance(schedule.when, ours.Once) or schedule.end is not None or schedule.max_runs is not None
    return not (has_an_end and is_over(entry))


def start_of(schedule_id: str, job: str | None, run: ours.OpenRun) -> RunStart:
    """The beginning of the run of a tick; the same from whoever leads."""
    occurrence_id = ours.occurrence_id_of(schedule_id, run.tick)
    return RunStart(
        job=ExternalJob(id=schedule_id, type_name=job),
        occurrence_id=occurrence_id,
        external_id=occurrence_id,
        scheduled_for=_date(run.tick),
        at=Instant.from_unix_ms(run.dispatched),
    )


def end_of(start: RunStart, end: ours.RunEnd) -> RunEnd:
    """How the run ended, by the clock of who saw it."""
    at = Instant.from_unix_ms(end.at)
    status = _status(end.status)
    is_cancelled = status is OccurrenceStatus.CANCELLED
    return RunEnd(
        event=ExternalEvent.CANCELLED if is_cancelled else ExternalEvent.COMPLETED,
        status=status,
        at=at,
        duration_ms=max(at.ticks - start.at.ticks, 0) // 10_000,
        result=end.error or "Cancelled" if is_cancelled else None,
        exception=None if is_cancelled else end.error or None,
    )


def _words(when: ours.Recurrence) -> str:
    match when:
        case ours.Cron(expression=expression, timezone=timezone):
            return f"cron {expression} in {timezone}"
        case ours.Every(seconds=seconds):
            return f"every {seconds:g} s"
        case ours.Once(at=at):
            return f"once, at {Instant.from_unix_ms(at).text}"


def _cron(when: ours.Recurrence) -> str | None:
    """Six fields, which the server takes for UTC; `None` where they would say something else."""
    if not isinstance(when, ours.Cron) or when.timezone.upper() not in IN_UTC:
        return None
    return six_fields(when.expression)  # not read once more, which takes most of a millisecond


def _status(status: OccurrenceStatus | int) -> OccurrenceStatus:
    """One that ends a run: who told it has judged that it is over."""
    try:
        known = OccurrenceStatus(status)
    except ValueError:
        return OccurrenceStatus.UNKNOWN
    return OccurrenceStatus.UNKNOWN if known in (OccurrenceStatus.QUEUED, OccurrenceStatus.RUNNING) else known


def _date(moment: ours.Millis) -> datetime:
    return datetime.fromtimestamp(moment / 1000, UTC)
