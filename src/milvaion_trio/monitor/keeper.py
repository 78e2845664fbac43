"""A batch of messages becomes rows: read, judged by `policy`, and written, all in one thread at a time.

Separate from the monitor because nothing here waits for anything but the store: it runs in a thread, so that a slow
disk stops no task, and what it decides is decided by one thread after the other.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from attrs import define, evolve, field, frozen

from milvaion_trio.model.errors import InvalidMessage, StoreUnavailable
from milvaion_trio.model.history import FailedOccurrence, InstanceRecord, LogLine, OccurrenceRecord, WorkerRecord
from milvaion_trio.model.ids import InstanceId, OccurrenceId, WorkerId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.messages import (
    DeadLetter,
    ExternalOccurrence,
    JobMessage,
    LogBatch,
    StatusUpdate,
    WorkerHeartbeat,
    WorkerRegistration,
)
from milvaion_trio.model.occurrence import FINAL, OccurrenceStatus
from milvaion_trio.model.schedule import RunEnd
from milvaion_trio.monitor.reading import News, read
from milvaion_trio.policy import keeping, tracking, worker_tracking
from milvaion_trio.ports import Delivery
from milvaion_trio.ports.history import HistoryStore, Rows

__all__ = ["Keeper", "Kept"]

ERROR_SHOWN: Final = 500
"""Characters of an error that a schedule keeps."""
LONGEST_KEY: Final = 255
"""Bytes of a binding key in AMQP."""
FORGET_AFTER: Final = 86_400.0
"""Seconds for which a process that is gone is still shown."""

_log = logging.getLogger("milvaion_trio.monitor")


@frozen
class Kept:
    """What became of a batch, besides what is in the store now."""

    unreadable: Sequence[tuple[Delivery, str]] = ()
    """Messages that say nothing, and why."""
    ends: Sequence[RunEnd] = ()
    """How scheduled runs ended."""


@define(eq=False)
class _Page:
    """What a batch changes, until it is written."""

    rows: dict[OccurrenceId, OccurrenceRecord]
    changed: dict[OccurrenceId, OccurrenceRecord] = field(factory=dict)
    lines: list[LogLine] = field(factory=list)
    failures: dict[OccurrenceId, FailedOccurrence] = field(factory=dict)
    workers: dict[WorkerId, WorkerRecord] = field(factory=dict)
    instances: dict[InstanceId, InstanceRecord] = field(factory=dict)

    def put(self, row: OccurrenceRecord) -> None:
        if self.rows.get(row.id) is not row:
            self.rows[row.id] = self.changed[row.id] = row


@define(eq=False)
class Keeper:
    """The one writer of a store, and what it must remember between two batches: the workers that there are."""

    store: HistoryStore
    now: Callable[[], Instant]
    reads_since: Instant | None = field(default=None, init=False)
    """Since when all that is said is heard: nobody is lost for a silence in which nobody listened. `None`: not now."""
    _workers: dict[WorkerId, WorkerRecord] = field(factory=dict, init=False)
    _instances: dict[InstanceId, InstanceRecord] = field(factory=dict, init=False)

    @property
    def patterns(self) -> frozenset[str]:
        """The routing patterns that workers have registered; those of external schedulers lead to no queue."""
        own = [worker for worker in self._workers.values() if not worker.is_external]
        return frozenset(
            pattern
            for worker in own
            for pattern in worker.routing_patterns.values()
            if len(pattern.encode(errors="replace")) <= LONGEST_KEY
        )

    def open(self) -> None:
        """Remember what the store knows; raises `StoreUnavailable`."""
        self._workers = {worker.worker_id: worker for worker in self.store.workers()}
        self._instances = {instance.instance_id: instance for instance in self.store.instances()}

    def keep(self, deliveries: Sequence[Delivery]) -> Kept:
        """Write what these say, all of it or raise `StoreUnavailable`.

        What the store cannot take for another reason is found by halves: one message must not stop all others.
        """
        problem: Exception
        try:
            return self._keep(deliveries)
        except StoreUnavailable:
            raise
        except Exception as error:
            problem = error
        if len(deliveries) == 1:
            [delivery] = deliveries
            _log.error("a message of %s cannot be kept", delivery.queue, exc_info=problem)
            return Kept([(delivery, f"{type(problem).__name__} while it was kept: {problem}")])
        half = len(deliveries) // 2
        first, second = self.keep(deliveries[:half]), self.keep(deliveries[half:])
        return Kept([*first.unreadable, *second.unreadable], [*first.ends, *second.ends])

    def _keep(self, deliveries: Sequence[Delivery]) -> Kept:
        unreadable: list[tuple[Delivery, str]] = []
        news: list[News] = []
        for delivery in deliveries:
            try:
                news.append(read(delivery.queue, delivery.message))
            except InvalidMessage as invalid:
                unreadable.append((delivery, invalid.problem))
        page = _Page(dict(self.store.load({each for one in news for each in one.about})))
        now = self.now()
        for one in news:
            self._write_down(one, page, now)
        if page.changed or page.lines or page.failures or page.workers or page.instances:
            self.store.save(
                Rows(
                    occurrences=list(page.changed.values()),
                    lines=page.lines,
                    failures=list(page.failures.values()),
                    workers=list(page.workers.values()),
                    instances=list(page.instances.values()),
                )
            )
            self._workers |= page.workers
            self._instances |= page.instances
        return Kept(unreadable, list(_ends(page.changed.values(), now)))

    def _write_down(self, news: News, page: _Page, now: Instant) -> None:
        match news.told:
            case StatusUpdate() as status:
                page.put(tracking.status_seen(page.rows.get(status.occurrence_id), status, now))
            case LogBatch() as logs:
                for occurrence_id in news.about:
                    page.put(tracking.heard_of(page.rows.get(occurrence_id), occurrence_id, now))
                page.lines += keeping.lines_of(logs, news.message.body)
            case JobMessage() as job:
                message, (occurrence_id,) = news.message, news.about
                before = page.rows.get(occurrence_id)
                page.put(tracking.dispatched(before, occurrence_id, job, message.headers, message.timestamp, now))
            case DeadLetter() as letter:
                self._put_dead_letter(letter, news, page, now)
            case ExternalOccurrence() as run:
                page.put(tracking.external_seen(page.rows.get(run.correlation_id), run, now))
            case WorkerRegistration() as registration:
                known = self._instance(registration.instance_id, page)
                worker, instance = worker_tracking.registered(known, registration, now)
                page.workers[worker.worker_id], page.instances[instance.instance_id] = worker, instance
            case WorkerHeartbeat() as heartbeat:
                known = self._instance(heartbeat.instance_id, page)
                page.instances[heartbeat.instance_id] = worker_tracking.heartbeat_seen(known, heartbeat, now)

    def _put_dead_letter(self, letter: DeadLetter, news: News, page: _Page, now: Instant) -> None:
        (occurrence_id,) = news.about
        row = page.rows.get(occurrence_id)
        page.put(tracking.heard_of(row, occurrence_id, now))
        known = self.store.failure(occurrence_id)
        if known is None or known.message != news.message.body:  # else it came again, and may be replayed already
            page.failures[occurrence_id] = keeping.dead_letter_read(row, occurrence_id, letter, news.message, now)

    def _instance(self, instance_id: InstanceId, page: _Page) -> InstanceRecord | None:
        return page.instances.get(instance_id) or self._instances.get(instance_id)

    # --- by the clock -----------------------------------------------------------------------------------------------

    def find_lost(self, timeout: float, limit: int) -> tuple[list[OccurrenceRecord], list[RunEnd]]:
        """Write down which of so many unfinished occurrences are lost, and return those."""
        now, since = self.now(), self.reads_since
        if since is None:
            return [], []
        # A job may say a shorter time than all others (WIRE.md 4.8).
        found = self.store.unfinished(now.plus(-min(timeout, tracking.SHORTEST)), limit)
        lost = [tracking.lost(row, now) for row in found if tracking.is_lost(_heard(row, since), now, timeout)]
        if lost:
            self.store.save(Rows(occurrences=lost))
        return lost, list(_ends(lost, now))

    def find_lost_instances(self) -> list[InstanceRecord]:
        """Write down which processes have been silent for too long, forget those of yesterday, and return the first."""
        now, since = self.now(), self.reads_since
        if since is None:
            return []
        lost = [
            worker_tracking.instance_lost(instance, now)
            for instance in self._instances.values()
            if worker_tracking.is_instance_lost(
                evolve(instance, last_heartbeat=_later(instance.last_heartbeat, since)),
                self._workers.get(instance.worker_id),
                now,
            )
        ]
        if lost:
            self.store.save(Rows(instances=lost))
            self._instances |= {instance.instance_id: instance for instance in lost}
        gone = [one.instance_id for one in self._instances.values() if _is_of_yesterday(one, now)]
        if gone:
            self.store.forget_instances(gone)
            for instance_id in gone:
                del self._instances[instance_id]
        return lost

    def delete_old(self, days: float, limit: int) -> int:
        """Delete at most so many occurrences that are older than that, and return how many there were."""
        return self.store.delete_before(self.now().plus(-days * 86_400.0), limit)


def _heard(row: OccurrenceRecord, since: Instant) -> OccurrenceRecord:
    """The row as if something had been heard of it at that time."""
    last_heard = None if row.last_heard is None else _later(row.last_heard, since)
    return evolve(row, created_at=_later(row.created_at, since), last_heard=last_heard)


def _later(one: Instant, other: Instant) -> Instant:
    return one if one.utc_ticks >= other.utc_ticks else other


def _is_of_yesterday(instance: InstanceRecord, now: Instant) -> bool:
    is_gone = instance.lost_at is not None or instance.stopped_at is not None
    return is_gone and now.utc_ticks - instance.last_heartbeat.utc_ticks > FORGET_AFTER * 10_000_000


def _ends(rows: Collection[OccurrenceRecord], now: Instant) -> Iterator[RunEnd]:
    """The ends among these of scheduled occurrences."""
    for row in rows:
        if row.schedule_id is None or row.tick is None:
            continue
        if row.status in FINAL or row.status == OccurrenceStatus.UNKNOWN:
            yield RunEnd(
                schedule_id=row.schedule_id,
                tick=row.tick,
                status=row.status,
                at=(row.end_time or now).unix_ms,
                error=(row.exception or "")[:ERROR_SHOWN],
            )
