"""What happens in a worker, told in a few words for a person who watches.

Separate from `milvaion_trio.logs`, which tells the same to machines that keep it: here the words are short, and a mood
says what they mean, for a terminal to colour.
"""

import enum
from collections.abc import Mapping

from attrs import frozen

from milvaion_trio.cli.outcome_line import WIDEST_ERROR, WIDEST_TEXT, cut, error_line, outcome_line
from milvaion_trio.model import events, topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import InvalidMessage
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.json_text import write
from milvaion_trio.model.messages import LogEntry, LogLevel
from milvaion_trio.model.occurrence import OccurrenceEvent, OccurrenceStatus
from milvaion_trio.model.wire import decode_logs

__all__ = ["Mood", "Remark", "logged", "remark"]

_OF_WORKER = "UserDefined"
_NOT_RAISED = ("TimeoutError", "JobResult")
"""Types of entries which, without a stack, tell of no exception: a time limit, a failure that was returned."""

SHOWN = ("UserCode", _OF_WORKER)
"""Categories of log entries: what jobs log, and what the worker says about what they did wrong (WIRE.md 3.3)."""


TOLD = ("Progress", "ExceptionType", "StackTrace", "InnerException")
"""Data of log entries whose message says it, or which fills a screen."""


class Mood(enum.Enum):
    """What a remark means."""

    PLAIN = "plain"
    GOOD = "good"
    WAITING = "waiting"
    BAD = "bad"
    QUIET = "quiet"


@frozen
class Remark:
    """One thing that happened."""

    text: str
    mood: Mood = Mood.PLAIN
    job_name: str | None = None
    """`None`: it is about the worker."""
    occurrence_id: OccurrenceId | None = None
    at: Instant | None = None
    """When, unless it is now."""


def remark(event: events.Event, drain_timeout: float | None = None) -> Remark | None:
    """The words for an event; `None` for those that need none where the broker is in the same process.

    `drain_timeout` is how long running jobs may go on when the worker leaves.
    """
    match event:
        case events.JobStarted(job_name, occurrence_id, attempt, run_number):
            which = [f"attempt {attempt}"] if attempt > 1 else []
            which += [f"run {run_number} of it"] if run_number > 1 else []
            return Remark(", ".join(["started", *which]), Mood.PLAIN, job_name, occurrence_id)
        case events.JobConcluded(job_name, occurrence_id, _, status, duration, text):
            words, mood = _CONCLUDED[status]
            # Why it ended otherwise stands in a log entry that came before this.
            told = f": {outcome_line(text)}" if text and status is OccurrenceStatus.COMPLETED else ""
            return Remark(f"{words} after {duration:.2f} s{told}", mood, job_name, occurrence_id)
        case events.JobRetried(job_name, occurrence_id, attempt, delay, OccurrenceEvent.SNOOZE.value):
            return Remark(f"snoozed, runs again in {delay:g} s", Mood.WAITING, job_name, occurrence_id)
        case events.JobRetried(job_name, occurrence_id, attempt, delay):
            words = f"attempt {attempt} failed, the next one starts in {delay:g} s"
            return Remark(words, Mood.WAITING, job_name, occurrence_id)
        case events.JobReturned(job_name, occurrence_id, _, why):
            return Remark(f"went back to its queue: {why}", Mood.WAITING, job_name, occurrence_id)
        case events.DeliveryRefused(queue, occurrence_id, why):
            return Remark(f"refused a message of {queue}: {outcome_line(why)}", Mood.BAD, None, occurrence_id)
        case events.LinkDown(link, broker, why, was_up=False):
            return Remark(f"no {link} connection to {broker}: {why}", Mood.BAD)
        case events.LinkDown(link, broker, why):
            return Remark(f"lost the {link} connection to {broker}: {why}", Mood.BAD)
        case events.ShutdownBegan(hard, 0):
            return Remark("leaving", Mood.QUIET)
        case events.ShutdownBegan(hard, running):
            jobs = "1 running job" if running == 1 else f"{running} running jobs"
            if hard:
                return Remark(f"leaving: {jobs} cancelled", Mood.WAITING)
            within = "" if drain_timeout is None else f" within {drain_timeout:g} s"
            words = f"leaving: {jobs} may end{within}; Ctrl-C again cancels {'it' if running == 1 else 'them'}"
            return Remark(words, Mood.WAITING)
        case events.JobLimitReached(jobs):
            words = "1 job has" if jobs == 1 else f"{jobs} jobs have"
            return Remark(f"{words} begun, as many as a process may run: no more are taken", Mood.WAITING)
        case events.WorkerStopped(_, ()):
            return Remark("stopped", Mood.QUIET)
        case events.WorkerStopped(_, unstoppable):
            return Remark(f"stopped, but these jobs ignore their cancellation: {', '.join(unstoppable)}", Mood.BAD)
        case _:
            return None


_CONCLUDED = {
    OccurrenceStatus.COMPLETED: ("completed", Mood.GOOD),
    OccurrenceStatus.FAILED: ("failed for good", Mood.BAD),
    OccurrenceStatus.CANCELLED: ("cancelled", Mood.BAD),
    OccurrenceStatus.TIMED_OUT: ("timed out", Mood.BAD),
}


def logged(publication: Publication) -> list[Remark]:
    """The log entries that a message carries, without those of the worker that an event tells better."""
    if publication.routing_key != topology.LOGS_QUEUE or publication.exchange:
        return []
    try:
        records = decode_logs(publication.message.body).logs
    except InvalidMessage:
        return []
    return [
        Remark(
            _entry(record.log),
            _MOODS.get(record.log.level, Mood.QUIET),
            None,
            record.occurrence_id,
            record.log.timestamp,
        )
        for record in records
        if record.log.category in SHOWN
    ]


_MOODS: Mapping[str, Mood] = {LogLevel.WARNING: Mood.WAITING, LogLevel.ERROR: Mood.BAD, LogLevel.CRITICAL: Mood.BAD}


def _entry(entry: LogEntry) -> str:
    data = entry.data or {}
    kind, stack, inner = entry.exception_type, _text(data.get("StackTrace")), _text(data.get("InnerException"))
    if entry.category == _OF_WORKER and kind is not None and not (stack is None and kind in _NOT_RAISED):
        return cut(error_line(kind, entry.message, stack, inner), WIDEST_ERROR)
    facts = "  ".join(f"{name}={_value(value)}" for name, value in data.items() if name not in TOLD)
    return cut(f"{outcome_line(entry.message)}  {facts}".rstrip(), WIDEST_TEXT)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _value(value: object) -> str:
    return value if isinstance(value, str) else write(value)  # type: ignore[arg-type] # it was read from JSON
