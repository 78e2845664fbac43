"""The bodies that workers send, as the API's classes read them (WIRE.md 3).

Every reader raises `Unparsable` for a body that System.Text.Json refuses, and for nothing else.
"""

from attrs import frozen
from tests.support.api_model.net_json import JsonObject, JsonValue, Unparsable, parse
from tests.support.api_model.net_values import Members, NetDate

__all__ = [
    "DeadLetter",
    "ExternalJob",
    "ExternalRun",
    "Heartbeat",
    "LogMessage",
    "LogRecord",
    "Registration",
    "Status",
    "read_dead_letter",
    "read_external_job",
    "read_external_run",
    "read_heartbeat",
    "read_logs",
    "read_registration",
    "read_status",
]


@frozen(kw_only=True)
class Status:
    """A status update (WIRE.md 3.1)."""

    occurrence_id: str
    job_id: str
    worker_id: str | None
    instance_id: str | None
    status: int
    start_time: NetDate | None
    end_time: NetDate | None
    duration_ms: int | None
    result: str | None
    exception: str | None
    message_timestamp: NetDate

    @property
    def is_heartbeat(self) -> bool:
        """Whether it is a job heartbeat: a Running update without anything else (WIRE.md 3.2)."""
        told = (self.start_time, self.end_time, self.duration_ms, self.result, self.exception)
        return self.status == 1 and all(value is None for value in told)


def read_status(body: bytes, id_member: str = "OccurrenceId") -> Status:
    """Read a status update of the generation that names its occurrence by this member."""
    members = Members(parse(body), "status")
    return Status(
        occurrence_id=members.guid(id_member),
        job_id=members.guid("JobId"),
        worker_id=members.text("WorkerId"),
        instance_id=members.text("InstanceId"),
        status=members.integer("Status"),
        start_time=members.nullable(members.date, "StartTime"),
        end_time=members.nullable(members.date, "EndTime"),
        duration_ms=members.nullable(members.long, "DurationMs"),
        result=members.text("Result"),
        exception=members.text("Exception"),
        message_timestamp=members.date("MessageTimestamp"),
    )


@frozen(kw_only=True)
class LogRecord:
    """One entry of a log message (WIRE.md 3.3)."""

    occurrence_id: str
    worker_id: str | None
    message_timestamp: NetDate
    timestamp: NetDate
    level: str | None
    message: str | None
    data: JsonObject | None
    category: str | None
    exception_type: str | None


@frozen
class LogMessage:
    """The entries of a log message; those without a log are only counted."""

    records: tuple[LogRecord, ...]
    is_batch: bool
    without_log: int
    count: int | None
    """What the batch says about itself."""


def read_logs(body: bytes, id_member: str = "OccurrenceId", *, batches: bool = True) -> LogMessage:
    """Read a batch, else a single entry; without `batches` everything is taken for a single entry, as 1.0 does."""
    value = parse(body)
    if not isinstance(value, JsonObject):
        raise Unparsable("logs is no object")
    batch = Members(value, "logs")
    entries: list[JsonValue] = [value]
    is_batch = False
    count: int | None = None
    if batches and isinstance(found := batch.raw("Logs"), list) and found:
        entries, is_batch = found, True
        batch.date("BatchTimestamp")
        counted = batch.raw("Count")
        count = counted if isinstance(counted, int) else None
    records = [_log_record(entry, id_member) for entry in entries if entry is not None]
    kept = tuple(record for record in records if record is not None)
    return LogMessage(kept, is_batch, len(entries) - len(kept), count)


def _log_record(value: JsonValue, id_member: str) -> LogRecord | None:
    members = Members(value, "log entry")
    occurrence_id, worker_id = members.guid(id_member), members.text("WorkerId")
    sent = members.date("MessageTimestamp")
    inner = members.nested("Log")
    if inner is None:
        return None
    log = Members(inner, "log entry.Log")
    return LogRecord(
        occurrence_id=occurrence_id,
        worker_id=worker_id,
        message_timestamp=sent,
        timestamp=log.date("Timestamp"),
        level=log.text("Level"),
        message=log.text("Message"),
        data=log.nested("Data"),
        category=log.text("Category"),
        exception_type=log.text("ExceptionType"),
    )


@frozen(kw_only=True)
class Heartbeat:
    """A worker heartbeat (WIRE.md 3.4)."""

    worker_id: str | None
    instance_id: str | None
    current_jobs: int
    timestamp: NetDate
    is_stopping: bool


def read_heartbeat(body: bytes) -> Heartbeat:
    """Read a worker heartbeat."""
    members = Members(parse(body), "heartbeat")
    return Heartbeat(
        worker_id=members.text("WorkerId"),
        instance_id=members.text("InstanceId"),
        current_jobs=members.integer("CurrentJobs"),
        timestamp=members.date("Timestamp"),
        is_stopping=members.flag("IsStopping"),
    )


@frozen(kw_only=True)
class DeadLetter:
    """What the DLQ is read for, from a dead letter or from a dispatch that a worker rejected (WIRE.md 4.5)."""

    id: str
    display_name: str | None
    job_name: str | None
    job_data: str | None
    execute_at: NetDate
    status: int
    exception: str | None


def read_dead_letter(body: bytes) -> DeadLetter | None:
    """Read a dead letter; the document `null` is none."""
    value = parse(body)
    if value is None:
        return None
    members = Members(value, "dead letter")
    return DeadLetter(
        id=members.guid("Id"),
        display_name=members.text("DisplayName"),
        job_name=members.text("JobNameInWorker"),
        job_data=members.text("JobData"),
        execute_at=members.date("ExecuteAt"),
        status=members.integer("Status"),
        exception=members.text("Exception"),
    )


@frozen(kw_only=True)
class Registration:
    """A registration, its metadata still text (WIRE.md 3.6)."""

    worker_id: str | None
    instance_id: str | None
    display_name: str | None
    host_name: str | None
    ip_address: str | None
    routing_patterns: dict[str, str]
    data_definitions: dict[str, str]
    result_definitions: dict[str, str]
    job_types: tuple[str, ...]
    max_parallel_jobs: int
    version: str | None
    metadata: str | None


def read_registration(body: bytes) -> Registration:
    """Read a registration."""
    members = Members(parse(body), "registration")
    return Registration(
        worker_id=members.text("WorkerId"),
        instance_id=members.text("InstanceId"),
        display_name=members.text("DisplayName"),
        host_name=members.text("HostName"),
        ip_address=members.text("IpAddress"),
        routing_patterns=members.named_texts("RoutingPatterns"),
        data_definitions=members.named_texts("JobDataDefinitions"),
        result_definitions=members.named_texts("JobResultDefinitions"),
        job_types=tuple(name or "" for name in members.texts("JobTypes")),
        max_parallel_jobs=members.integer("MaxParallelJobs"),
        version=members.text("Version"),
        metadata=members.text("Metadata"),
    )


@frozen(kw_only=True)
class ExternalJob:
    """A job of a scheduler that only reports (WIRE.md 3.7)."""

    external_id: str | None
    display_name: str | None
    description: str | None
    job_type_name: str | None
    cron: str | None
    job_data: str | None
    is_active: bool
    source: str | None
    worker_id: str | None
    tags: str | None


def read_external_job(body: bytes) -> ExternalJob:
    """Read the registration of such a job."""
    members = Members(parse(body), "external job")
    members.nullable(members.date, "NextExecuteAt")
    members.date("MessageTimestamp")
    return ExternalJob(
        external_id=members.text("ExternalJobId"),
        display_name=members.text("DisplayName"),
        description=members.text("Description"),
        job_type_name=members.text("JobTypeName"),
        cron=members.text("CronExpression"),
        job_data=members.text("JobData"),
        is_active=members.flag("IsActive", absent=True),
        source=members.text("Source"),
        worker_id=members.text("WorkerId"),
        tags=members.text("Tags"),
    )


@frozen(kw_only=True)
class ExternalRun:
    """What happened to a run of such a job (WIRE.md 3.7)."""

    external_id: str | None
    external_occurrence_id: str | None
    correlation_id: str
    worker_id: str | None
    event_type: int
    status: int
    actual_fire_time: NetDate | None
    start_time: NetDate | None
    end_time: NetDate | None
    duration_ms: int | None
    result: str | None
    exception: str | None


def read_external_run(body: bytes) -> ExternalRun:
    """Read such an event."""
    members = Members(parse(body), "external occurrence")
    members.nullable(members.date, "ScheduledFireTime")
    members.date("MessageTimestamp")
    members.text("JobTypeName")
    members.text("Source")
    return ExternalRun(
        external_id=members.text("ExternalJobId"),
        external_occurrence_id=members.text("ExternalOccurrenceId"),
        correlation_id=members.guid("CorrelationId"),
        worker_id=members.text("WorkerId"),
        event_type=members.integer("EventType"),
        status=members.integer("Status"),
        actual_fire_time=members.nullable(members.date, "ActualFireTime"),
        start_time=members.nullable(members.date, "StartTime"),
        end_time=members.nullable(members.date, "EndTime"),
        duration_ms=members.nullable(members.long, "DurationMs"),
        result=members.text("Result"),
        exception=members.text("Exception"),
    )
