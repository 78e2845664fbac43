"""What the outcome of an attempt puts on the wire: every row of the decision (WIRE.md 3.1, 3.3, 3.5, 3.8)."""

import math

import pytest
from attrs import evolve

from milvaion_trio.model.error_text import error_text
from milvaion_trio.model.headers import SNOOZE_LIMIT, AttemptKey
from milvaion_trio.model.ids import JobId, OccurrenceId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.messages import JobMessage, LogLevel
from milvaion_trio.model.occurrence import OccurrenceEvent, OccurrenceStatus
from milvaion_trio.model.outcome import (
    Cancelled,
    Completed,
    Failed,
    Interrupted,
    Outcome,
    RetryRequested,
    Snoozed,
    TimedOut,
)
from milvaion_trio.policy.lifecycle import (
    CancelledBeforeStart,
    Conclusion,
    DeadLetterFacts,
    Refuse,
    RetryCopy,
    SystemLog,
    conclude,
    conclude_cancelled_before_start,
    conclude_refusal,
)
from milvaion_trio.policy.retry import RetryPolicy

NOW = Instant.parse("2026-04-02T09:15:03.0000021Z")
POLICY = RetryPolicy(max_retries=3, base_delay=5)
TIMEOUTS_TOO = evolve(POLICY, retry_on_timeout=True)
ERROR = "Type: app.Boom\nMessage: no mail today\nStackTrace:   File x\n\nInner Exception:\nType: OSError\n"

OCCURRENCE = OccurrenceId("019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193")
JOB = JobMessage(id=JobId("019d4a10-3b5c-7e21-8f04-6a1d2c9be077"), job_name_in_worker="MissingJob")


def decide(
    outcome: Outcome, *, retry_count: int = 0, snoozes: int = 0, policy: RetryPolicy = POLICY, draw: float = 0.5
) -> Conclusion:
    return conclude(
        outcome,
        job_name="SendEmailJob",
        retry_count=retry_count,
        snoozes=snoozes,
        policy=policy,
        now=NOW,
        draw=draw,
    )


BOOM = SystemLog(
    LogLevel.ERROR,
    "no mail today",
    "UserDefined",
    {"ExceptionType": "Boom", "StackTrace": "  File x", "InnerException": "Type: OSError\n"},
    "Boom",
)


def retry_log(number: int, delay: float, next_time: str) -> SystemLog:
    return SystemLog(
        LogLevel.WARNING,
        f"Retry {number} of 3 starts in {delay:g} s",
        "Retry",
        {"RetryAttempt": number, "MaxRetries": 3, "DelaySeconds": delay, "NextRetryTime": next_time},
    )


LIMIT_PASSED = "SendEmailJob was stopped after 120003 ms, its limit is 120 s"


STILL_RUNS = "; it was told to stop and did not, so its code still runs and keeps its slot until it ends"
GIVEN_UP = f"SendEmailJob was given up after 125003 ms, its limit is 120 s{STILL_RUNS}"


def timeout_log(raised: str | None = None, sentence: str = LIMIT_PASSED) -> SystemLog:
    return SystemLog(
        LogLevel.ERROR,
        sentence,
        "UserDefined",
        {"ExceptionType": "TimeoutError", "StackTrace": None, "InnerException": raised},
        "TimeoutError",
    )


EXCEEDED = f"Max retries (3) exceeded. Original exception: {ERROR}"

ROWS = [
    pytest.param(
        decide(Completed("done")),
        Conclusion(event=OccurrenceEvent.RETURN, status=OccurrenceStatus.COMPLETED, result="done"),
        id="returned a value",
    ),
    pytest.param(
        decide(Completed("")),
        Conclusion(event=OccurrenceEvent.RETURN, status=OccurrenceStatus.COMPLETED, result=""),
        id="returned an empty text",
    ),
    pytest.param(
        decide(Completed()),
        Conclusion(
            event=OccurrenceEvent.RETURN,
            status=OccurrenceStatus.COMPLETED,
            result="SendEmailJob finished without a return value",
        ),
        id="returned nothing",
    ),
    pytest.param(
        decide(Failed(ERROR, "Boom")),
        Conclusion(
            event=OccurrenceEvent.RETRY,
            retry=RetryCopy(5, 1, 0),
            logs=(BOOM, retry_log(1, 5, "2026-04-02T09:15:08.0000021Z")),
        ),
        id="failed for the first time",
    ),
    pytest.param(
        decide(Failed(ERROR, "Boom"), retry_count=2, snoozes=7),
        Conclusion(
            event=OccurrenceEvent.RETRY,
            retry=RetryCopy(20, 3, 0),
            logs=(BOOM, retry_log(3, 20, "2026-04-02T09:15:23.0000021Z")),
        ),
        id="failed with one retry left",
    ),
    pytest.param(
        decide(Failed(ERROR, "Boom"), retry_count=3),
        Conclusion(
            event=OccurrenceEvent.FAIL,
            status=OccurrenceStatus.FAILED,
            exception=EXCEEDED,
            dead_letter=DeadLetterFacts(3, 3, EXCEEDED),
            logs=(
                BOOM,
                SystemLog(
                    LogLevel.ERROR,
                    "SendEmailJob failed and all 3 retries are used up; it was moved to the dead letter queue",
                    "Retry",
                    {"TotalRetries": 3, "FinalStatus": "MovedToDLQ"},
                ),
            ),
        ),
        id="failed with no retry left",
    ),
    pytest.param(
        decide(Failed(ERROR, "Boom", permanent=True), retry_count=2),
        Conclusion(
            event=OccurrenceEvent.FAIL,
            status=OccurrenceStatus.FAILED,
            exception=ERROR,
            dead_letter=DeadLetterFacts(2, 0, f"[PERMANENT FAILURE] {ERROR}"),
            logs=(
                BOOM,
                SystemLog(
                    LogLevel.ERROR,
                    "SendEmailJob failed permanently; it was moved to the dead letter queue without a retry",
                    "Retry",
                    {"FailureType": "Permanent", "FinalStatus": "MovedToDLQ"},
                ),
            ),
        ),
        id="failed for good with retries left",
    ),
    pytest.param(
        decide(RetryRequested(7.5, ERROR, "Boom")),
        Conclusion(
            event=OccurrenceEvent.RETRY,
            retry=RetryCopy(7.5, 1, 0),
            logs=(BOOM, retry_log(1, 7.5, "2026-04-02T09:15:10.5000021Z")),
        ),
        id="asked for another try",
    ),
    pytest.param(
        decide(Snoozed(90), retry_count=2, snoozes=4),
        Conclusion(
            event=OccurrenceEvent.SNOOZE,
            retry=RetryCopy(90, 2, 5),
            logs=(
                SystemLog(
                    LogLevel.INFORMATION,
                    "SendEmailJob asked to be run again in 90 s; this does not count as an attempt",
                    "Retry",
                    {"Snoozes": 5, "DelaySeconds": 90, "NextRetryTime": "2026-04-02T09:16:33.0000021Z"},
                ),
            ),
        ),
        id="snoozed",
    ),
    pytest.param(
        decide(Cancelled("enough")),
        Conclusion(
            event=OccurrenceEvent.CANCEL,
            status=OccurrenceStatus.CANCELLED,
            result="SendEmailJob was cancelled: enough",
            logs=(SystemLog(LogLevel.WARNING, "SendEmailJob was cancelled: enough", "UserCode"),),
        ),
        id="cancelled",
    ),
    pytest.param(
        decide(Cancelled("enough", ERROR), retry_count=1),
        Conclusion(
            event=OccurrenceEvent.CANCEL,
            status=OccurrenceStatus.CANCELLED,
            result=f"SendEmailJob was cancelled: enough\nWhile it was stopping, the job raised:\n{ERROR}",
            logs=(SystemLog(LogLevel.WARNING, "SendEmailJob was cancelled: enough", "UserCode"),),
        ),
        id="cancelled and raised on its way out",
    ),
    pytest.param(
        decide(Cancelled("enough", still_runs=True)),
        Conclusion(
            event=OccurrenceEvent.CANCEL,
            status=OccurrenceStatus.CANCELLED,
            result=f"SendEmailJob was cancelled: enough{STILL_RUNS}",
            logs=(SystemLog(LogLevel.WARNING, f"SendEmailJob was cancelled: enough{STILL_RUNS}", "UserCode"),),
        ),
        id="cancelled and did not stop",
    ),
    pytest.param(
        decide(TimedOut(120, 120.003)),
        Conclusion(
            event=OccurrenceEvent.TIME_OUT,
            status=OccurrenceStatus.TIMED_OUT,
            exception=LIMIT_PASSED,
            logs=(timeout_log(),),
        ),
        id="timed out",
    ),
    pytest.param(
        decide(TimedOut(120, 120.003, ERROR)),
        Conclusion(
            event=OccurrenceEvent.TIME_OUT,
            status=OccurrenceStatus.TIMED_OUT,
            exception=f"{LIMIT_PASSED}\nWhile it was stopping, the job raised:\n{ERROR}",
            logs=(timeout_log(ERROR),),
        ),
        id="timed out and raised on its way out",
    ),
    pytest.param(
        decide(TimedOut(120, 125.003, still_runs=True)),
        Conclusion(
            event=OccurrenceEvent.TIME_OUT,
            status=OccurrenceStatus.TIMED_OUT,
            exception=GIVEN_UP,
            logs=(timeout_log(sentence=GIVEN_UP),),
        ),
        id="timed out and did not stop",
    ),
    pytest.param(
        decide(TimedOut(120, 120.003), policy=TIMEOUTS_TOO),
        Conclusion(
            event=OccurrenceEvent.RETRY,
            retry=RetryCopy(5, 1, 0),
            logs=(timeout_log(), retry_log(1, 5, "2026-04-02T09:15:08.0000021Z")),
        ),
        id="timed out and the job wants that retried",
    ),
    pytest.param(
        decide(TimedOut(120, 120.003), policy=TIMEOUTS_TOO, retry_count=3),
        Conclusion(
            event=OccurrenceEvent.TIME_OUT,
            status=OccurrenceStatus.TIMED_OUT,
            exception=LIMIT_PASSED,
            logs=(timeout_log(),),
        ),
        id="timed out with no retry left",
    ),
    pytest.param(
        decide(Interrupted(), retry_count=2),
        Conclusion(event=OccurrenceEvent.INTERRUPT, requeue=True),
        id="interrupted by the shutdown",
    ),
]


@pytest.mark.parametrize(("actual", "expected"), ROWS)
def test_conclusion(actual: Conclusion, expected: Conclusion) -> None:
    assert actual == expected


def test_the_draw_moves_the_delay_within_the_jitter() -> None:
    policy = evolve(POLICY, jitter=0.5)

    low, high = (decide(Failed("x"), policy=policy, draw=draw).retry for draw in (0.0, 1.0))

    assert low == RetryCopy(2.5, 1, 0)
    assert high == RetryCopy(7.5, 1, 0)


def test_without_retries_the_first_failure_is_the_last() -> None:
    conclusion = decide(Failed("x"), policy=RetryPolicy(max_retries=0))

    assert conclusion.status is OccurrenceStatus.FAILED
    assert conclusion.dead_letter == DeadLetterFacts(0, 0, "Max retries (0) exceeded. Original exception: x")


def test_a_failure_without_the_form_of_an_exception_is_told_as_it_is() -> None:
    log = decide(Failed("the mailbox is full", "JobResult")).logs[0]

    assert log.message == "the mailbox is full"
    assert log.data == {"ExceptionType": "JobResult", "StackTrace": None, "InnerException": None}


def test_a_failure_without_any_text_is_told_by_its_type() -> None:
    assert decide(Failed("", "Boom")).logs[0].message == "Boom"


def test_the_parts_of_a_real_exception_reach_the_log() -> None:
    try:
        raise ValueError("bad") from KeyError("worse")
    except ValueError as error:
        log = decide(Failed(error_text(error), "ValueError")).logs[0]

    assert log.message == "bad"
    assert log.data is not None
    assert "test_lifecycle_conclude" in str(log.data["StackTrace"])
    assert str(log.data["InnerException"]).startswith("Type: KeyError\n")


@pytest.mark.parametrize("max_retries", [0, 3])
def test_a_snooze_needs_no_retries(max_retries: int) -> None:
    conclusion = decide(Snoozed(9), retry_count=max_retries, policy=RetryPolicy(max_retries=max_retries))

    assert conclusion.retry == RetryCopy(9, max_retries, 1)


def test_a_snooze_is_bounded_to_30_days_and_told_in_plain_digits() -> None:
    conclusion = decide(Snoozed(1e12))

    assert conclusion.retry == RetryCopy(30 * 86400, 0, 1)
    assert "in 2592000 s" in conclusion.logs[0].message


def test_snoozes_count_as_failures_once_their_number_can_no_longer_be_told_apart() -> None:
    """Headers are read up to the limit: one more would look like the attempt that was just concluded, and be lost."""
    last = decide(Snoozed(60), snoozes=SNOOZE_LIMIT - 1)
    beyond = decide(Snoozed(60), snoozes=SNOOZE_LIMIT)
    end = decide(Snoozed(60), snoozes=SNOOZE_LIMIT, retry_count=3)

    assert last.retry == RetryCopy(60, 0, SNOOZE_LIMIT)
    assert beyond.retry == RetryCopy(60, 1, 0)
    assert end.status is OccurrenceStatus.FAILED


@pytest.mark.parametrize("number", [math.inf, 1e300, 0.0])
def test_a_time_limit_of_any_size_has_a_sentence(number: float) -> None:
    assert decide(TimedOut(number, number)).exception


def test_a_message_that_cannot_run_ends_as_failed_with_a_dead_letter() -> None:
    refusal = Refuse(
        OCCURRENCE, AttemptKey(OCCURRENCE, "1000", 2, 0), JOB, "This worker knows no job called 'MissingJob'."
    )

    assert conclude_refusal(refusal) == Conclusion(
        event=OccurrenceEvent.REFUSE,
        status=OccurrenceStatus.FAILED,
        exception="This worker knows no job called 'MissingJob'.",
        dead_letter=DeadLetterFacts(2, 0, "[PERMANENT FAILURE] This worker knows no job called 'MissingJob'."),
        logs=(
            SystemLog(
                LogLevel.ERROR,
                "The message was moved to the dead letter queue, since it cannot run here: "
                "This worker knows no job called 'MissingJob'.",
                "Retry",
                {"FailureType": "Permanent", "FinalStatus": "MovedToDLQ"},
            ),
        ),
    )


def test_a_message_cancelled_before_its_start_ends_as_cancelled() -> None:
    cancelled = CancelledBeforeStart(OCCURRENCE, AttemptKey(OCCURRENCE, "1000", 0, 0), JOB, "enough")

    assert conclude_cancelled_before_start(cancelled) == Conclusion(
        event=OccurrenceEvent.CANCEL,
        status=OccurrenceStatus.CANCELLED,
        result="MissingJob was cancelled before it started: enough",
        logs=(SystemLog(LogLevel.WARNING, "MissingJob was cancelled before it started: enough", "UserCode"),),
    )
