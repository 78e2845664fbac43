"""The wire's messages as values (WIRE.md 2, 3 and 5.3).

A field is the snake_case form of a wire member and stands in the order in which .NET writes it; `None` is null.
`model.wire` turns these values into bytes and back.
"""

import enum
from collections.abc import Mapping

from attrs import field, frozen

from milvaion_trio.model.ids import InstanceId, JobId, OccurrenceId, WorkerId
from milvaion_trio.model.instant import MINIMUM, Instant
from milvaion_trio.model.json_text import JsonValue
from milvaion_trio.model.occurrence import OccurrenceStatus

__all__ = [
    "EMPTY_GUID",
    "AutoDisableSettings",
    "Cancellation",
    "DeadLetter",
    "ExternalEvent",
    "ExternalJobRegistration",
    "ExternalOccurrence",
    "JobConfig",
    "JobMessage",
    "LogBatch",
    "LogEntry",
    "LogLevel",
    "LogRecord",
    "StatusUpdate",
    "WorkerHeartbeat",
    "WorkerMetadata",
    "WorkerRegistration",
]

EMPTY_GUID = "00000000-0000-0000-0000-000000000000"
"""What .NET reads where a guid is absent; it names nothing."""


# --- API -> worker --------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class AutoDisableSettings:
    """The circuit breaker of a job (WIRE.md 4.4); carried along, not used by workers."""

    consecutive_failure_count: int = 0
    last_failure_time: Instant | None = None
    disabled_at: Instant | None = None
    disable_reason: str | None = None
    enabled: bool | None = None
    threshold: int | None = None
    failure_window_minutes: int | None = None


@frozen(kw_only=True)
class JobMessage:
    """A dispatched job: the body of a dispatch and of a retry copy (WIRE.md 2.2).

    Which occurrence it runs for stands in the headers (`model.headers.occurrence_id`).
    """

    display_name: str | None = None
    description: str | None = None
    tags: str | None = None
    job_data: str | None = None
    """A JSON document as text; `None` and `""` both mean "no data"."""
    execute_at: Instant = MINIMUM
    cron_expression: str | None = None
    is_active: bool = False
    concurrent_execution_policy: int = 0
    """0 Skip, 1 Queue."""
    worker_id: str | None = None
    job_name_in_worker: str
    routing_pattern: str | None = None
    zombie_timeout_minutes: int | None = None
    execution_timeout_seconds: int | None = None
    """Overrides the worker's time limit; 0 or below means none."""
    is_external: bool = False
    external_job_id: str | None = None
    version: int = 0
    job_versions: tuple[str, ...] | None = ()
    auto_disable_settings: AutoDisableSettings | None = AutoDisableSettings()
    occurrences: JsonValue = None
    failed_occurrences: JsonValue = None
    last_modification_date: Instant | None = None
    last_modifier_user_name: str | None = None
    creation_date: Instant | None = None
    creator_user_name: str | None = None
    id: JobId


@frozen(kw_only=True)
class Cancellation:
    """A cancel signal (WIRE.md 5.3)."""

    occurrence_id: OccurrenceId
    job_id: str | None = None
    reason: str = "Cancelled by user"


# --- worker -> API: about an occurrence -----------------------------------------------------------------------------


@frozen(kw_only=True)
class StatusUpdate:
    """How an occurrence stands; without start, end, result and exception it is a job heartbeat (WIRE.md 3.1, 3.2)."""

    occurrence_id: OccurrenceId
    job_id: JobId
    worker_id: WorkerId
    instance_id: InstanceId
    status: OccurrenceStatus | int
    """A plain int is a number that this version has no name for."""
    start_time: Instant | None = None
    end_time: Instant | None = None
    duration_ms: int | None = None
    result: str | None = None
    exception: str | None = None
    message_timestamp: Instant


class LogLevel(enum.StrEnum):
    """Names of .NET's log levels. The API takes any text."""

    TRACE = "Trace"
    DEBUG = "Debug"
    INFORMATION = "Information"
    WARNING = "Warning"
    ERROR = "Error"
    CRITICAL = "Critical"


@frozen(kw_only=True)
class LogEntry:
    """One line of an occurrence's log."""

    timestamp: Instant
    level: str
    message: str
    data: Mapping[str, JsonValue] | None = None
    category: str | None = None
    exception_type: str | None = None


@frozen(kw_only=True)
class LogRecord:
    """A log entry and where it comes from (WIRE.md 3.3)."""

    occurrence_id: OccurrenceId
    worker_id: InstanceId
    """The INSTANCE id; the wire calls it `WorkerId` here."""
    log: LogEntry
    message_timestamp: Instant


@frozen(kw_only=True)
class LogBatch:
    """What one log message holds; a message in the single form is a batch of one."""

    logs: tuple[LogRecord, ...]
    batch_timestamp: Instant = MINIMUM


@frozen(kw_only=True)
class DeadLetter:
    """A job that failed for good (WIRE.md 3.5)."""

    id: JobId
    display_name: str | None
    job_name_in_worker: str
    job_data: str | None
    execute_at: Instant
    status: OccurrenceStatus | int
    exception: str | None


# --- worker -> API: about the worker --------------------------------------------------------------------------------


@frozen(kw_only=True)
class WorkerHeartbeat:
    """An instance is alive, or says good-bye (WIRE.md 3.4)."""

    worker_id: WorkerId
    instance_id: InstanceId
    current_jobs: int
    timestamp: Instant
    is_stopping: bool = False


@frozen(kw_only=True)
class JobConfig:
    """One job in the metadata of a registration."""

    job_type: str
    consumer_id: str
    max_parallel_jobs: int
    execution_timeout_seconds: int


@frozen(kw_only=True)
class WorkerMetadata:
    """What a registration tells as JSON text inside its JSON (WIRE.md 3.6)."""

    is_external: bool = False
    external_scheduler: str | None = None
    processor_count: int = 0
    os_version: str | None = None
    runtime_version: str | None = None
    heartbeat_interval: int = 0
    """Seconds. The API drops an instance that is silent for three times as long."""
    job_configs: tuple[JobConfig, ...] = ()


@frozen(kw_only=True)
class WorkerRegistration:
    """A worker and the jobs it knows (WIRE.md 3.6). Mappings go from job name to pattern or schema text."""

    worker_id: WorkerId
    instance_id: InstanceId
    display_name: str | None = None
    host_name: str | None = None
    ip_address: str | None = None
    routing_patterns: Mapping[str, str] = field(factory=dict)
    job_data_definitions: Mapping[str, str] = field(factory=dict)
    job_result_definitions: Mapping[str, str] = field(factory=dict)
    job_types: tuple[str, ...] = ()
    max_parallel_jobs: int = 0
    """The dispatcher sends nothing to a worker that says 0."""
    version: str | None = None
    metadata: WorkerMetadata = WorkerMetadata()


# --- worker -> API: about schedulers that only report ---------------------------------------------------------------


class ExternalEvent(enum.IntEnum):
    """What happened to an external occurrence; a failure is `COMPLETED` with status Failed (WIRE.md 3.7)."""

    STARTING = 0
    COMPLETED = 1
    VETOED = 2
    CANCELLED = 3


@frozen(kw_only=True)
class ExternalJobRegistration:
    """A job of an external scheduler (WIRE.md 3.7)."""

    external_job_id: str
    display_name: str | None = None
    description: str | None = None
    job_type_name: str | None = None
    cron_expression: str | None = None
    next_execute_at: Instant | None = None
    job_data: str | None = None
    is_active: bool = True
    source: str | None = None
    worker_id: WorkerId
    tags: str | None = None
    message_timestamp: Instant


@frozen(kw_only=True)
class ExternalOccurrence:
    """A run of an external scheduler's job (WIRE.md 3.7)."""

    external_job_id: str
    external_occurrence_id: str | None = None
    correlation_id: OccurrenceId
    """Becomes the occurrence's id."""
    job_type_name: str | None = None
    worker_id: WorkerId
    event_type: ExternalEvent | int
    status: OccurrenceStatus | int
    scheduled_fire_time: Instant | None = None
    actual_fire_time: Instant | None = None
    start_time: Instant | None = None
    end_time: Instant | None = None
    duration_ms: int | None = None
    result: str | None = None
    exception: str | None = None
    source: str | None = None
    message_timestamp: Instant
