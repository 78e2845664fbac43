"""Rows of the history as JSON, and as words for tables."""

from milvaion_trio.model.error_text import error_summary
from milvaion_trio.model.history import FailedOccurrence, LogLine, OccurrenceRecord
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.occurrence import OccurrenceStatus, status_name

__all__ = [
    "brief",
    "duration_words",
    "failure_json",
    "failure_name",
    "line_json",
    "moment",
    "occurrence_json",
    "shown_status",
]

WIDEST = 100
"""Characters of an error or a result in a table."""


def shown_status(status: OccurrenceStatus | int) -> str:
    """Milvaion's name of a status; the number of one that has none."""
    return status_name(status) if isinstance(status, OccurrenceStatus) else str(status)


def failure_name(row: FailedOccurrence) -> str:
    """Milvaion's name of why it failed, e.g. `MaxRetriesExceeded`."""
    return row.failure_type.name.title().replace("_", "")


def moment(at: Instant | None) -> str:
    """A date for people, in whole seconds; "" for none."""
    return "" if at is None else f"{at.to_datetime():%Y-%m-%d %H:%M:%S}{'Z' if at.kind == 'Z' else at.kind}"


def duration_words(milliseconds: int | None) -> str:
    """How long, for people; "" where nobody said."""
    if milliseconds is None:
        return ""
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def brief(text: str | None) -> str:
    """An error or a result in one line that fits a table."""
    line = error_summary(text) if text else ""
    return line if len(line) <= WIDEST else f"{line[: WIDEST - 3]}..."


def occurrence_json(row: OccurrenceRecord) -> dict[str, object]:
    """All that is known of an occurrence but its log."""
    return {
        "occurrence_id": row.id,
        "job": row.job_name,
        "display_name": row.display_name,
        "job_id": row.job_id,
        "worker_id": row.worker_id,
        "instance_id": row.instance_id,
        "status": shown_status(row.status),
        "created_at": row.created_at.text,
        "execute_at": _text(row.execute_at),
        "start_time": _text(row.start_time),
        "end_time": _text(row.end_time),
        "duration_ms": row.duration_ms,
        "runs": row.runs,
        "last_heard": _text(row.last_heard),
        "result": row.result,
        "exception": row.exception,
        "job_data": row.job_data,
        "schedule": row.schedule_id,
        "tick": row.tick,
        "source": row.source,
        "external_id": row.external_id,
        "changes": [
            {"at": change.at.text, "from": shown_status(change.before), "to": shown_status(change.after)}
            for change in row.changes
        ],
    }


def line_json(line: LogLine) -> dict[str, object]:
    """A line of a log."""
    return {
        "at": line.at.text,
        "level": line.level,
        "message": line.message,
        "category": line.category,
        "exception_type": line.exception_type,
        "data": None if line.data is None else dict(line.data),
        "instance_id": line.instance_id,
    }


def failure_json(row: FailedOccurrence) -> dict[str, object]:
    """A dead letter."""
    return {
        "occurrence_id": row.occurrence_id,
        "job": row.job_name,
        "display_name": row.display_name,
        "job_id": row.job_id,
        "worker_id": row.worker_id,
        "failed_at": row.failed_at.text,
        "failure_type": failure_name(row),
        "retry_count": row.retry_count,
        "exception": row.exception,
        "job_data": row.job_data,
        "execute_at": _text(row.execute_at),
        "message": row.message.decode("utf-8", "backslashreplace"),
        "replayed_as": row.replayed_as,
    }


def _text(at: Instant | None) -> str | None:
    return None if at is None else at.text
