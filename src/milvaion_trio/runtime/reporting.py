"""Reporting: turns what happens to a run into rows of the outbox, in the order WIRE.md 3.8 asks for.

The only module that knows which message goes to which queue and which message id it carries.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from attrs import evolve

from milvaion_trio.model import headers, topology
from milvaion_trio.model.envelope import HeaderValue, Message, Publication
from milvaion_trio.model.errors import MilvaionError
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.identity import Identity
from milvaion_trio.model.ids import OccurrenceId, WorkerId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.messages import DeadLetter, JobMessage, LogEntry, LogLevel
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.wire import encode_dead_letter, status_body
from milvaion_trio.policy.admission import DEATHS_ALLOWED
from milvaion_trio.policy.lifecycle import Conclusion, SystemLog
from milvaion_trio.policy.system_logs import probation_log, redelivery_log
from milvaion_trio.ports import Delivery, Outbox, Report, ReportKind
from milvaion_trio.runtime.log_buffer import LogBuffer
from milvaion_trio.runtime.run import Run

__all__ = ["Reporter", "label"]

CONTENT_TYPE = "application/json"


class Reporter:
    """Statuses, heartbeats, logs, retry copies and dead letters of this worker's runs."""

    def __init__(self, identity: Identity, outbox: Outbox, now: Callable[[], Instant]) -> None:
        self._identity = identity
        self._outbox = outbox
        self._now = now
        self._sequence = 0
        self.logs: LogBuffer = LogBuffer(identity, outbox, now, partial(self._next_id, "log"))

    @property
    def instance_id(self) -> str:
        """The instance that reports."""
        return self._identity.instance_id

    # --- while the job runs -----------------------------------------------------------------------------------------

    def started(self, run: Run) -> None:
        """Running, with the start time. The job does not wait for its confirm."""
        if not run.reported:
            return
        at = run.started_at
        suffix = "running" if run.run_number == 1 else f"running:{run.run_number}"
        message_id = f"{label(run.attempt)}:{suffix}"
        self._outbox.add(
            self._status(ReportKind.RUNNING, message_id, run.occurrence_id, run.job, OccurrenceStatus.RUNNING, at, at)
        )

    def redelivered(self, run: Run) -> None:
        """Log entries for a run that may not be the first one of its attempt (WIRE.md 3.3)."""
        if run.reported:
            reason = "redelivered flag was set" if run.delivery.redelivered else "worker process died"
            self.system_log(run.occurrence_id, redelivery_log(reason, self.instance_id))
            if run.is_suspect:
                self.system_log(run.occurrence_id, probation_log(run.deaths, DEATHS_ALLOWED, self.instance_id))

    def heartbeat(self, run: Run) -> None:
        """A bare Running status: the occurrence is alive (WIRE.md 3.2)."""
        if not run.reported:
            return
        self._outbox.add(self._heartbeat(run.occurrence_id, run.job, self._identity.worker_id))

    def waiting(self, occurrence_id: OccurrenceId, job: JobMessage) -> Publication:
        """A heartbeat for an occurrence that waits for its retry, to be published right away; late it is worthless.

        Every worker of ours sends those of all others, so it names the group that the job belongs to.
        """
        return self._heartbeat(occurrence_id, job, self._group_of(job)).publication

    def log(
        self, run: Run, level: LogLevel, message: str, data: dict[str, object] | None, *, category: str = "UserCode"
    ) -> None:
        """Buffer an entry of the job's log; it leaves with its batch, at the latest with the conclusion.

        From any thread. Never raises, whatever the entry holds.
        """
        if run.reported:
            self.logs.log(run.occurrence_id, level, message, data, category)

    def system_log(self, occurrence_id: OccurrenceId, line: SystemLog) -> None:
        """Buffer an entry that the worker itself writes about an occurrence."""
        entry = LogEntry(
            timestamp=self._now(),
            level=line.level,
            message=line.message,
            data=line.data,
            category=line.category,
            exception_type=line.exception_type,
        )
        self.logs.take(occurrence_id, entry)

    # --- when it is over --------------------------------------------------------------------------------------------

    def conclude(
        self,
        delivery: Delivery,
        attempt: AttemptKey,
        job: JobMessage,
        conclusion: Conclusion,
        ended_at: Instant,
        *,
        reported: bool,
        max_retries: int = 0,
        started_at: Instant | None = None,
        elapsed: float | None = None,
    ) -> Awaitable[None]:
        """Write everything this conclusion publishes as one; what is returned ends when all of it is confirmed.

        If cancelled, the rows stay in the outbox; the delivery must then not be acked. No coroutine of its own: it
        would only stand between every job and the outbox.
        """
        reports: list[Report] = []
        occurrence_id = attempt.occurrence_id
        if reported:
            for line in conclusion.logs:
                self.system_log(occurrence_id, line)
            reports.extend(self.logs.rest_of(occurrence_id))
            if conclusion.status is not None:
                final = self._status(
                    ReportKind.FINAL,
                    f"{label(attempt)}:final",
                    occurrence_id,
                    job,
                    conclusion.status,
                    ended_at,
                    started_at,
                    ended_at,
                    duration_ms=None if elapsed is None else round(elapsed * 1000),
                    result=conclusion.result,
                    exception=conclusion.exception,
                    # What comes by the hop queue is of any group.
                    worker_id=self._group_of(job) if delivery.queue == topology.HOP_QUEUE else None,
                )
                reports.append(final)
            if conclusion.dead_letter is not None:
                reports.append(self._dead_letter(attempt, job, conclusion))
        if conclusion.retry is not None:
            reports.append(self._retry_copy(delivery, attempt, conclusion, max_retries))
        return self._outbox.conclude(attempt, reports)

    async def quarantine(self, delivery: Delivery, problem: str) -> None:
        """Keep a message that has no usable ids where a person can look at it; return when that is confirmed.

        If cancelled, the delivery must not be acked.
        """
        message = evolve(
            delivery.message,
            headers={
                **headers.passed_on(delivery.message.headers),
                headers.PROBLEM: problem,
                headers.FOUND_IN: delivery.queue,
            },
            persistent=True,
            message_id=self._next_id("quarantine"),
        )
        # No guid can be trusted here; a name of our own keeps this message's row apart from all others.
        attempt = AttemptKey(OccurrenceId(str(message.message_id)), None, 0, 0)
        publication = Publication(message, topology.QUARANTINE_QUEUE)
        await self._outbox.conclude(attempt, [Report(ReportKind.FINAL, publication, attempt.occurrence_id)])

    # --- the messages -----------------------------------------------------------------------------------------------

    def _group_of(self, job: JobMessage) -> WorkerId:
        """The worker group that the job belongs to: where its message does not say so, this one."""
        return WorkerId(job.worker_id) if job.worker_id else self._identity.worker_id

    def _heartbeat(self, occurrence_id: OccurrenceId, job: JobMessage, worker_id: WorkerId) -> Report:
        message_id, running = self._next_id("heartbeat"), OccurrenceStatus.RUNNING
        return self._status(
            ReportKind.HEARTBEAT, message_id, occurrence_id, job, running, self._now(), worker_id=worker_id
        )

    def _status(
        self,
        kind: ReportKind,
        message_id: str,
        occurrence_id: OccurrenceId,
        job: JobMessage,
        status: OccurrenceStatus,
        at: Instant,
        start_time: Instant | None = None,
        end_time: Instant | None = None,
        *,
        duration_ms: int | None = None,
        result: str | None = None,
        exception: str | None = None,
        worker_id: WorkerId | None = None,
    ) -> Report:
        identity = self._identity
        body = status_body(
            identity.dialect,
            occurrence_id,
            job.id,
            worker_id or identity.worker_id,
            identity.instance_id,
            status,
            at,
            start_time,
            end_time,
            duration_ms,
            result,
            exception,
        )
        message = Message(body=body, message_id=message_id, correlation_id=occurrence_id, content_type=CONTENT_TYPE)
        return Report(kind, Publication(message, topology.STATUS_QUEUE), occurrence_id)

    def _dead_letter(self, attempt: AttemptKey, job: JobMessage, conclusion: Conclusion) -> Report:
        facts = conclusion.dead_letter
        if facts is None or conclusion.status is None:
            raise MilvaionError("a dead letter needs a final status and its facts")
        body = encode_dead_letter(
            DeadLetter(
                id=job.id,
                display_name=job.display_name,
                job_name_in_worker=job.job_name_in_worker,
                job_data=job.job_data,
                execute_at=job.execute_at,
                status=conclusion.status,
                exception=facts.exception,
            )
        )
        message = Message(
            body=body,
            headers=self._copy_headers({}, attempt, facts.retry_count, facts.max_retries),
            message_id=f"{label(attempt)}:dead-letter",
            correlation_id=attempt.occurrence_id,
            content_type=CONTENT_TYPE,
        )
        publication = Publication(message, topology.DEAD_LETTER_KEY, topology.DEAD_LETTER_EXCHANGE)
        return Report(ReportKind.FINAL, publication, attempt.occurrence_id)

    def _retry_copy(self, delivery: Delivery, attempt: AttemptKey, conclusion: Conclusion, max_retries: int) -> Report:
        """The same body to the same queue, later: every reader takes both casings (WIRE.md 3.8), so nothing is lost."""
        copy = conclusion.retry
        if copy is None:
            raise MilvaionError("a retry copy needs a retry")
        original = delivery.message
        stamp = attempt.dispatch_stamp or str(self._now().to_datetime().timestamp())
        copied = self._copy_headers(original.headers, attempt, copy.retry_count, max_retries)
        copied[headers.DISPATCH_STAMP] = stamp
        copied[headers.SNOOZES] = copy.snoozes
        for name in headers.OF_PARKED:  # of an attempt that is over
            copied.pop(name, None)
        if (parked := copy.parked) is not None:
            known = zip(headers.OF_PARKED, (parked.count, parked.runs, parked.deaths), strict=True)
            copied |= {name: number for name, number in known if number}
        message = Message(
            body=original.body,
            headers=copied,
            message_id=f"{label(attempt)}:retry",
            correlation_id=attempt.occurrence_id,
            content_type=original.content_type or CONTENT_TYPE,
            timestamp=original.timestamp,
        )
        return Report(ReportKind.FINAL, Publication(message, delivery.queue, delay=copy.delay), attempt.occurrence_id)

    def _copy_headers(
        self, original: Mapping[str, HeaderValue], attempt: AttemptKey, retry_count: int, max_retries: int
    ) -> dict[str, HeaderValue]:
        copied = headers.passed_on(original)
        copied[headers.OCCURRENCE_ID] = attempt.occurrence_id
        copied[headers.CORRELATION_ID] = attempt.occurrence_id
        copied[headers.RETRY_COUNT] = retry_count
        copied[headers.MAX_RETRIES] = max_retries
        return copied

    def _next_id(self, kind: str) -> str:
        self._sequence += 1
        return f"{self._identity.instance_id}:{kind}:{self._sequence}"


def label(attempt: AttemptKey) -> str:
    """The attempt as text, the stem of its message ids: equal ids are equal messages (RELIABILITY.md 2.6, W12)."""
    return f"{attempt.occurrence_id}:{attempt.dispatch_stamp or '-'}:{attempt.retry_count}.{attempt.snoozes}"
