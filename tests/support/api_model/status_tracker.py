"""The status tracker (WIRE.md 4.2, 4.3): batches, the last message of an occurrence wins, ack after the store."""

import enum
from collections import deque
from collections.abc import Callable, Iterable

from attrs import define, field, frozen
from tests.support.api_model.conduct import Conduct
from tests.support.api_model.database import ENDS, FINAL, Arrival, Database, Occurrence, OccurrenceStatus
from tests.support.api_model.findings import Findings, Requeue
from tests.support.api_model.messages import Status, read_status
from tests.support.api_model.net_json import Unparsable
from tests.support.api_model.postgres import WORKER_ID, Refused, check_text
from tests.support.api_model.settings import ApiSettings, Generation
from tests.support.api_model.topology import STATUSES
from tests.support.api_model.wire_message import Settlement, Verdict, WireMessage

__all__ = ["Stored", "StatusTracker"]


class Effect(enum.Enum):
    """What a message does to the row."""

    NOTHING = "unknown occurrence or refused transition"
    HEARTBEAT = "only LastHeartbeat"
    STORE = "the whole row"


@frozen
class Stored:
    """A status that a batch stored."""

    occurrence: Occurrence
    status: int
    exception: str | None


@define(eq=False)
class StatusTracker:
    """`on_stored` is told what each batch stored: the circuit breaker counts it."""

    database: Database
    findings: Findings
    conduct: Conduct
    settings: ApiSettings
    on_stored: Callable[[Iterable[Stored], float], None]
    batch_sizes: list[int] = field(factory=list)
    """Of all batches so far."""
    instance_jobs: dict[tuple[str, str], int] = field(factory=dict)
    """Running jobs by instance and job id, as the API counts them: never below 0."""
    blocked: Requeue | None = None
    """Set when the database refuses a batch: from then on no status of any worker is handled."""
    _batch: list[Arrival] = field(factory=list)
    _behind: deque[Arrival] = field(factory=deque)
    """What a broker would hold back because of the prefetch, when messages are given without one."""
    _next: float | None = None

    def take(self, wire: WireMessage, now: float) -> list[Settlement]:
        """A message arrives."""
        self.conduct.judge_envelope(STATUSES, wire)
        try:
            status = read_status(wire.body, self.settings.generation.value)
        except Unparsable as error:
            self.findings.drop(STATUSES, str(error), wire)
            return [Settlement(STATUSES, wire, Verdict.DROP)]
        arrival = Arrival(status, wire, now)
        occurrence = self.database.occurrences.get(status.occurrence_id)
        copy = self.conduct.is_copy(STATUSES, wire, status.instance_id)
        self.conduct.judge_status(status, wire, occurrence, copy=copy)
        if occurrence is not None:
            occurrence.messages.append(arrival)
        self._behind.append(arrival)
        self._fill()
        if self.settings.generation is Generation.V1_0:
            return [Settlement(STATUSES, wire, Verdict.ACK)]
        return []

    def tick(self, now: float) -> list[Settlement]:
        """Process the batch when its interval is over."""
        if not self._batch or (self._next is not None and now < self._next):
            return []
        self._next = now + self.settings.status_interval
        effects = self._effects()
        try:
            for arrival, _, effect in effects:
                if effect is Effect.STORE:
                    _check(arrival.status)
        except Refused as refusal:
            self._stay_blocked(str(refusal), arrival.wire)
            return []
        self._store(effects, now)
        self.batch_sizes.append(len(self._batch))
        done = [Settlement(STATUSES, arrival.wire, Verdict.ACK) for arrival in self._batch]
        self._batch.clear()
        self._fill()
        return [] if self.settings.generation is Generation.V1_0 else done

    def forget(self) -> None:
        """The process ends: the broker delivers again what was not acknowledged."""
        self._batch.clear()
        self._behind.clear()
        self.blocked = self._next = None

    @property
    def waiting(self) -> int:
        """Messages taken and not yet processed."""
        return len(self._batch) + len(self._behind)

    def _fill(self) -> None:
        while self._behind and len(self._batch) < self.settings.status_prefetch:
            arrival = self._behind.popleft()
            # "At once, before anything else is checked": also for unknown occurrences and wrong job ids.
            if arrival.status.status == OccurrenceStatus.RUNNING:
                self.database.running.add(arrival.status.job_id)
            self._batch.append(arrival)

    def _effects(self) -> list[tuple[Arrival, Occurrence | None, Effect]]:
        last = {arrival.status.occurrence_id: arrival for arrival in self._batch}
        found = [(arrival, self.database.occurrences.get(identity)) for identity, arrival in last.items()]
        return [(arrival, occurrence, self._effect(arrival.status, occurrence)) for arrival, occurrence in found]

    def _effect(self, status: Status, occurrence: Occurrence | None) -> Effect:
        if occurrence is None:
            return Effect.NOTHING
        is_guarded = self.settings.generation is Generation.V1_1
        if is_guarded and occurrence.status in ENDS and status.status in {0, 1}:
            return Effect.NOTHING
        is_bare = status.end_time is None and status.duration_ms is None and not status.result
        if occurrence.status == status.status == OccurrenceStatus.RUNNING and is_bare:
            return Effect.HEARTBEAT
        return Effect.STORE

    def _stay_blocked(self, reason: str, wire: WireMessage) -> None:
        if self.blocked is None:
            self.blocked = self.findings.requeue(STATUSES, f"batch of {len(self._batch)}: {reason}", wire)
        else:
            self.blocked.times += 1

    def _store(self, effects: Iterable[tuple[Arrival, Occurrence | None, Effect]], now: float) -> None:
        stored = []
        for arrival, occurrence, effect in effects:
            if occurrence is None or effect is Effect.NOTHING:
                continue
            occurrence.last_heartbeat = now
            if effect is Effect.STORE:
                self._store_one(occurrence, arrival.status, now)
                stored.append(Stored(occurrence, arrival.status.status, arrival.status.exception))
        self.on_stored(stored, now)

    def _store_one(self, occurrence: Occurrence, status: Status, now: float) -> None:
        before = occurrence.status
        occurrence.set_status(_known(status.status), now)
        occurrence.worker_id = status.worker_id
        occurrence.start_time = status.start_time or occurrence.start_time
        occurrence.end_time = status.end_time or occurrence.end_time
        if status.duration_ms is not None:
            occurrence.duration_ms = status.duration_ms
        occurrence.result = status.result or occurrence.result
        occurrence.exception = status.exception or occurrence.exception
        if status.status == OccurrenceStatus.COMPLETED:
            occurrence.exception = None
        key = (status.instance_id or "", occurrence.job_id)
        if status.status == OccurrenceStatus.RUNNING:
            self.database.running.add(status.job_id)
            if before != OccurrenceStatus.RUNNING:
                self.instance_jobs[key] = self.instance_jobs.get(key, 0) + 1
        elif status.status in FINAL:
            self.database.running.discard(status.job_id)
            if before == OccurrenceStatus.RUNNING:
                self.instance_jobs[key] = max(0, self.instance_jobs.get(key, 0) - 1)


def _check(status: Status) -> None:
    check_text(status.worker_id, "WorkerId", limit=WORKER_ID)
    check_text(status.result, "Result")
    check_text(status.exception, "Exception")


def _known(status: int) -> OccurrenceStatus | int:
    try:
        return OccurrenceStatus(status)
    except ValueError:
        return status
