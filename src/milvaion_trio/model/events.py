"""What happens in a worker, as values: for logs, metrics, live views and tests.

The runtime emits them to plain callables and knows none of their readers.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from attrs import frozen

from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.occurrence import OccurrenceStatus

__all__ = [
    "DeliveryRefused",
    "Event",
    "JobConcluded",
    "JobLimitReached",
    "JobRetried",
    "JobReturned",
    "JobStarted",
    "LinkDown",
    "LinkUp",
    "Observer",
    "ReadinessChanged",
    "ShutdownBegan",
    "WorkerReady",
    "WorkerStopped",
]


@frozen
class WorkerReady:
    """The worker is registered and consumes."""

    instance_id: str
    queues: tuple[str, ...]


@frozen
class WorkerStopped:
    """Everything is reported or given back, the links are closed."""

    instance_id: str
    unstoppable_jobs: tuple[str, ...] = ()
    """Jobs that ignored their cancellation; their messages went back to the queue."""


@frozen
class ShutdownBegan:
    """The worker takes no more jobs. `hard`: running jobs are cancelled at once."""

    hard: bool
    running: int


@frozen
class JobLimitReached:
    """The process has begun as many jobs as it may (`max_jobs_per_process`). It leaves when these have ended."""

    jobs: int


@frozen
class LinkUp:
    """A connection to the broker was made."""

    link: str
    broker: str


@frozen
class LinkDown:
    """A connection is gone or could not be made; said once per outage, and again when the reason is another."""

    link: str
    broker: str
    why: str
    was_up: bool = True
    """Whether it was there until now. Not so at the start, and when an outage goes on for another reason."""


@frozen
class ReadinessChanged:
    """The worker takes jobs from now on, or something keeps it from that. What does has been told, or is, by itself."""

    is_ready: bool
    problems: Mapping[str, str]
    """By the part that is in trouble, as in `WorkerReadiness`; empty when it is ready."""


@frozen
class JobStarted:
    """A job's code is about to run."""

    job_name: str
    occurrence_id: OccurrenceId
    attempt: int
    run_number: int


@frozen
class JobConcluded:
    """An occurrence got its final status."""

    job_name: str
    occurrence_id: OccurrenceId
    attempt: int
    status: OccurrenceStatus
    duration: float
    """Seconds the last attempt ran."""
    text: str | None
    """The result or the error text."""


@frozen
class JobRetried:
    """An attempt failed or was snoozed; the next one waits in the broker."""

    job_name: str
    occurrence_id: OccurrenceId
    attempt: int
    delay: float
    why: str
    """The event of the occurrence: `retry` or `snooze`."""
    text: str | None = None
    """What went wrong: the kind of the error and its message."""


@frozen
class JobReturned:
    """The message went back without an outcome: a shutdown, no slot in time, or reports lost with their file."""

    job_name: str
    occurrence_id: OccurrenceId
    attempt: int
    why: str


@frozen
class DeliveryRefused:
    """A message that cannot run: Failed and dead-lettered, or quarantined when it has no usable ids."""

    queue: str
    occurrence_id: OccurrenceId | None
    why: str


Event: TypeAlias = (
    WorkerReady
    | WorkerStopped
    | ShutdownBegan
    | JobLimitReached
    | LinkUp
    | LinkDown
    | ReadinessChanged
    | JobStarted
    | JobConcluded
    | JobRetried
    | JobReturned
    | DeliveryRefused
)
"""Any of them."""

Observer: TypeAlias = Callable[[Event], None]
"""Called with each event, in the task where it happens, so it must return at once. One that raises gets no more."""
