"""The rows of the played API: jobs, occurrences, failed occurrences, and the running set that stands beside them."""

import enum
from typing import Any

from attrs import define, field, frozen
from tests.support.api_model.messages import Status
from tests.support.api_model.net_values import NetDate
from tests.support.api_model.wire_message import WireMessage, message_id

__all__ = [
    "ENDS",
    "FINAL",
    "Arrival",
    "Database",
    "FailedOccurrence",
    "FailureType",
    "Job",
    "LogRow",
    "Occurrence",
    "OccurrenceStatus",
    "StatusChange",
]


class OccurrenceStatus(enum.IntEnum):
    """WIRE.md 4.2."""

    QUEUED = 0
    RUNNING = 1
    COMPLETED = 2
    FAILED = 3
    CANCELLED = 4
    TIMED_OUT = 5
    UNKNOWN = 6
    SKIPPED = 7


_S = OccurrenceStatus

FINAL = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.TIMED_OUT, _S.UNKNOWN, _S.SKIPPED})
"""What takes a job out of the running set."""

ENDS = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.TIMED_OUT})
"""What no Queued or Running may follow; also all that a worker may report as an end."""


class FailureType(enum.IntEnum):
    """Why there is a failed occurrence (WIRE.md 4.5)."""

    UNKNOWN = 0
    MAX_RETRIES_EXCEEDED = 1
    TIMEOUT = 2
    WORKER_CRASH = 3
    INVALID_JOB_DATA = 4
    EXTERNAL_DEPENDENCY_FAILURE = 5
    UNHANDLED_EXCEPTION = 6
    CANCELLED = 7
    ZOMBIE_DETECTION = 8


@define(eq=False, kw_only=True)
class Job:
    """A scheduled job."""

    id: str
    name: str
    """The name in the worker."""
    display_name: str = "A job"
    description: str | None = None
    tags: str | None = None
    data: str | None = None
    """A JSON document as text."""
    cron: str | None = None
    worker_id: str | None = None
    routing_pattern: str | None = None
    timeout_seconds: int | None = None
    zombie_timeout_minutes: int | None = None
    skips_when_running: bool = True
    """The policy: Skip, else Queue."""
    is_active: bool = True
    version: int = 1
    external_id: str | None = None
    auto_disable: bool = True
    failures_in_a_row: int = 0
    last_failure_at: float | None = None
    disabled_at: float | None = None
    disable_reason: str | None = None


@frozen
class StatusChange:
    """A line of an occurrence's StatusChangeLogs."""

    at: float
    before: OccurrenceStatus | int
    after: OccurrenceStatus | int


@frozen(kw_only=True)
class LogRow:
    """A stored log entry."""

    timestamp: NetDate
    level: str | None
    message: str | None
    data: Any
    category: str | None
    exception_type: str | None
    wire: WireMessage


@frozen
class Arrival:
    """A status update as it came over the wire."""

    status: Status
    wire: WireMessage
    at: float

    @property
    def message_id(self) -> str | None:
        """By what copies of it are recognised."""
        return message_id(self.wire)


@define(eq=False, kw_only=True)
class Occurrence:
    """One execution of a job, as the API knows it."""

    id: str
    job_id: str
    created_at: float
    status: OccurrenceStatus | int = OccurrenceStatus.QUEUED
    worker_id: str | None = None
    start_time: NetDate | None = None
    end_time: NetDate | float | None = None
    """A float is the API's own clock."""
    duration_ms: int | None = None
    result: str | None = None
    exception: str | None = None
    last_heartbeat: float | None = None
    zombie_timeout_minutes: int | None = None
    dispatch_retry_count: int = 0
    is_external: bool = False
    external_id: str | None = None
    status_changes: list[StatusChange] = field(factory=list)
    logs: list[LogRow] = field(factory=list)
    messages: list[Arrival] = field(factory=list)
    """All status updates in the order of their arrival, copies included."""

    @property
    def wire(self) -> list[Status]:
        """The status updates in order without copies: of equal message ids only the first."""
        seen: set[str] = set()
        kept = []
        for arrival in self.messages:
            if arrival.message_id in seen:
                continue
            if arrival.message_id is not None:
                seen.add(arrival.message_id)
            kept.append(arrival.status)
        return kept

    @property
    def history(self) -> list[OccurrenceStatus | int]:
        """Every status that it had."""
        return [*(change.before for change in self.status_changes), self.status]

    def set_status(self, status: OccurrenceStatus | int, now: float) -> None:
        """Change the status and log it, at most 100 times."""
        if status != self.status:
            self.status_changes.append(StatusChange(now, self.status, status))
            del self.status_changes[:-100]
        self.status = status


@frozen(kw_only=True)
class FailedOccurrence:
    """A row that the DLQ made."""

    job_id: str
    occurrence_id: str
    display_name: str
    job_name: str
    worker_id: str | None
    job_data: str | None
    exception: str
    retry_count: int
    max_retries: int
    """Not stored by the API; kept here for tests."""
    failure_type: FailureType
    original_execute_at: NetDate | float
    """The start, or else the creation of the occurrence (API clock)."""


@define(eq=False)
class Database:
    """Everything that survives a restart of the API."""

    jobs: dict[str, Job] = field(factory=dict)
    occurrences: dict[str, Occurrence] = field(factory=dict)
    failed_occurrences: list[FailedOccurrence] = field(factory=list)
    running: set[str] = field(factory=set)
    """Ids of jobs, not of occurrences (WIRE.md 4.3)."""

    def end(self, occurrence: Occurrence, status: OccurrenceStatus, exception: str, now: float) -> None:
        """What the API does when it ends an occurrence by itself."""
        occurrence.set_status(status, now)
        occurrence.end_time = now
        occurrence.exception = exception
        self.running.discard(occurrence.job_id)
