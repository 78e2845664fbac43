"""What the outcome of an attempt puts on the wire: the second decision in the life of a job (DESIGN.md 5.5 to 5.7).

The forms are Milvaion's (WIRE.md 3.1 and 3.5), the sentences our own.
The runtime adds what it alone knows: ids, times, and the message to copy.
"""

from functools import lru_cache
from typing import Final

from attrs import frozen

from milvaion_trio.model.headers import SNOOZE_LIMIT
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.occurrence import OccurrenceEvent, OccurrenceStatus, transition
from milvaion_trio.model.outcome import (
    Cancelled,
    Completed,
    Interrupted,
    Outcome,
    RetryRequested,
    Snoozed,
    TimedOut,
)
from milvaion_trio.policy.admission import CancelledBeforeStart, Refuse
from milvaion_trio.policy.backoff import bounded_delay
from milvaion_trio.policy.retry import Retry, RetryPolicy, next_retry
from milvaion_trio.policy.system_logs import (
    SystemLog,
    cancelled_log,
    failure_log,
    permanent_log,
    retry_log,
    seconds_text,
    snooze_log,
    timeout_log,
    used_up_log,
    waiting_log,
)

__all__ = [
    "Conclusion",
    "DeadLetterFacts",
    "Parked",
    "RetryCopy",
    "conclude",
    "conclude_cancelled_before_start",
    "conclude_parked",
    "conclude_refusal",
]

_STILL_RUNS: Final = "; it was told to stop and did not, so its code still runs and keeps its slot until it ends"
"""Said of what runs where nobody can stop it: in a thread, say, or as an asyncio task that swallows cancellation."""


@frozen
class Parked:
    """What the next worker must know of an attempt that is sent away unrun, as its identity is another one then."""

    count: int
    """How often it was sent away, this time included."""
    runs: int
    """How often it was started before, in spite of that."""
    deaths: int
    """How many processes of those who sent it away died of it."""


@frozen
class RetryCopy:
    """The message goes back to its queue after `delay` seconds, with these counts in its headers."""

    delay: float
    retry_count: int
    snoozes: int
    parked: Parked | None = None
    """Of a message that is sent away unrun."""


@frozen
class DeadLetterFacts:
    """What a dead letter says beyond its job and status (WIRE.md 3.5): two headers and the error."""

    retry_count: int
    max_retries: int
    exception: str


@frozen(kw_only=True)
class Conclusion:
    """Everything to publish for one attempt, in this order: logs, status, retry copy, dead letter. Then ack."""

    event: OccurrenceEvent
    status: OccurrenceStatus | None = None
    """The final status to report; `None`: the occurrence stays Running and nothing is reported."""
    result: str | None = None
    exception: str | None = None
    retry: RetryCopy | None = None
    dead_letter: DeadLetterFacts | None = None
    logs: tuple[SystemLog, ...] = ()
    requeue: bool = False
    """Nothing is published and nothing concluded: instead of an ack, the delivery goes back to its queue."""


def conclude(
    outcome: Outcome,
    *,
    job_name: str,
    retry_count: int,
    snoozes: int,
    policy: RetryPolicy,
    now: Instant,
    draw: float = 0.5,
) -> Conclusion:
    """Decide on one ended attempt, which came after `retry_count` retries and `snoozes` snoozes.

    `draw` in [0, 1) is the randomness of the retry delay; `now` only serves the log entry that names the next try.
    """
    match outcome:
        case Completed(result):
            return _without_result(job_name) if result is None else _returned(result)
        case Cancelled(reason, raised, still_runs):
            return _cancelled(f"{job_name} was cancelled: {reason}{_STILL_RUNS if still_runs else ''}", raised)
        case Interrupted():
            return Conclusion(event=OccurrenceEvent.INTERRUPT, status=_after(OccurrenceEvent.INTERRUPT), requeue=True)
        # Beyond the limit two attempts would have one identity, and the second would be lost as concluded.
        case Snoozed(delay) if snoozes < SNOOZE_LIMIT:
            return _snoozed(bounded_delay(delay), job_name, retry_count, snoozes + 1, now)
        case Snoozed(delay):
            error = f"{job_name} asked {SNOOZE_LIMIT} times to be run again later; from then on it counts as a failure"
            outcome = RetryRequested(delay, error, "Snooze")
    decision = next_retry(policy, outcome, retry_count, draw)
    if isinstance(outcome, TimedOut):
        elapsed_ms, limit = f"{outcome.elapsed * 1000:.0f}", seconds_text(outcome.limit)
        how, rest = ("given up", _STILL_RUNS) if outcome.still_runs else ("stopped", "")
        sentence = f"{job_name} was {how} after {elapsed_ms} ms, its limit is {limit} s{rest}"
        log = timeout_log(sentence, outcome.error)
        return (
            _retried(decision, log, policy, now) if isinstance(decision, Retry) else _timed_out(sentence, outcome, log)
        )
    log = failure_log(outcome.error, outcome.error_type)
    if isinstance(decision, Retry):
        return _retried(decision, log, policy, now)
    if decision.permanent:
        return _permanent(outcome.error, job_name, retry_count, log)
    return _used_up(outcome.error, job_name, policy.max_retries, log)


def conclude_refusal(refusal: Refuse) -> Conclusion:
    """A message that cannot run: Failed without a start time or duration, and a dead letter of a permanent failure."""
    sentence = f"The message was moved to the dead letter queue, since it cannot run here: {refusal.error}"
    return Conclusion(
        event=OccurrenceEvent.REFUSE,
        status=_after(OccurrenceEvent.REFUSE),
        exception=refusal.error,
        dead_letter=_permanent_letter(refusal.attempt.retry_count, refusal.error),
        logs=(permanent_log(sentence),),
    )


def conclude_cancelled_before_start(cancelled: CancelledBeforeStart) -> Conclusion:
    """A message whose occurrence was cancelled before: Cancelled, without a start time or duration."""
    return _cancelled(f"{cancelled.job.job_name_in_worker} was cancelled before it started: {cancelled.reason}", None)


@lru_cache(maxsize=1024)  # many jobs never return anything
def _without_result(job_name: str) -> Conclusion:
    return _returned(f"{job_name} finished without a return value")


def _returned(result: str) -> Conclusion:
    return Conclusion(event=OccurrenceEvent.RETURN, status=_RETURNED, result=result)


def _cancelled(sentence: str, raised: str | None) -> Conclusion:
    # The exception stays null: the API keeps the text it wrote itself when it was asked to cancel (WIRE.md 5.3).
    return Conclusion(
        event=OccurrenceEvent.CANCEL,
        status=_after(OccurrenceEvent.CANCEL),
        result=_with_raised(sentence, raised),
        logs=(cancelled_log(sentence),),
    )


def conclude_parked(delay: float, retry_count: int, snoozes: int, parked: Parked, why: str) -> Conclusion:
    """An attempt that cannot begin now and comes again: as after a snooze, but nobody is told that it ran."""
    logs = (waiting_log(why, delay),) if parked.count == 1 else ()
    return Conclusion(event=OccurrenceEvent.SNOOZE, retry=RetryCopy(delay, retry_count, snoozes + 1, parked), logs=logs)


def _snoozed(delay: float, job_name: str, retry_count: int, snoozes: int, now: Instant) -> Conclusion:
    return Conclusion(
        event=OccurrenceEvent.SNOOZE,
        status=_after(OccurrenceEvent.SNOOZE),
        retry=RetryCopy(delay, retry_count, snoozes),
        logs=(snooze_log(job_name, snoozes, delay, now),),
    )


def _retried(decision: Retry, log: SystemLog, policy: RetryPolicy, now: Instant) -> Conclusion:
    return Conclusion(
        event=OccurrenceEvent.RETRY,
        status=_after(OccurrenceEvent.RETRY),
        # Snoozes start at 0 again: with a new retry count the attempt's identity is new anyhow.
        retry=RetryCopy(decision.delay, decision.retry_count, 0),
        logs=(log, retry_log(decision.retry_count, policy.max_retries, decision.delay, now)),
    )


def _timed_out(sentence: str, outcome: TimedOut, log: SystemLog) -> Conclusion:
    # No dead letter, also when retries were tried: Milvaion has none for timeouts (WIRE.md 6).
    return Conclusion(
        event=OccurrenceEvent.TIME_OUT,
        status=_after(OccurrenceEvent.TIME_OUT),
        exception=_with_raised(sentence, outcome.error),
        logs=(log,),
    )


def _permanent(error: str, job_name: str, retry_count: int, log: SystemLog) -> Conclusion:
    sentence = f"{job_name} failed permanently; it was moved to the dead letter queue without a retry"
    return Conclusion(
        event=OccurrenceEvent.FAIL,
        status=_after(OccurrenceEvent.FAIL),
        exception=error,
        dead_letter=_permanent_letter(retry_count, error),
        logs=(log, permanent_log(sentence)),
    )


def _used_up(error: str, job_name: str, max_retries: int, log: SystemLog) -> Conclusion:
    exception = f"Max retries ({max_retries}) exceeded. Original exception: {error}"
    return Conclusion(
        event=OccurrenceEvent.FAIL,
        status=_after(OccurrenceEvent.FAIL),
        exception=exception,
        dead_letter=DeadLetterFacts(max_retries, max_retries, exception),
        logs=(log, used_up_log(job_name, max_retries)),
    )


def _permanent_letter(retry_count: int, error: str) -> DeadLetterFacts:
    # MaxRetries 0 is how .NET says that no retry was wanted; the prefix stands in the dead letter only (WIRE.md 3.5).
    return DeadLetterFacts(retry_count, 0, f"[PERMANENT FAILURE] {error}")


def _after(event: OccurrenceEvent) -> OccurrenceStatus | None:
    """What a running occurrence becomes; `None` when it stays running, which is not reported.

    One that never started becomes the same: `REFUSE` and `CANCEL` lead from Queued to where they lead from Running.
    """
    status = transition(OccurrenceStatus.RUNNING, event)
    return None if status is OccurrenceStatus.RUNNING else status


_RETURNED: Final = _after(OccurrenceEvent.RETURN)  # the way of nearly all jobs, and members of an enum hash slowly


def _with_raised(sentence: str, raised: str | None) -> str:
    return sentence if raised is None else f"{sentence}\nWhile it was stopping, the job raised:\n{raised}"
