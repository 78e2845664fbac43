"""The messages of an external scheduler, made of what is known (WIRE.md 3.2, 3.3, 3.4, 3.6, 3.7).

Separate from their sending, so that each can be held beside its vector.
"""

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version

from attrs import define, evolve, field

from milvaion_trio.external.job import ExternalJob, instant_of
from milvaion_trio.external.run import RunEnd, RunStart
from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.identity import Identity
from milvaion_trio.model.ids import JobId, OccurrenceId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.messages import (
    EMPTY_GUID,
    ExternalEvent,
    ExternalJobRegistration,
    ExternalOccurrence,
    JobConfig,
    LogEntry,
    LogRecord,
    WorkerHeartbeat,
    WorkerRegistration,
)
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.model.wire import (
    encode_external_occurrence,
    encode_external_registration,
    encode_heartbeat,
    encode_logs,
    encode_registration,
    status_body,
)
from milvaion_trio.ports import Exchange, Queue, Topology
from milvaion_trio.runtime.declaration import REPORT_QUEUES, registration_of
from milvaion_trio.runtime.reporting import CONTENT_TYPE

__all__ = ["EXTERNAL_TOPOLOGY", "Letters"]

NO_DATA = "{}"
"""What the server writes down for none; told none, it would take the next registration for a new version of the job."""

EXTERNAL_TOPOLOGY = Topology(
    exchanges=(Exchange(topology.JOBS_EXCHANGE, "topic"),),
    queues=tuple(
        Queue(name)
        for name in (*REPORT_QUEUES, topology.EXTERNAL_REGISTRATION_QUEUE, topology.EXTERNAL_OCCURRENCE_QUEUE)
    ),
)
"""Everything that is published to; there may never have been a server."""


@define(eq=False)
class Letters:
    """Writes them, in the name of one process."""

    identity: Identity
    source: str
    settings: WorkerSettings
    now: Callable[[], Instant]
    _sequence: int = field(default=0, init=False)

    # --- the scheduler and its jobs -----------------------------------------------------------------------------------

    def registration(self, jobs: Iterable[ExternalJob]) -> Publication:
        """A worker that only reports, and the jobs that it reports of."""
        return self._to(
            topology.REGISTRATION_QUEUE, "registration", encode_registration(self.registered([job.id for job in jobs]))
        )

    def registered(self, names: Sequence[str]) -> WorkerRegistration:
        """The same as a value."""
        plain = registration_of(self.identity, (), self.settings, version("milvaion-trio"))
        configs = tuple(
            JobConfig(job_type=name, consumer_id=name, max_parallel_jobs=1, execution_timeout_seconds=0)
            for name in names
        )
        return evolve(
            plain,
            routing_patterns=dict.fromkeys(names, topology.EXTERNAL_PATTERN),
            job_types=tuple(names),
            metadata=evolve(plain.metadata, is_external=True, external_scheduler=self.source, job_configs=configs),
        )

    def alive(self, running: int, *, is_stopping: bool = False) -> Publication:
        """The process is there, or leaves."""
        heartbeat = WorkerHeartbeat(
            worker_id=self.identity.worker_id,
            instance_id=self.identity.instance_id,
            current_jobs=running,
            timestamp=self.now(),
            is_stopping=is_stopping,
        )
        return self._to(topology.HEARTBEAT_QUEUE, "worker-heartbeat", encode_heartbeat(heartbeat))

    def job(self, job: ExternalJob) -> Publication:
        """A job, as it is now."""
        body = encode_external_registration(
            ExternalJobRegistration(
                external_job_id=job.id,
                display_name=job.display_name,
                description=job.description,
                job_type_name=job.type_name or job.id,
                cron_expression=job.cron,
                next_execute_at=instant_of(job.next_run),
                job_data=NO_DATA,
                is_active=job.is_active,
                source=self.source,
                worker_id=self.identity.worker_id,
                tags=",".join(job.tags) or None,
                message_timestamp=self.now(),
            )
        )
        return self._to(topology.EXTERNAL_REGISTRATION_QUEUE, "external-job", body)

    # --- a run --------------------------------------------------------------------------------------------------------

    def starting(self, start: RunStart) -> Publication:
        """It began: the server writes down a running occurrence of this id."""
        return self._event(start, ExternalEvent.STARTING, OccurrenceStatus.RUNNING, start.at, start_time=start.at)

    def ended(self, start: RunStart, end: RunEnd) -> Publication:
        """It ended, somehow."""
        return self._event(
            start,
            end.event,
            end.status,
            end.at,
            end_time=end.at,
            duration_ms=end.duration_ms,
            result=end.result,
            exception=end.exception,
        )

    def heartbeat(self, occurrence_id: OccurrenceId) -> Publication:
        """It still runs. Without one in time the server takes it for lost.

        The id of the job in the server's database is not known here. None is named: any other would stay in the
        server's set of running jobs for ever.
        """
        body = status_body(
            self.identity.dialect,
            occurrence_id,
            JobId(EMPTY_GUID),
            self.identity.worker_id,
            self.identity.instance_id,
            OccurrenceStatus.RUNNING,
            self.now(),
        )
        return self._to(topology.STATUS_QUEUE, "heartbeat", body, occurrence_id)

    def logs(self, occurrence_id: OccurrenceId, entries: Sequence[LogEntry]) -> Publication:
        """Lines of its log, in one message."""
        records = [
            LogRecord(
                occurrence_id=occurrence_id,
                worker_id=self.identity.instance_id,
                log=entry,
                message_timestamp=entry.timestamp,
            )
            for entry in entries
        ]
        [body] = encode_logs(records, self.now(), self.identity.dialect)
        return self._to(topology.LOGS_QUEUE, "log", body, occurrence_id)

    def _event(
        self,
        start: RunStart,
        event: ExternalEvent,
        status: OccurrenceStatus,
        at: Instant,
        *,
        start_time: Instant | None = None,
        end_time: Instant | None = None,
        duration_ms: int | None = None,
        result: str | None = None,
        exception: str | None = None,
    ) -> Publication:
        body = encode_external_occurrence(
            ExternalOccurrence(
                external_job_id=start.job.id,
                external_occurrence_id=start.external_id,
                correlation_id=start.occurrence_id,
                job_type_name=start.job.type_name or start.job.id,
                worker_id=self.identity.worker_id,
                event_type=event,
                status=status,
                scheduled_fire_time=instant_of(start.scheduled_for),
                actual_fire_time=start.at,
                start_time=start_time,
                end_time=end_time,
                duration_ms=duration_ms,
                result=result,
                exception=exception,
                source=self.source,
                message_timestamp=at,
            )
        )
        kind = "starting" if event is ExternalEvent.STARTING else "ended"
        message_id = f"{start.occurrence_id}:{kind}"
        return _publication(topology.EXTERNAL_OCCURRENCE_QUEUE, message_id, body, start.occurrence_id)

    def _to(self, queue: str, kind: str, body: bytes, occurrence_id: OccurrenceId | None = None) -> Publication:
        self._sequence += 1
        return _publication(queue, f"{self.identity.instance_id}:{kind}:{self._sequence}", body, occurrence_id)


def _publication(queue: str, message_id: str, body: bytes, occurrence_id: OccurrenceId | None) -> Publication:
    message = Message(body=body, message_id=message_id, correlation_id=occurrence_id, content_type=CONTENT_TYPE)
    return Publication(message, queue)
