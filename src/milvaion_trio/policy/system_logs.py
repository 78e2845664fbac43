"""The log entries that the worker writes itself, not the job (WIRE.md 3.3).

Separate because their keys and categories are Milvaion's, while the sentences are ours.
"""

from collections.abc import Mapping

from attrs import frozen

from milvaion_trio.model.error_text import error_parts
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.json_text import JsonValue
from milvaion_trio.model.messages import LogLevel

__all__ = [
    "SystemLog",
    "cancelled_log",
    "failure_log",
    "permanent_log",
    "probation_log",
    "redelivery_log",
    "retry_log",
    "seconds_text",
    "snooze_log",
    "timeout_log",
    "used_up_log",
    "waiting_log",
]


@frozen
class SystemLog:
    """A log entry without its time."""

    level: LogLevel
    message: str
    category: str
    data: Mapping[str, JsonValue] | None = None
    exception_type: str | None = None


def failure_log(error: str, error_type: str) -> SystemLog:
    """What the job's code raised or returned as its failure."""
    parts = error_parts(error)
    return _error(parts.message or error_type, error_type, parts.stack_trace, parts.inner)


def timeout_log(sentence: str, raised: str | None) -> SystemLog:
    """The time limit stopped the job; `raised` is what it raised on its way out."""
    return _error(sentence, "TimeoutError", None, raised)


def cancelled_log(sentence: str) -> SystemLog:
    """A cancel signal stopped the job or kept it from starting."""
    return SystemLog(LogLevel.WARNING, sentence, "UserCode")


def redelivery_log(reason: str, instance_id: str) -> SystemLog:
    """This run may not be the first one of its attempt."""
    data: dict[str, JsonValue] = {"Reason": reason, "WorkerId": instance_id}
    return SystemLog(LogLevel.WARNING, "Delivered again by the broker, running it from the start", "Redelivery", data)


def probation_log(deaths: int, deaths_allowed: int, instance_id: str) -> SystemLog:
    """The job may be what the worker's processes died of. Ours: the .NET worker counts no deaths."""
    data: dict[str, JsonValue] = {"Reason": "worker process died", "Deaths": deaths, "WorkerId": instance_id}
    sentence = (
        f"Runs alone: the worker process died {deaths} times while this job ran, so no other job is started beside it; "
        f"after {deaths_allowed} deaths it is not run again"
    )
    return SystemLog(LogLevel.WARNING, sentence, "Redelivery", data)


def retry_log(retry_count: int, max_retries: int, delay: float, now: Instant) -> SystemLog:
    """The job will be tried again."""
    data: dict[str, JsonValue] = {
        "RetryAttempt": retry_count,
        "MaxRetries": max_retries,
        "DelaySeconds": delay,
        "NextRetryTime": now.plus(delay).text,
    }
    sentence = f"Retry {retry_count} of {max_retries} starts in {seconds_text(delay)} s"
    return SystemLog(LogLevel.WARNING, sentence, "Retry", data)


def snooze_log(job_name: str, snoozes: int, delay: float, now: Instant) -> SystemLog:
    """The job wants to be run again later. Ours: the .NET worker has no snooze."""
    data: dict[str, JsonValue] = {"Snoozes": snoozes, "DelaySeconds": delay, "NextRetryTime": now.plus(delay).text}
    sentence = f"{job_name} asked to be run again in {seconds_text(delay)} s; this does not count as an attempt"
    return SystemLog(LogLevel.INFORMATION, sentence, "Retry", data)


def waiting_log(why: str, delay: float) -> SystemLog:
    """The job cannot begin now and waits. Ours: the .NET worker knows no keys."""
    data: dict[str, JsonValue] = {"Reason": why, "DelaySeconds": delay}
    sentence = f"Not started: {why}; tried again every few seconds, which does not count as an attempt"
    return SystemLog(LogLevel.INFORMATION, sentence, "Retry", data)


def used_up_log(job_name: str, max_retries: int) -> SystemLog:
    """The job failed and no retry is left."""
    data: dict[str, JsonValue] = {"TotalRetries": max_retries, "FinalStatus": "MovedToDLQ"}
    sentence = f"{job_name} failed and all {max_retries} retries are used up; it was moved to the dead letter queue"
    return SystemLog(LogLevel.ERROR, sentence, "Retry", data)


def permanent_log(sentence: str) -> SystemLog:
    """No retry can help."""
    return SystemLog(LogLevel.ERROR, sentence, "Retry", {"FailureType": "Permanent", "FinalStatus": "MovedToDLQ"})


def seconds_text(value: float) -> str:
    """To the millisecond and without trailing zeros; `:g` would write a month as 2.592e+06."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _error(message: str, error_type: str, stack_trace: str | None, inner: str | None) -> SystemLog:
    data: dict[str, JsonValue] = {"ExceptionType": error_type, "StackTrace": stack_trace, "InnerException": inner}
    return SystemLog(LogLevel.ERROR, message, "UserDefined", data, error_type)
