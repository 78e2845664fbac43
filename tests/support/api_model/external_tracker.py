"""The tracker of schedulers that only report (WIRE.md 4.9): acknowledged first, stored later, lost as a whole."""

from typing import Final

from attrs import define, field
from tests.support.api_model.conduct import Conduct
from tests.support.api_model.database import Database, Job, Occurrence, OccurrenceStatus
from tests.support.api_model.findings import Findings, Rule
from tests.support.api_model.messages import ExternalJob, ExternalRun, read_external_job, read_external_run
from tests.support.api_model.net_json import Unparsable
from tests.support.api_model.postgres import DISPLAY_NAME, EXTERNAL_ID, WORKER_ID, Refused, check_json_text, check_text
from tests.support.api_model.topology import EXTERNAL_OCCURRENCES, EXTERNAL_REGISTRATIONS
from tests.support.api_model.wire_message import Settlement, Verdict, WireMessage
from tests.support.api_model.worker_registry import WorkerRegistry

__all__ = ["ExternalTracker"]

STARTING: Final = 0
VETOED: Final = 2


@define(eq=False)
class ExternalTracker:
    """Jobs and runs of external schedulers; each message is a batch of its own."""

    database: Database
    findings: Findings
    conduct: Conduct
    registry: WorkerRegistry
    _sequence: int = field(default=0)

    def take_job(self, wire: WireMessage) -> list[Settlement]:
        """The registration of a job arrives."""
        self.conduct.judge_envelope(EXTERNAL_REGISTRATIONS, wire)
        try:
            job = read_external_job(wire.body)
        except Unparsable as error:
            self.findings.drop(EXTERNAL_REGISTRATIONS, str(error), wire)
            return [Settlement(EXTERNAL_REGISTRATIONS, wire, Verdict.DROP)]
        try:
            self._store_job(job, wire)
        except Refused as refusal:
            self.findings.drop(EXTERNAL_REGISTRATIONS, f"lost with its batch: {refusal}", wire)
        return [Settlement(EXTERNAL_REGISTRATIONS, wire, Verdict.ACK)]

    def take_run(self, wire: WireMessage, now: float) -> list[Settlement]:
        """An event of a run arrives."""
        self.conduct.judge_envelope(EXTERNAL_OCCURRENCES, wire)
        try:
            run = read_external_run(wire.body)
        except Unparsable as error:
            self.findings.drop(EXTERNAL_OCCURRENCES, str(error), wire)
            return [Settlement(EXTERNAL_OCCURRENCES, wire, Verdict.DROP)]
        try:
            self._store_run(run, wire, now)
        except Refused as refusal:
            self.findings.drop(EXTERNAL_OCCURRENCES, f"lost with its batch: {refusal}", wire)
        return [Settlement(EXTERNAL_OCCURRENCES, wire, Verdict.ACK)]

    def _store_job(self, job: ExternalJob, wire: WireMessage) -> None:
        check_text(job.external_id, "ExternalJobId", limit=EXTERNAL_ID, required=True)
        check_text(job.display_name, "DisplayName", limit=DISPLAY_NAME, required=True)
        for name in ("description", "cron", "tags", "source", "job_type_name"):
            check_text(getattr(job, name), name)
        check_json_text(job.job_data, "JobData")
        known = self._job(job.external_id)
        if known is None:
            worker = self.registry.read(job.worker_id or "")
            if worker is None or job.external_id not in worker.registration.job_types:
                about = f"{job.worker_id} is not there or does not list {job.external_id}: the job is lost"
                self.findings.complain(Rule.EXTERNAL, about, wire)
                return
            self._sequence += 1
            known = Job(
                id=f"00000000-0000-7000-8000-{self._sequence:012x}",
                name=job.external_id or "",
                worker_id=job.worker_id,
                external_id=job.external_id,
                tags=f"source:{job.source}{f',{job.tags}' if job.tags else ''}",
                skips_when_running=False,
                auto_disable=False,
            )
            self.database.jobs[known.id] = known
        known.display_name = job.display_name or ""
        known.description, known.cron, known.data = job.description, job.cron, job.job_data
        known.is_active = job.is_active

    def _store_run(self, run: ExternalRun, wire: WireMessage, now: float) -> None:
        check_text(run.external_id, "ExternalJobId", limit=EXTERNAL_ID)
        check_text(run.external_occurrence_id, "ExternalOccurrenceId", limit=EXTERNAL_ID)
        check_text(run.worker_id, "WorkerId", limit=WORKER_ID)
        check_text(run.result, "Result")
        check_text(run.exception, "Exception")
        occurrence = self.database.occurrences.get(run.correlation_id)
        if run.event_type == STARTING and occurrence is None:
            self._start(run, wire, now)
        elif occurrence is None:
            if run.event_type != VETOED:  # a veto never had a start, and is always dropped
                self.findings.complain(Rule.EXTERNAL, f"{run.correlation_id}: an end without a start", wire)
        else:
            occurrence.set_status(OccurrenceStatus(run.status), now)
            occurrence.end_time = run.end_time or occurrence.end_time
            occurrence.duration_ms = run.duration_ms
            occurrence.result, occurrence.exception = run.result, run.exception

    def _start(self, run: ExternalRun, wire: WireMessage, now: float) -> None:
        job = self._job(run.external_id)
        if job is None:
            self.findings.complain(Rule.EXTERNAL, f"{run.external_id}: a run of an unknown job", wire)
            return
        self.database.occurrences[run.correlation_id] = Occurrence(
            id=run.correlation_id,
            job_id=job.id,
            created_at=now,
            status=OccurrenceStatus.RUNNING,
            worker_id=run.worker_id,
            start_time=run.start_time or run.actual_fire_time,
            is_external=True,
            external_id=run.external_occurrence_id,
        )

    def _job(self, external_id: str | None) -> Job | None:
        found = (job for job in self.database.jobs.values() if job.external_id is not None)
        return next((job for job in found if job.external_id == external_id), None)
