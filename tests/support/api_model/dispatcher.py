"""The sending side of the API: dispatches and cancel signals (WIRE.md 2, 4.1, 5.3)."""

import enum
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from attrs import define, field, frozen
from tests.support.api_model.conduct import Conduct
from tests.support.api_model.database import Database, Job, Occurrence, OccurrenceStatus
from tests.support.api_model.net_json import Verbatim, write
from tests.support.api_model.settings import ApiSettings, Generation
from tests.support.api_model.topology import JOBS_EXCHANGE, routing_key, routing_pattern
from tests.support.api_model.worker_registry import WorkerRegistry

__all__ = ["Dispatch", "Dispatcher", "Sender", "uuid7"]

CREATED: Final = "2026-04-02T08:01:02.456789"
CREATOR: Final = "rootuser"


class Sender(enum.Enum):
    """The three parts of the API that dispatch; each fills the job object differently (WIRE.md 2.2)."""

    DISPATCHER = "job from the Redis cache: null texts become empty ones"
    TRIGGER = "the whole row of the database"
    WORKFLOW = "a few members"


@frozen(kw_only=True)
class Dispatch:
    """A message to publish, mandatory."""

    occurrence_id: str
    exchange: str
    routing_key: str
    properties: dict[str, object]
    headers: dict[str, tuple[str, object]]
    body: bytes


def uuid7(now: float) -> str:
    """A guid as .NET makes them for occurrences: the time in front."""
    bits = int(now * 1000) << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(UUID(int=bits))


@define(eq=False)
class Dispatcher:
    """Makes occurrences and the messages that workers get."""

    database: Database
    registry: WorkerRegistry
    conduct: Conduct
    settings: ApiSettings
    new_id: Callable[[float], str] = field(default=uuid7)

    def queued(self, occurrence_id: str, job: Job, now: float) -> Occurrence:
        """Insert an occurrence that is dispatched by somebody else."""
        occurrence = Occurrence(
            id=occurrence_id, job_id=job.id, created_at=now, zombie_timeout_minutes=job.zombie_timeout_minutes
        )
        self.database.occurrences[occurrence_id] = occurrence
        return occurrence

    def dispatch(
        self,
        job: Job,
        now: float,
        *,
        data: str | None = None,
        sender: Sender = Sender.DISPATCHER,
        occurrence_id: str | None = None,
    ) -> Dispatch:
        """Insert a Queued occurrence and return its message; `data` replaces that of the job."""
        occurrence = self.queued(occurrence_id or self.new_id(now), job, now)
        return self._message(job, occurrence, now, data, sender)

    def dispatch_again(self, occurrence_id: str, now: float, *, data: str | None = None) -> Dispatch:
        """A workflow repeats a step: the same occurrence, back to Queued, in a fresh message (WIRE.md 12.1)."""
        occurrence = self.database.occurrences[occurrence_id]
        occurrence.set_status(OccurrenceStatus.QUEUED, now)
        occurrence.created_at = now
        self.conduct.begin_again(occurrence_id)
        return self._message(self.database.jobs[occurrence.job_id], occurrence, now, data, Sender.WORKFLOW)

    def returned(self, occurrence_id: str, now: float) -> None:
        """The broker returned the message: there is no such queue."""
        occurrence = self.database.occurrences[occurrence_id]
        self.database.end(occurrence, OccurrenceStatus.FAILED, "Dispatch failed: the message was returned", now)
        occurrence.dispatch_retry_count = 1

    def held_back(self, job: Job) -> str | None:
        """Why the scheduler would not dispatch the job now; `None` when it would (WIRE.md 4.1)."""
        if not job.is_active:
            return "it is inactive"
        if job.skips_when_running and job.id in self.database.running:
            return "it is running and its policy is Skip"
        if job.worker_id is None:
            return None
        worker = self.registry.read(job.worker_id)
        if worker is None:
            return f"its worker {job.worker_id!r} is not active"
        if worker.current_jobs >= worker.registration.max_parallel_jobs:
            return f"its worker has {worker.current_jobs} of {worker.registration.max_parallel_jobs} jobs"
        return None

    def cancel(self, occurrence_id: str, now: float, reason: str | None = None) -> str:
        """Cancel a running occurrence at once, and return the signal to publish (WIRE.md 5.3).

        Raises `ValueError` for one that may not be cancelled.
        """
        occurrence = self.database.occurrences[occurrence_id]
        if occurrence.status != OccurrenceStatus.RUNNING or occurrence.is_external:
            raise ValueError(f"{occurrence_id} is {occurrence.status!r}; only Running ones are cancelled")
        reason = reason or "Cancelled by user"
        self.database.end(occurrence, OccurrenceStatus.CANCELLED, reason, now)
        signal = {"CorrelationId": occurrence_id, "JobId": occurrence.job_id, "OccurrenceId": occurrence_id}
        return write({**signal, "Reason": reason})

    def recover(self, now: float) -> list[str]:
        """What an API does when it starts: what is unfinished and old counts as failed (WIRE.md 4.1)."""
        unfinished = {OccurrenceStatus.QUEUED, OccurrenceStatus.RUNNING}
        old = [
            occurrence
            for occurrence in self.database.occurrences.values()
            if occurrence.status in unfinished and now - occurrence.created_at > self.settings.recovery_age
        ]
        for occurrence in old:
            self.database.end(occurrence, OccurrenceStatus.FAILED, "Failed by a system restart", now)
        return [occurrence.id for occurrence in old]

    def _message(self, job: Job, occurrence: Occurrence, now: float, data: str | None, sender: Sender) -> Dispatch:
        pattern = job.routing_pattern or routing_pattern(job.worker_id or "", job.name).removeprefix(".")
        key = routing_key(pattern)
        is_workflow = sender is Sender.WORKFLOW
        due = None if is_workflow else datetime.fromtimestamp(int(now), UTC)
        execute_at = "0001-01-01T00:00:00" if due is None else f"{due:%Y-%m-%dT%H:%M:%S}"
        suffix = "" if is_workflow else "Z"
        return Dispatch(
            occurrence_id=occurrence.id,
            exchange=JOBS_EXCHANGE,
            routing_key=key,
            properties={
                "content_type": "application/json",
                "delivery_mode": 2,
                "priority": 0,
                "correlation_id": occurrence.id,
                "message_id": job.id,
                "timestamp": int(now),
            },
            headers={
                "JobType": ("S", job.name),
                "ExecuteAt": ("S", f"{execute_at}.0000000{suffix}"),
                "IsRecurring": ("t", job.cron is not None and not is_workflow),
                self.settings.generation.value: ("S", occurrence.id),
                "RoutingKey": ("S", key),
                "WorkerId": ("S", job.worker_id or "any"),
            },
            body=write(self._body(job, data, f"{execute_at}{suffix}", sender)).encode(),
        )

    def _body(self, job: Job, data: str | None, execute_at: str, sender: Sender) -> dict[str, object]:
        cached = sender is Sender.DISPATCHER
        members: dict[str, object] = {
            "displayName": job.display_name,
            "description": job.description,
            "tags": job.tags,
            "jobData": job.data if data is None else data,
            "executeAt": execute_at,
            "cronExpression": job.cron,
            "isActive": job.is_active,
            "concurrentExecutionPolicy": 0 if job.skips_when_running else 1,
            "workerId": job.worker_id,
            "jobNameInWorker": job.name,
            "routingPattern": job.routing_pattern,
            "zombieTimeoutMinutes": job.zombie_timeout_minutes,
            "executionTimeoutSeconds": job.timeout_seconds,
            "isExternal": job.external_id is not None,
            "externalJobId": job.external_id,
            "version": job.version,
            "jobVersions": [],
            "autoDisableSettings": {"consecutiveFailureCount": 0 if cached else job.failures_in_a_row},
            "creationDate": Verbatim(f"{CREATED}{'+00:00' if cached else 'Z'}"),
            "creatorUserName": CREATOR,
            "id": job.id,
        }
        if cached:  # its hash has no null texts
            for name in ("description", "tags", "jobData", "externalJobId"):
                members[name] = members[name] or ""
        if sender is Sender.WORKFLOW:
            for name in ("description", "tags", "cronExpression", "creationDate", "creatorUserName"):
                del members[name]
            members |= {"isActive": True, "concurrentExecutionPolicy": 0}
        if self.settings.generation is Generation.V1_0:
            for name in ("isExternal", "externalJobId"):
                members.pop(name, None)
        return {name: value for name, value in members.items() if value is not None}
