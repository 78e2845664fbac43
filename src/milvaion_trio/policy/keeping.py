"""What is kept beside an occurrence's row: the lines of its log, and its dead letter (WIRE.md 3.3, 4.5).

Separate from `policy.tracking`: these are made of one message each, and change nothing that is there.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from milvaion_trio.model.envelope import HeaderValue, Message
from milvaion_trio.model.headers import MAX_RETRIES, retry_count
from milvaion_trio.model.history import FailedOccurrence, FailureType, LogLine, OccurrenceRecord
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.instant import MINIMUM, Instant
from milvaion_trio.model.messages import DeadLetter, LogBatch
from milvaion_trio.model.occurrence import OccurrenceStatus

__all__ = ["MAX_EXCEPTION", "NO_EXCEPTION", "dead_letter_read", "lines_of"]

MAX_EXCEPTION: Final = 3000
"""Characters."""
NO_EXCEPTION: Final = "The dead letter does not say what went wrong."
DEFAULT_MAX_RETRIES: Final = 3
"""Where no header tells, as a Milvaion API has it."""

_S = OccurrenceStatus
_TYPES: Final[Mapping[int, FailureType]] = {
    _S.TIMED_OUT: FailureType.TIMEOUT,
    _S.CANCELLED: FailureType.CANCELLED,
    _S.UNKNOWN: FailureType.WORKER_CRASH,
}
_INVALID_DATA: Final = re.compile(r"\[PERMANENT FAILURE\] Type: (?:\w+\.)*InvalidJobData\s")


def lines_of(batch: LogBatch, body: bytes) -> list[LogLine]:
    """The lines of a log message, whose body it was read from.

    The same message, delivered again, gives the same keys. They are made from its bytes, since .NET workers send no
    message id.
    """
    message = hashlib.blake2b(body, digest_size=16).hexdigest()
    return [
        LogLine(
            key=f"{message}:{position:05}",
            occurrence_id=record.occurrence_id,
            at=record.log.timestamp,
            level=record.log.level,
            message=record.log.message,
            category=record.log.category,
            exception_type=record.log.exception_type,
            data=record.log.data,
            instance_id=record.worker_id or None,
        )
        for position, record in enumerate(batch.logs)
    ]


def dead_letter_read(
    row: OccurrenceRecord | None, occurrence_id: OccurrenceId, letter: DeadLetter, message: Message, now: Instant
) -> FailedOccurrence:
    """A dead letter was read, of the occurrence with this row; it does not change the row."""
    tried = retry_count(message.headers)
    execute_at = None if letter.execute_at.ticks == MINIMUM.ticks else letter.execute_at
    return FailedOccurrence(
        occurrence_id=occurrence_id,
        failed_at=now,
        job_id=letter.id,
        job_name=letter.job_name_in_worker,
        display_name=letter.display_name,
        worker_id=None if row is None else row.worker_id,
        job_data=letter.job_data or None,
        exception=_cut(letter.exception or NO_EXCEPTION),
        retry_count=tried,
        failure_type=_failure_type(letter, tried, _max_retries(message.headers)),
        execute_at=execute_at if row is None else row.start_time or row.created_at,
        message=message.body,
    )


def _failure_type(letter: DeadLetter, tried: int, max_retries: int) -> FailureType:
    if tried > 0 and tried >= max_retries:
        return FailureType.MAX_RETRIES_EXCEEDED
    if letter.status == _S.FAILED and "zombie" in (letter.exception or "").lower():
        return FailureType.ZOMBIE_DETECTION
    # Milvaion has a number for this and sets it nowhere (WIRE.md 4.5); our workers say it in their first line.
    is_of_data = _INVALID_DATA.match(letter.exception or "") is not None
    return _TYPES.get(letter.status, FailureType.INVALID_JOB_DATA if is_of_data else FailureType.UNHANDLED_EXCEPTION)


def _max_retries(headers: Mapping[str, HeaderValue]) -> int:
    value = headers.get(MAX_RETRIES)
    return value if isinstance(value, int) and not isinstance(value, bool) else DEFAULT_MAX_RETRIES


def _cut(exception: str) -> str:
    """At the end of a line, where there is one."""
    if len(exception) <= MAX_EXCEPTION:
        return exception
    cut = exception[:MAX_EXCEPTION]
    whole, newline, _ = cut.rpartition("\n")
    return whole if newline else cut
