"""Reporting: turns what happens to a run into rows of the outbox, in the order WIRE.md 3.8 asks for.

The only module that knows which message goes to which queue and which message id it carries.
"""

from collections import deque
from collections.abc import Callable, Mapping

import trio
from attrs import evolve

from milvaion_trio.model import headers, topology
from milvaion_trio.model.envelope import HeaderValue, Message, Publication
from milvaion_trio.model.errors import MilvaionError
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.identity import Identity
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.json_text import JsonValue
from milvaion_trio.model.jsonable import jsonable
from milvaion_trio.model.messages import DeadLetter, JobMessage, LogEntry, LogLevel, LogRecord, StatusUpdate
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.wire import encode_dead_letter, encode_logs, encode_status
from milvaion_trio.policy.lifecycle import Conclusion, SystemLog
from milvaion_trio.ports import Delivery, Outbox, Report, ReportKind
from milvaion_trio.runtime.run import Run

__all__ = ["Reporter", "loggable"]

BATCH_SIZE = 50
"""Entries per log message, as the .NET worker (WIRE.md 3.3)."""

BATCH_DELAY = 0.5
"""Seconds an entry waits for company, as the .NET worker (WIRE.md 3.3)."""

CONTENT_TYPE = "application/json"


class Reporter:
    """Statuses, heartbeats, logs, retry copies and dead letters of this worker's runs."""

    def __init__(self, identity: Identity, outbox: Outbox, now: Callable[[], Instant]) -> None:
        self._identity = identity
        self._outbox = outbox
        self._now = now
        self._entries: deque[LogRecord] = deque()
        self._dropped: dict[OccurrenceId, int] = {}
        self._first_entry = trio.Event()
        self._sequence = 0

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
        update = self._status(run.occurrence_id, run.job, OccurrenceStatus.RUNNING, at, start_time=at)
        suffix = "running" if run.run_number == 1 else f"running:{run.run_number}"
        self._outbox.add(self._status_report(ReportKind.RUNNING, update, f"{label(run.attempt)}:{suffix}"))

    def redelivered(self, run: Run) -> None:
        """A log entry for a run that may not be the first one of its attempt (WIRE.md 3.3)."""
        if run.reported:
            data: dict[str, JsonValue] = {"Reason": "redelivered flag was set", "WorkerId": self.instance_id}
            message = "Delivered again by the broker, running it from the start"
            self.system_log(run.occurrence_id, SystemLog(LogLevel.WARNING, message, "Redelivery", data))

    def heartbeat(self, run: Run) -> None:
        """A bare Running status: the occurrence is alive (WIRE.md 3.2)."""
        if not run.reported:
            return
        update = self._status(run.occurrence_id, run.job, OccurrenceStatus.RUNNING, self._now())
        self._outbox.add(self._status_report(ReportKind.HEARTBEAT, update, self._next_id("heartbeat")))

    def log(
        self, run: Run, level: LogLevel, message: str, data: dict[str, object] | None, *, category: str = "UserCode"
    ) -> None:
        """Buffer an entry of the job's log; it leaves with its batch, at the latest with the conclusion."""
        if not run.reported:
            return
        entry = LogEntry(
            timestamp=self._now(),
            level=level,
            message=message,
            data=None if data is None else {name: loggable(value) for name, value in data.items()},
            category=category,
        )
        self._buffer(run.occurrence_id, entry)

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
        self._buffer(occurrence_id, entry)

    async def flush_logs_regularly(self) -> None:
        """Send what is buffered every half second, counted from the first entry. Runs until cancelled."""
        while True:
            await self._first_entry.wait()
            await trio.sleep(BATCH_DELAY)
            self.flush_logs()

    def flush_logs(self) -> None:
        """Hand every buffered entry to the outbox."""
        while self._entries:
            batch = [self._entries.popleft() for _ in range(min(len(self._entries), BATCH_SIZE))]
            for report in self._log_reports(batch):
                if not self._outbox.add(report):
                    for record in batch:
                        self._dropped[record.occurrence_id] = self._dropped.get(record.occurrence_id, 0) + 1
        if self._first_entry.is_set():
            self._first_entry = trio.Event()

    # --- when it is over --------------------------------------------------------------------------------------------

    async def conclude(
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
    ) -> None:
        """Write everything this conclusion publishes as one, and return when all of it is confirmed.

        If cancelled, the rows stay in the outbox; the delivery must then not be acked.
        """
        reports: list[Report] = []
        occurrence_id = attempt.occurrence_id
        if reported:
            for line in conclusion.logs:
                self.system_log(occurrence_id, line)
            reports.extend(self._last_logs(occurrence_id))
            if conclusion.status is not None:
                update = self._status(
                    occurrence_id,
                    job,
                    conclusion.status,
                    ended_at,
                    start_time=started_at,
                    end_time=ended_at,
                    duration_ms=None if elapsed is None else round(elapsed * 1000),
                    result=conclusion.result,
                    exception=conclusion.exception,
                )
                reports.append(self._status_report(ReportKind.FINAL, update, f"{label(attempt)}:final"))
            if conclusion.dead_letter is not None:
                reports.append(self._dead_letter(attempt, job, conclusion))
        if conclusion.retry is not None:
            reports.append(self._retry_copy(delivery, attempt, conclusion, max_retries))
        await self._outbox.conclude(attempt, reports)

    async def quarantine(self, delivery: Delivery, problem: str) -> None:
        """Keep a message that has no usable ids where a person can look at it; return when that is confirmed.

        If cancelled, the delivery must not be acked.
        """
        message = evolve(
            delivery.message,
            headers={
                **headers.without_death(delivery.message.headers),
                "x-mtrio-problem": problem,
                "x-mtrio-queue": delivery.queue,
            },
            persistent=True,
            message_id=self._next_id("quarantine"),
        )
        # No guid can be trusted here; a name of our own keeps this message's row apart from all others.
        attempt = AttemptKey(OccurrenceId(str(message.message_id)), None, 0, 0)
        publication = Publication(message, topology.QUARANTINE_QUEUE)
        await self._outbox.conclude(attempt, [Report(ReportKind.FINAL, publication, attempt.occurrence_id)])

    # --- the messages -----------------------------------------------------------------------------------------------

    def _status(
        self,
        occurrence_id: OccurrenceId,
        job: JobMessage,
        status: OccurrenceStatus,
        at: Instant,
        *,
        start_time: Instant | None = None,
        end_time: Instant | None = None,
        duration_ms: int | None = None,
        result: str | None = None,
        exception: str | None = None,
    ) -> StatusUpdate:
        return StatusUpdate(
            occurrence_id=occurrence_id,
            job_id=job.id,
            worker_id=self._identity.worker_id,
            instance_id=self._identity.instance_id,
            status=status,
            start_time=start_time,
            end_time=end_time,
            duration_ms=duration_ms,
            result=result,
            exception=exception,
            message_timestamp=at,
        )

    def _status_report(self, kind: ReportKind, update: StatusUpdate, message_id: str) -> Report:
        message = Message(
            body=encode_status(update, self._identity.dialect),
            message_id=message_id,
            correlation_id=update.occurrence_id,
            content_type=CONTENT_TYPE,
        )
        return Report(kind, Publication(message, topology.STATUS_QUEUE), update.occurrence_id)

    def _buffer(self, occurrence_id: OccurrenceId, entry: LogEntry) -> None:
        record = LogRecord(
            occurrence_id=occurrence_id,
            worker_id=self._identity.instance_id,
            log=entry,
            message_timestamp=entry.timestamp,
        )
        self._entries.append(record)
        if len(self._entries) >= BATCH_SIZE:
            self.flush_logs()
        elif not self._first_entry.is_set():
            self._first_entry.set()

    def _last_logs(self, occurrence_id: OccurrenceId) -> list[Report]:
        """The occurrence's buffered entries, and a word about those that were dropped."""
        dropped = self._dropped.pop(occurrence_id, 0)
        if dropped:
            line = SystemLog(
                level=LogLevel.WARNING,
                message=f"{dropped} log lines were dropped: the broker was away and the buffer for logs was full",
                category="UserCode",
                data={"DroppedLines": dropped},
                exception_type=None,
            )
            self.system_log(occurrence_id, line)
        if not self._entries:
            return []
        own = [record for record in self._entries if record.occurrence_id == occurrence_id]
        if own:
            self._entries = deque(record for record in self._entries if record.occurrence_id != occurrence_id)
        return [
            report
            for start in range(0, len(own), BATCH_SIZE)
            for report in self._log_reports(own[start : start + BATCH_SIZE])
        ]

    def _log_reports(self, records: list[LogRecord]) -> list[Report]:
        occurrences = {record.occurrence_id for record in records}
        only = occurrences.pop() if len(occurrences) == 1 else None
        return [
            Report(
                ReportKind.LOG,
                Publication(
                    Message(body=body, message_id=self._next_id("log"), content_type=CONTENT_TYPE),
                    topology.LOGS_QUEUE,
                ),
                only,
            )
            for body in encode_logs(records, self._now(), self._identity.dialect)
        ]

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
        copied = headers.without_death(original)
        copied[headers.OCCURRENCE_ID] = attempt.occurrence_id
        copied[headers.CORRELATION_ID] = attempt.occurrence_id
        copied[headers.RETRY_COUNT] = retry_count
        copied[headers.MAX_RETRIES] = max_retries
        return copied

    def _next_id(self, kind: str) -> str:
        self._sequence += 1
        return f"{self._identity.instance_id}:{kind}:{self._sequence}"


def loggable(value: object) -> JsonValue:
    """A log entry's fact as JSON; what has no JSON form is shown as its repr, for a log must never fail its job."""
    try:
        return jsonable(value)
    except (TypeError, ValueError):
        try:
            return repr(value)
        except Exception as error:
            return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


def label(attempt: AttemptKey) -> str:
    """The attempt as text, the stem of its message ids: equal ids are equal messages (RELIABILITY.md 2.6, W12)."""
    return f"{attempt.occurrence_id}:{attempt.dispatch_stamp or '-'}:{attempt.retry_count}.{attempt.snoozes}"
