"""The circuit breaker of jobs that fail again and again (WIRE.md 4.4)."""

from collections.abc import Iterable

from attrs import define
from tests.support.api_model.database import Database, Job, OccurrenceStatus
from tests.support.api_model.settings import ApiSettings
from tests.support.api_model.status_tracker import Stored

__all__ = ["AutoDisable"]


@define(eq=False)
class AutoDisable:
    """Counts the failures in a row of each job, by what the status tracker stores."""

    database: Database
    settings: ApiSettings

    def count(self, batch: Iterable[Stored], now: float) -> None:
        """Count a batch: at most once per job."""
        counted: set[str] = set()
        for stored in batch:
            job = self.database.jobs.get(stored.occurrence.job_id)
            if job is None or not job.auto_disable or job.id in counted:
                continue
            if stored.status == OccurrenceStatus.COMPLETED:
                job.failures_in_a_row = 0
                counted.add(job.id)
            elif stored.status == OccurrenceStatus.FAILED:
                self._count_failure(job, stored.exception, now)
                counted.add(job.id)

    def _count_failure(self, job: Job, exception: str | None, now: float) -> None:
        window = self.settings.auto_disable_window_minutes * 60
        is_fresh = job.last_failure_at is None or now - job.last_failure_at <= window
        job.failures_in_a_row = job.failures_in_a_row + 1 if is_fresh else 1
        job.last_failure_at = now
        if job.is_active and job.failures_in_a_row >= self.settings.auto_disable_threshold:
            job.is_active = False
            job.disabled_at = now
            job.disable_reason = (exception or "")[:200]
