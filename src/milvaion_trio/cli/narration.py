"""What happens in a worker, told in a few words for a person who watches.

Separate from `milvaion_trio.logs`, which tells the same to machines that keep it: here the words are short, and a mood
says what they mean, for a terminal to colour.
"""

import enum
from collections.abc import Mapping

from attrs import frozen

from milvaion_trio.model import events, topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import InvalidMessage
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.json_text import write
from milvaion_trio.model.messages import LogEntry, LogLevel
from milvaion_trio.model.occurrence import OccurrenceEvent, OccurrenceStatus
from milvaion_trio.model.wire import decode_logs

__all__ = ["Mood", "Remark", "logged", "outcome_line", "remark"]

WIDEST_TEXT = 200
"""Characters of a result, an error or a log entry's data that are shown; all of it is in the messages."""


SHOWN = ("UserCode", "UserDefined")
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


def remark(event: events.Event) -> Remark | None:
    """The words for an event; `None` for those that need none where the broker is in the same process."""
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
        case events.LinkDown(link, broker, why):
            return Remark(f"lost the {link} connection to {broker}: {why}", Mood.BAD)
        case events.ShutdownBegan(hard, 0):
            return Remark("leaving", Mood.QUIET)
        case events.ShutdownBegan(hard, running):
            jobs = "1 running job" if running == 1 else f"{running} running jobs"
            return Remark(f"leaving: {jobs} {'cancelled' if hard else 'may end'}", Mood.WAITING)
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
        Remark(_entry(record.log), _MOODS.get(record.log.level, Mood.QUIET), None, record.occurrence_id)
        for record in records
        if record.log.category in SHOWN
    ]


_MOODS: Mapping[str, Mood] = {LogLevel.WARNING: Mood.WAITING, LogLevel.ERROR: Mood.BAD, LogLevel.CRITICAL: Mood.BAD}


def _entry(entry: LogEntry) -> str:
    facts = {name: value for name, value in (entry.data or {}).items() if name not in TOLD}
    data = "  ".join(f"{name}={_value(value)}" for name, value in facts.items())
    return f"{outcome_line(entry.message)}  {data}".rstrip()[:WIDEST_TEXT]


def _value(value: object) -> str:
    return value if isinstance(value, str) else write(value)  # type: ignore[arg-type] # it was read from JSON


def outcome_line(text: str) -> str:
    """The one line of a result or an error text that says most."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Error texts have the form of WIRE.md 3.1, whose second line says what happened, or begins to list it.
    first = next((index for index, line in enumerate(lines) if line.startswith("Message: ")), 0)
    found = lines[first].removeprefix("Message: ") if lines else ""
    if found.endswith(":"):
        found += " " + "; ".join(line.removeprefix("- ") for line in lines[first + 1 :] if line.startswith("- "))
    return found[:WIDEST_TEXT]
