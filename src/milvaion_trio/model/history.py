"""What happened, as values: the rows that a monitor keeps.

A row is written whole. How messages change it is decided in `policy.tracking`; where it is kept, by a `HistoryStore`.
"""

import enum
from collections.abc import Mapping

from attrs import field, frozen

from milvaion_trio.model.ids import InstanceId, JobId, OccurrenceId, WorkerId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.json_text import JsonValue
from milvaion_trio.model.occurrence import OccurrenceStatus

__all__ = [
    "FailedOccurrence",
    "FailureType",
    "InstanceRecord",
    "LogLine",
    "OccurrenceRecord",
    "StatusChange",
    "WorkerRecord",
]


@frozen
class StatusChange:
    """One step of an occurrence."""

    at: Instant
    before: OccurrenceStatus | int
    after: OccurrenceStatus | int


@frozen(kw_only=True)
class OccurrenceRecord:
    """An occurrence as far as messages told of it. What no message told is `None`."""

    id: OccurrenceId
    job_id: JobId | None = None
    job_name: str | None = None
    display_name: str | None = None
    worker_id: WorkerId | None = None
    instance_id: InstanceId | None = None
    status: OccurrenceStatus | int = OccurrenceStatus.QUEUED
    created_at: Instant
    """When it was dispatched, or first heard of. It orders the occurrences and does not change once it is kept."""
    execute_at: Instant | None = None
    """When it was to run."""
    start_time: Instant | None = None
    end_time: Instant | None = None
    duration_ms: int | None = None
    result: str | None = None
    exception: str | None = None
    job_data: str | None = None
    pattern: str | None = None
    """The routing pattern its message went by, which a repetition needs."""
    last_heard: Instant | None = None
    """The monitor's clock when a status or heartbeat came last."""
    runs: int = 0
    """How often its job was seen to start: once per attempt, and again for one that was interrupted or snoozed."""
    run_started: Instant | None = None
    """When the last of them started: the same start, told again, is no other run."""
    changes: tuple[StatusChange, ...] = ()
    """At most 100, the last ones (WIRE.md 4.3)."""
    zombie_timeout: float | None = None
    """Seconds, where its job says so itself."""
    schedule_id: str | None = None
    """The schedule of ours that dispatched it."""
    tick: int | None = None
    """Which tick of the schedule, in milliseconds since 1970."""
    external_id: str | None = None
    """Of a run that another scheduler reported (WIRE.md 3.7)."""
    source: str | None = None
    """That scheduler's name."""


@frozen(kw_only=True)
class LogLine:
    """A line of an occurrence's log. The same line, come twice, has the same key."""

    key: str
    """Its message and its position in it; of lines of the same time the one with the smaller key comes first."""
    occurrence_id: OccurrenceId
    at: Instant
    level: str
    message: str
    category: str | None = None
    exception_type: str | None = None
    data: Mapping[str, JsonValue] | None = None
    instance_id: InstanceId | None = None


class FailureType(enum.IntEnum):
    """Milvaion's numbers (WIRE.md 4.5)."""

    UNKNOWN = 0
    MAX_RETRIES_EXCEEDED = 1
    TIMEOUT = 2
    WORKER_CRASH = 3
    INVALID_JOB_DATA = 4
    EXTERNAL_DEPENDENCY_FAILURE = 5
    UNHANDLED_EXCEPTION = 6
    CANCELLED = 7
    ZOMBIE_DETECTION = 8


@frozen(kw_only=True)
class FailedOccurrence:
    """A dead letter: an occurrence that failed for good and waits for a person."""

    occurrence_id: OccurrenceId
    failed_at: Instant
    """When the dead letter was read."""
    job_id: JobId
    job_name: str
    display_name: str | None = None
    worker_id: WorkerId | None = None
    job_data: str | None = None
    exception: str
    """At most 3,000 characters."""
    retry_count: int = 0
    failure_type: FailureType = FailureType.UNHANDLED_EXCEPTION
    execute_at: Instant | None = None
    message: bytes = b""
    """The body of the dead letter as it came."""
    replayed_as: OccurrenceId | None = None
    """The occurrence that repeats it."""


@frozen(kw_only=True)
class WorkerRecord:
    """A group of workers, as its last registration tells (WIRE.md 3.6)."""

    worker_id: WorkerId
    display_name: str | None = None
    registered_at: Instant
    routing_patterns: Mapping[str, str] = field(factory=dict)
    job_types: tuple[str, ...] = ()
    max_parallel_jobs: int = 0
    version: str | None = None
    heartbeat_interval: float = 30.0
    """Seconds; who is silent for three times as long is lost (WIRE.md 4.7)."""
    is_external: bool = False


@frozen(kw_only=True)
class InstanceRecord:
    """One process of a group."""

    worker_id: WorkerId
    instance_id: InstanceId
    host_name: str | None = None
    ip_address: str | None = None
    current_jobs: int = 0
    last_heartbeat: Instant
    """The monitor's clock when it was heard last: the worker's own may be wrong (WIRE.md 13.2, A5)."""
    lost_at: Instant | None = None
    """When it was found silent for too long; `None` while it lives."""
    stopped_at: Instant | None = None
    """When it said good-bye, by its own clock; a heartbeat from before then does not bring it back."""
