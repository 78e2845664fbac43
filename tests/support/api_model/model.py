"""ApiModel: the receiving side of a Milvaion API, without I/O and without a clock of its own.

It is as strict as System.Text.Json, PostgreSQL and the API's own code are together, and adds what WIRE.md asks of
workers. A test that ends with `assert_content` knows that a real API would have taken everything.
"""

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any
from uuid import uuid4

from tests.support.api_model.auto_disable import AutoDisable
from tests.support.api_model.conduct import Conduct
from tests.support.api_model.database import ENDS, Database, FailedOccurrence, Job, Occurrence
from tests.support.api_model.dead_letters import DeadLetterReader
from tests.support.api_model.dispatcher import Dispatch, Dispatcher, Sender
from tests.support.api_model.external_tracker import ExternalTracker
from tests.support.api_model.findings import SHOWN, Complaint, Dropped, Findings, Requeue, Rule
from tests.support.api_model.log_collector import LogCollector
from tests.support.api_model.net_json import write
from tests.support.api_model.settings import ApiSettings
from tests.support.api_model.status_tracker import StatusTracker
from tests.support.api_model.topology import (
    EXTERNAL_OCCURRENCES,
    EXTERNAL_REGISTRATIONS,
    FAILED_JOBS,
    HEARTBEATS,
    LOGS,
    REGISTRATIONS,
    STATUSES,
)
from tests.support.api_model.wire_message import Settlement, WireMessage
from tests.support.api_model.worker_registry import Worker, WorkerRegistry
from tests.support.api_model.zombie_detector import ZombieDetector

__all__ = ["ApiModel"]


class ApiModel:
    """Give it messages with `take` and the time with `tick`, then look. All times are Unix seconds."""

    def __init__(self, settings: ApiSettings | None = None) -> None:
        self.settings = settings = settings or ApiSettings()
        self._newest = 0.0
        self.database = database = Database()
        self.findings = findings = Findings()
        self.conduct = conduct = Conduct(database, findings, settings.generation)
        self.auto_disable = AutoDisable(database, settings)
        self.status_tracker = StatusTracker(database, findings, conduct, settings, self.auto_disable.count)
        self.log_collector = LogCollector(database, findings, conduct, settings)
        self.dead_letters = DeadLetterReader(database, findings, conduct, settings.generation)
        self.registry = WorkerRegistry(database, findings, conduct, settings)
        self.zombie_detector = ZombieDetector(database, settings)
        self.external_tracker = ExternalTracker(database, findings, conduct, self.registry)
        self.dispatcher = Dispatcher(database, self.registry, conduct, settings)
        self._readers: dict[str, Callable[[WireMessage, float], list[Settlement]]] = {
            STATUSES: self.status_tracker.take,
            LOGS: self.log_collector.take,
            FAILED_JOBS: lambda message, _: self.dead_letters.take(message),
            REGISTRATIONS: self.registry.take_registration,
            HEARTBEATS: lambda message, _: self.registry.take_heartbeat(message),
            EXTERNAL_REGISTRATIONS: lambda message, _: self.external_tracker.take_job(message),
            EXTERNAL_OCCURRENCES: self.external_tracker.take_run,
        }

    # --- what tests set up ------------------------------------------------------------------------------------------

    def register_job(self, id: str, name: str, **properties: Any) -> Job:
        """Create a job; `properties` are those of `Job`."""
        job = self.database.jobs[id] = Job(id=id, name=name, **properties)
        return job

    def create_job(self, name: str, *, worker_id: str | None = None, **properties: Any) -> Job:
        """Create a job as over REST, for a registered worker that lists it in exactly this case (WIRE.md 3.6, 11).

        Without a worker id it is the only worker that does. Raises `ValueError`.
        """
        listing = [
            worker
            for worker in map(self.registry.read, list(self.workers))
            if worker is not None and name in worker.creatable_jobs and worker_id in {None, worker.id}
        ]
        if len(listing) != 1:
            known = {worker.id: worker.creatable_jobs for worker in self.workers.values()}
            raise ValueError(f"{len(listing)} workers list {name!r}; known are {known}")
        pattern = listing[0].registration.routing_patterns[name]
        identity = str(uuid4())
        return self.register_job(identity, name, worker_id=listing[0].id, routing_pattern=pattern, **properties)

    def job_named(self, name: str) -> Job | None:
        """The first job of this name."""
        return next((job for job in self.database.jobs.values() if job.name == name), None)

    def queued(self, occurrence_id: str, job_id: str, now: float | None = None) -> Occurrence:
        """Make an occurrence known that somebody else dispatches, created now or at the newest time seen."""
        return self.dispatcher.queued(occurrence_id, self.database.jobs[job_id], self._newest if now is None else now)

    def dispatch(self, job_id: str, now: float, data: object = None, *, sender: Sender = Sender.DISPATCHER) -> Dispatch:
        """Make a Queued occurrence and its message. `data` is JSON text, or a value to be written as such."""
        text = data if data is None or isinstance(data, str) else write(data)
        return self.dispatcher.dispatch(self.database.jobs[job_id], now, data=text, sender=sender)

    # --- what happens -----------------------------------------------------------------------------------------------

    def take(self, queue: str, message: WireMessage, now: float) -> list[Settlement]:
        """A message arrives from a queue; returns which deliveries are thereby settled.

        Raises `KeyError` for a queue that the API does not read.
        """
        self._newest = now
        return self._readers[queue](message, now)

    def tick(self, now: float) -> list[Settlement]:
        """Time passes; returns which deliveries are thereby settled."""
        self._newest = now
        settled = self.status_tracker.tick(now)
        self.log_collector.tick(now)
        self.registry.tick(now)
        self.zombie_detector.tick(now)
        return settled

    def cancel(self, occurrence_id: str, now: float, reason: str | None = None) -> str:
        """Cancel a running occurrence; returns the signal to publish. Raises `ValueError` when it is not running."""
        return self.dispatcher.cancel(occurrence_id, now, reason)

    def restart(self, now: float) -> None:
        """The API dies and comes back: memory is lost, old unfinished occurrences fail (RELIABILITY.md C9, C10)."""
        self.status_tracker.forget()
        self.log_collector.forget()
        self.dispatcher.recover(now)

    # --- what tests look at -----------------------------------------------------------------------------------------

    def occurrence(self, id: str) -> Occurrence:
        """An occurrence; raises `KeyError` for an unknown one."""
        return self.database.occurrences[id]

    @property
    def failed_occurrences(self) -> list[FailedOccurrence]:
        """What the DLQ made, in order."""
        return self.database.failed_occurrences

    @property
    def workers(self) -> dict[str, Worker]:
        """The registered workers by id."""
        return self.registry.workers

    @property
    def requeues(self) -> list[Requeue]:
        """What a real API would try for ever; must stay empty."""
        return self.findings.requeues

    @property
    def dropped(self) -> list[Dropped]:
        """What was thrown away."""
        return self.findings.dropped

    @property
    def complaints(self) -> list[Complaint]:
        """Which rules were broken."""
        return self.findings.complaints

    @property
    def notes(self) -> list[Complaint]:
        """What is allowed, but not the best."""
        return self.findings.notes

    @property
    def unstored(self) -> int:
        """Statuses and log entries that were taken and not yet processed."""
        return self.status_tracker.waiting + self.log_collector.waiting

    def report(self, allow: Collection[Rule] = ()) -> str:
        """The state of everything, for a person to read."""
        occurrences = list(self.database.occurrences.values())
        counts = Counter(getattr(occurrence.status, "name", occurrence.status) for occurrence in occurrences)
        open_ones = [occurrence for occurrence in occurrences if occurrence.status not in ENDS]
        workers = [
            f"{worker.id}: {worker.current_jobs} jobs in {sorted(worker.instances)}" for worker in self.workers.values()
        ]
        lines = [
            f"occurrences: {dict(counts) or 'none'}; failed occurrences: {len(self.failed_occurrences)}",
            f"workers: {workers or 'none'}; gone: {[(d.instance_id, d.why.value) for d in self.registry.departures]}",
            f"not yet stored: {self.status_tracker.waiting} statuses, {self.log_collector.waiting} log entries",
        ]
        shown = [
            f"  {occurrence.id} is {occurrence.status!r}, {len(occurrence.messages)} messages, last heartbeat "
            f"{occurrence.last_heartbeat}, changes {[int(change.after) for change in occurrence.status_changes]}"
            for occurrence in open_ones[:SHOWN]
        ]
        return "\n".join([lines[0], *shown, *lines[1:], self.findings.report(allow)])

    def assert_content(self, *, allow: Collection[Rule] = ()) -> None:
        """Nothing requeued, nothing dropped, no complaint but of rules in `allow`. Raises `AssertionError`."""
        if self.requeues or self.dropped or self.findings.not_allowed(allow):
            raise AssertionError(f"A Milvaion API would not be content.\n{self.report(allow)}")
