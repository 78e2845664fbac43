"""The worker registry (WIRE.md 4.7): which workers and instances the API takes for alive."""

import enum

from attrs import define, field
from tests.support.api_model.conduct import Conduct
from tests.support.api_model.database import Database
from tests.support.api_model.findings import Findings, Rule
from tests.support.api_model.messages import Heartbeat, Registration, read_heartbeat, read_registration
from tests.support.api_model.net_json import Unparsable
from tests.support.api_model.net_values import YEAR_ONE
from tests.support.api_model.registration_rules import Metadata, problems, read_metadata
from tests.support.api_model.settings import ApiSettings
from tests.support.api_model.topology import HEARTBEATS, REGISTRATIONS
from tests.support.api_model.wire_message import Settlement, Verdict, WireMessage

__all__ = ["Departure", "Gone", "Instance", "Worker", "WorkerRegistry"]


class Gone(enum.Enum):
    """Why an instance is no longer there."""

    GOODBYE = "it said so"
    SWEPT = "no heartbeat for three intervals"
    EXPIRED = "its entry was not renewed"


@define(eq=False, kw_only=True)
class Instance:
    """One process of a worker."""

    id: str
    registered_at: float | None
    """None when a heartbeat made it."""
    last_heartbeat: float
    """By the clock of whoever wrote last: the API at a registration, else the worker."""
    current_jobs: int = 0
    expires_at: float


@define(eq=False, kw_only=True)
class Worker:
    """A worker group, by its last registration."""

    id: str
    registration: Registration
    metadata: Metadata
    registered_at: float
    expires_at: float
    registrations: int = 1
    instances: dict[str, Instance] = field(factory=dict)

    @property
    def is_active(self) -> bool:
        """Whether any instance is there."""
        return bool(self.instances)

    @property
    def current_jobs(self) -> int:
        """What the dispatcher compares with MaxParallelJobs."""
        return sum(instance.current_jobs for instance in self.instances.values())

    @property
    def creatable_jobs(self) -> list[str]:
        """The names that a job can be created for."""
        patterns = self.registration.routing_patterns
        return [name for name in self.registration.job_types if patterns.get(name) and not self.metadata.is_external]


@define(eq=False)
class Departure:
    """An instance that went."""

    worker_id: str
    instance_id: str
    why: Gone
    at: float


@define(eq=False)
class WorkerRegistry:
    """Registrations and heartbeats. What Redis holds of it ends with its life time."""

    database: Database
    findings: Findings
    conduct: Conduct
    settings: ApiSettings
    workers: dict[str, Worker] = field(factory=dict)
    departures: list[Departure] = field(factory=list)
    heartbeats: int = 0
    """How many came."""
    _newest: dict[tuple[str, str], tuple[Heartbeat, WireMessage]] = field(factory=dict)
    _stopped: dict[tuple[str, str], float] = field(factory=dict)
    """When an instance said goodbye, by its own clock."""
    _next_heartbeats: float | None = None
    _next_sweep: float | None = None

    def take_registration(self, wire: WireMessage, now: float) -> list[Settlement]:
        """A registration arrives."""
        self.conduct.judge_envelope(REGISTRATIONS, wire)
        try:
            registration = read_registration(wire.body)
        except Unparsable as error:
            self.findings.drop(REGISTRATIONS, str(error), wire)
            return [Settlement(REGISTRATIONS, wire, Verdict.DROP)]
        for rule, problem in problems(registration):
            self.findings.complain(rule, f"{registration.worker_id}: {problem}", wire)
        if registration.worker_id and registration.instance_id:
            self._register(registration, registration.worker_id, registration.instance_id, now)
        return [Settlement(REGISTRATIONS, wire, Verdict.ACK)]

    def take_heartbeat(self, wire: WireMessage) -> list[Settlement]:
        """A heartbeat arrives; the newest of an instance counts at the next tick."""
        self.conduct.judge_envelope(HEARTBEATS, wire)
        try:
            heartbeat = read_heartbeat(wire.body)
        except Unparsable as error:
            self.findings.drop(HEARTBEATS, str(error), wire)
            return [Settlement(HEARTBEATS, wire, Verdict.DROP)]
        self.heartbeats += 1
        self._judge(heartbeat, wire)
        key = (heartbeat.worker_id or "", heartbeat.instance_id or "")
        known = self._newest.get(key)
        if known is None or known[0].timestamp.unix <= heartbeat.timestamp.unix:
            self._newest[key] = (heartbeat, wire)
        return [Settlement(HEARTBEATS, wire, Verdict.ACK)]

    def tick(self, now: float) -> None:
        """Apply heartbeats, let entries end, and sweep, each at its interval."""
        if self._next_heartbeats is None or now >= self._next_heartbeats:
            self._next_heartbeats = now + self.settings.heartbeat_interval
            for (worker_id, instance_id), (heartbeat, _) in self._newest.items():
                self._apply(worker_id, instance_id, heartbeat, now)
            self._newest.clear()
        self._expire(now)
        if self._next_sweep is None:
            self._next_sweep = now + self.settings.sweep_interval
        elif now >= self._next_sweep:
            self._next_sweep = now + self.settings.sweep_interval
            self.sweep(now)

    def sweep(self, now: float) -> None:
        """Remove every instance that was silent for three of its intervals."""
        for worker in self.workers.values():
            limit = 3 * worker.metadata.heartbeat_interval
            for instance in list(worker.instances.values()):
                if now - instance.last_heartbeat > limit:
                    self._remove(worker, instance.id, Gone.SWEPT, now)

    def read(self, worker_id: str) -> Worker | None:
        """The worker as the dispatcher sees it; one without instances is deleted by being looked at.

        A heartbeat does not bring its entry back: only a registration does.
        """
        worker = self.workers.get(worker_id)
        if worker is not None and not worker.is_active:
            del self.workers[worker_id]
            return None
        return worker

    def lose_redis(self) -> None:
        """Redis lost its data: only registrations bring workers back."""
        self.workers.clear()

    def _register(self, registration: Registration, worker_id: str, instance_id: str, now: float) -> None:
        try:
            metadata = read_metadata(registration.metadata)
        except Unparsable:
            metadata = Metadata()
        known = self.workers.get(worker_id)
        worker = Worker(
            id=worker_id,
            registration=registration,
            metadata=metadata,
            registered_at=now if known is None else known.registered_at,
            expires_at=now + self.settings.worker_life,
            registrations=1 if known is None else known.registrations + 1,
            instances={} if known is None else known.instances,
        )
        self.workers[worker_id] = worker
        worker.instances[instance_id] = Instance(
            id=instance_id, registered_at=now, last_heartbeat=now, expires_at=now + self.settings.instance_life
        )
        for job in self.database.jobs.values():
            pattern = registration.routing_patterns.get(job.name)
            if job.worker_id == worker_id and pattern:
                job.routing_pattern = pattern
        self._take_over(registration, worker_id)

    def _take_over(self, registration: Registration, worker_id: str) -> None:
        """Jobs of a worker without a live instance go to one that has none of that name and knows it (WIRE.md 4.7)."""
        for name in registration.job_types:
            jobs = [job for job in self.database.jobs.values() if job.name == name and job.external_id is None]
            if any(job.worker_id == worker_id for job in jobs):
                continue
            for job in jobs:
                other = self.workers.get(job.worker_id or "")
                if job.worker_id is not None and (other is None or not other.is_active):
                    job.worker_id = worker_id
                    job.routing_pattern = registration.routing_patterns.get(name)

    def _judge(self, heartbeat: Heartbeat, wire: WireMessage) -> None:
        complain = self.findings.complain
        key = (heartbeat.worker_id or "", heartbeat.instance_id or "")
        if not all(key) or heartbeat.current_jobs < 0 or heartbeat.timestamp == YEAR_ONE:
            complain(Rule.HEARTBEAT, f"{key}: CurrentJobs {heartbeat.current_jobs}, {heartbeat.timestamp.text}", wire)
        if not heartbeat.timestamp.is_utc:
            complain(Rule.DATE_FORM, f"heartbeat of {key}: {heartbeat.timestamp.text}", wire)
        if heartbeat.is_stopping and heartbeat.current_jobs:
            complain(Rule.HEARTBEAT, f"{key} leaves with {heartbeat.current_jobs} jobs", wire)
        stopped = self._stopped.get(key)
        if heartbeat.is_stopping:
            self._stopped[key] = heartbeat.timestamp.unix
        elif stopped is not None and heartbeat.timestamp.unix > stopped:
            complain(Rule.BEAT_AFTER_STOPPING, str(key), wire)

    def _apply(self, worker_id: str, instance_id: str, heartbeat: Heartbeat, now: float) -> None:
        worker = self.workers.get(worker_id)
        if worker is None:
            return
        if heartbeat.is_stopping:
            self._remove(worker, instance_id, Gone.GOODBYE, now)
            return
        worker.expires_at = now + self.settings.worker_life
        instance = worker.instances.setdefault(
            instance_id, Instance(id=instance_id, registered_at=None, last_heartbeat=0, expires_at=0)
        )
        instance.last_heartbeat = heartbeat.timestamp.unix
        instance.current_jobs = heartbeat.current_jobs
        instance.expires_at = now + self.settings.instance_life

    def _expire(self, now: float) -> None:
        for worker in list(self.workers.values()):
            for instance in list(worker.instances.values()):
                if now >= instance.expires_at:
                    self._remove(worker, instance.id, Gone.EXPIRED, now)
            if now >= worker.expires_at:
                del self.workers[worker.id]

    def _remove(self, worker: Worker, instance_id: str, why: Gone, now: float) -> None:
        if worker.instances.pop(instance_id, None) is not None:
            self.departures.append(Departure(worker.id, instance_id, why, now))
