"""What is kept beside an occurrence: lines of its log and its dead letter (WIRE.md 3.3, 4.5)."""

from typing import Any

import pytest

from milvaion_trio.model.envelope import HeaderValue, Message
from milvaion_trio.model.error_text import error_text
from milvaion_trio.model.errors import InvalidJobData
from milvaion_trio.model.history import FailedOccurrence, FailureType, LogLine, OccurrenceRecord
from milvaion_trio.model.ids import InstanceId, JobId, OccurrenceId, WorkerId
from milvaion_trio.model.instant import MINIMUM, Instant
from milvaion_trio.model.messages import DeadLetter, LogBatch, LogEntry, LogRecord
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.wire import Dialect, decode_logs, encode_logs
from milvaion_trio.policy.keeping import MAX_EXCEPTION, NO_EXCEPTION, dead_letter_read, lines_of

S = OccurrenceStatus
NOW = Instant.parse("2026-04-02T09:15:30Z")
ID = OccurrenceId("019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193")
JOB = JobId("019d4a10-3b5c-7e21-8f04-6a1d2c9be077")


def record(message: str, **fields: Any) -> LogRecord:
    entry = LogEntry(timestamp=NOW, level="Information", message=message, **fields)
    return LogRecord(occurrence_id=ID, worker_id=InstanceId("reports-1"), log=entry, message_timestamp=NOW)


def letter(status: int = S.FAILED, exception: str | None = "Type: E\n", **fields: Any) -> DeadLetter:
    told = {"display_name": "Report", "job_name_in_worker": "ReportJob", "job_data": "{}", "execute_at": NOW, **fields}
    return DeadLetter(id=JOB, status=status, exception=exception, **told)


def kept(
    told: DeadLetter, headers: dict[str, HeaderValue] | None = None, row: OccurrenceRecord | None = None
) -> FailedOccurrence:
    return dead_letter_read(row, ID, told, Message(body=b"{}", headers=headers or {}), NOW)


# --- logs -------------------------------------------------------------------------------------------------------------


def test_a_batch_gives_a_line_for_each_entry_in_order() -> None:
    [body] = encode_logs([record("one", data={"a": 1}, category="UserCode", exception_type="E"), record("two")], NOW)

    first, second = lines_of(decode_logs(body), body)

    assert first == LogLine(
        key=first.key,
        occurrence_id=ID,
        at=NOW,
        level="Information",
        message="one",
        category="UserCode",
        exception_type="E",
        data={"a": 1},
        instance_id=InstanceId("reports-1"),
    )
    assert (second.message, first.key < second.key) == ("two", True)


def test_keys_are_in_the_order_of_the_lines() -> None:
    batch = LogBatch(logs=tuple(record(str(number)) for number in range(200)))

    lines = lines_of(batch, b"body")

    assert [line.message for line in sorted(lines, key=lambda line: line.key)] == [line.message for line in lines]


def test_the_same_message_gives_the_same_keys_and_another_one_others() -> None:
    one, other = encode_logs([record("one"), record("two")], NOW, Dialect.V1_0)

    assert lines_of(decode_logs(one), one) == lines_of(decode_logs(one), one)
    assert lines_of(decode_logs(one), one)[0].key != lines_of(decode_logs(other), other)[0].key


# --- dead letters -----------------------------------------------------------------------------------------------------


def test_a_dead_letter_is_kept_with_what_the_occurrence_tells() -> None:
    row = OccurrenceRecord(id=ID, created_at=NOW, worker_id=WorkerId("reports"), start_time=NOW.plus(1))

    assert kept(letter(), {"x-retry-count": 3, "MaxRetries": 3}, row) == FailedOccurrence(
        occurrence_id=ID,
        failed_at=NOW,
        job_id=JOB,
        job_name="ReportJob",
        display_name="Report",
        worker_id=WorkerId("reports"),
        job_data="{}",
        exception="Type: E\n",
        retry_count=3,
        failure_type=FailureType.MAX_RETRIES_EXCEEDED,
        execute_at=NOW.plus(1),
        message=b"{}",
    )
    assert kept(letter(), row=OccurrenceRecord(id=ID, created_at=NOW.plus(-9))).execute_at == NOW.plus(-9)


def test_a_dead_letter_of_an_unknown_occurrence_is_kept_too() -> None:
    found = kept(letter(execute_at=MINIMUM, job_data=""))

    assert (found.worker_id, found.execute_at, found.job_data) == (None, None, None)
    assert kept(letter()).execute_at == NOW


@pytest.mark.parametrize(
    ("status", "exception", "headers", "failure_type"),
    [
        (S.FAILED, "e", {"x-retry-count": 3, "MaxRetries": 3}, FailureType.MAX_RETRIES_EXCEEDED),
        (S.TIMED_OUT, "e", {"x-retry-count": 4, "MaxRetries": 3}, FailureType.MAX_RETRIES_EXCEEDED),
        (S.FAILED, "e", {"x-retry-count": 3}, FailureType.MAX_RETRIES_EXCEEDED),
        (
            S.FAILED,
            f"[PERMANENT FAILURE] {error_text(InvalidJobData('ReportJob', ['$: x']))}",
            {},
            FailureType.INVALID_JOB_DATA,
        ),
        (S.FAILED, "Type: E\nMessage: Type: InvalidJobData ", {}, FailureType.UNHANDLED_EXCEPTION),
        (S.FAILED, "e", {"x-retry-count": 2}, FailureType.UNHANDLED_EXCEPTION),
        (S.FAILED, "e", {"x-retry-count": 0, "MaxRetries": 0}, FailureType.UNHANDLED_EXCEPTION),
        (S.FAILED, "e", {"x-retry-count": 1, "MaxRetries": 0}, FailureType.MAX_RETRIES_EXCEEDED),
        (S.FAILED, "e", {"x-retry-count": 1, "MaxRetries": "0"}, FailureType.UNHANDLED_EXCEPTION),
        (S.FAILED, "e", {"x-retry-count": 1, "MaxRetries": True}, FailureType.UNHANDLED_EXCEPTION),
        (S.FAILED, "e", {"x-retry-count": "many"}, FailureType.UNHANDLED_EXCEPTION),
        (S.TIMED_OUT, "e", {}, FailureType.TIMEOUT),
        (S.CANCELLED, "e", {}, FailureType.CANCELLED),
        (S.UNKNOWN, "e", {}, FailureType.WORKER_CRASH),
        (S.FAILED, "a ZOMBIE it was", {}, FailureType.ZOMBIE_DETECTION),
        (S.QUEUED, "zombie", {}, FailureType.UNHANDLED_EXCEPTION),
        (S.QUEUED, None, {}, FailureType.UNHANDLED_EXCEPTION),
        (99, "e", {}, FailureType.UNHANDLED_EXCEPTION),
    ],
)
def test_the_type_of_a_failure_is_the_first_that_fits(
    status: int, exception: str | None, headers: dict[str, HeaderValue], failure_type: FailureType
) -> None:
    assert kept(letter(status, exception), headers).failure_type is failure_type


def test_an_exception_is_cut_at_the_end_of_a_line() -> None:
    assert kept(letter(exception="")).exception == NO_EXCEPTION
    assert kept(letter(exception="x" * MAX_EXCEPTION)).exception == "x" * MAX_EXCEPTION
    assert kept(letter(exception="x" * 9999)).exception == "x" * MAX_EXCEPTION
    assert kept(letter(exception=("y" * 999 + "\n") * 5)).exception == ("y" * 999 + "\n") * 2 + "y" * 999
