"""How messages change what is known of an occurrence: its row before and the message in, its row after out.

A Milvaion API's rules (WIRE.md 4.3, 4.8, 4.9) with these differences: every message of an occurrence counts, not only
the last of a batch; an occurrence that nobody told of before is made; runs are counted. What was read twice changes
nothing the second time but when it was heard of, so that a monitor may die between its write and its acknowledgement.
A message that is refused gives back the very row that was found.
Workers are in `policy.worker_tracking`; the lines and dead letters of an occurrence, which change no row, in
`policy.keeping`.
"""

from collections.abc import Mapping
from typing import Final

from attrs import evolve

from milvaion_trio.model.envelope import HeaderValue
from milvaion_trio.model.headers import SCHEDULE, TICK, text
from milvaion_trio.model.history import OccurrenceRecord, StatusChange
from milvaion_trio.model.ids import OccurrenceId, WorkerId
from milvaion_trio.model.instant import MINIMUM, Instant
from milvaion_trio.model.messages import EMPTY_GUID, ExternalOccurrence, JobMessage, StatusUpdate
from milvaion_trio.model.occurrence import OccurrenceStatus

__all__ = [
    "MAX_CHANGES",
    "SHORTEST",
    "dispatched",
    "external_seen",
    "heard_of",
    "is_lost",
    "lost",
    "status_seen",
    "unfinished_since",
]

MAX_CHANGES: Final = 100
"""Status changes that a row keeps."""
PROMPT: Final = 5.0
"""Seconds: what was dispatched so lately was read at once, and our clock tells its time better than AMQP's seconds."""
SAME_START: Final = 1.0
"""Seconds: at its end a .NET worker tells another start of the same attempt than at its start, some ms later."""
SHORTEST: Final = 60.0
"""Seconds: the shortest `zombie_timeout` that a job can have, as it is told in minutes."""
_LONGEST: Final = 1e11
"""Seconds, 3,000 years: databases have integers of 64 bits."""

_S = OccurrenceStatus
_ENDS: Final = frozenset((_S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.TIMED_OUT))
"""What no Queued or Running may follow (WIRE.md 4.2)."""
_REPEATABLE: Final = frozenset((_S.FAILED, _S.TIMED_OUT, _S.UNKNOWN))
"""What a workflow dispatches again under the same id (WIRE.md 12.1)."""


def heard_of(row: OccurrenceRecord | None, occurrence_id: OccurrenceId, now: Instant) -> OccurrenceRecord:
    """The row, or a new one: for lines and dead letters of an occurrence of which nothing else was read yet.

    Without a row they would be found by nobody, and kept for ever.
    """
    return row or OccurrenceRecord(id=occurrence_id, created_at=now)


def dispatched(
    row: OccurrenceRecord | None,
    occurrence_id: OccurrenceId,
    job: JobMessage,
    headers: Mapping[str, HeaderValue],
    timestamp: int | None,
    now: Instant,
) -> OccurrenceRecord:
    """A copy of a dispatch was read; `timestamp` is its AMQP property, in Unix seconds.

    It may come after statuses of the occurrence: its status is left, and what they could not tell is filled in.
    """
    sent = None if timestamp is None else _unix(timestamp)
    tick = _tick(headers)
    if row is None:
        # The time of a tick may be long past when it is made up for, and is no time of a dispatch.
        created = now if tick is not None or sent is None else _sent_at(sent, job.execute_at, now)
        row = OccurrenceRecord(id=occurrence_id, created_at=created)
    elif _is_repeated(row, sent):
        changes = _changes(row, _S.QUEUED, now)
        row = evolve(row, status=_S.QUEUED, changes=changes, end_time=None, exception=None)
    minutes = job.zombie_timeout_minutes
    return evolve(
        row,
        job_id=job.id if job.id != EMPTY_GUID else row.job_id,
        job_name=job.job_name_in_worker or row.job_name,
        display_name=job.display_name or row.display_name,
        worker_id=row.worker_id or (WorkerId(job.worker_id) if job.worker_id else None),
        execute_at=_given(job.execute_at) or (None if tick is None else _unix(tick / 1000)) or row.execute_at,
        job_data=job.job_data or row.job_data,
        pattern=job.routing_pattern or row.pattern,
        zombie_timeout=minutes * 60.0 if minutes is not None and minutes > 0 else row.zombie_timeout,
        schedule_id=text(headers.get(SCHEDULE)) or row.schedule_id,
        tick=row.tick if tick is None else tick,
    )


def status_seen(row: OccurrenceRecord | None, status: StatusUpdate, now: Instant) -> OccurrenceRecord:
    """A status or a heartbeat was read."""
    row = row or OccurrenceRecord(id=status.occurrence_id, created_at=now)
    if _is_refused(row, status.status):
        return row
    runs, run_started = _runs(row, status.start_time, status.status)
    return evolve(
        row if _is_heartbeat(row, status) else _with_status(row, status, now),
        job_id=row.job_id or (status.job_id if status.job_id != EMPTY_GUID else None),
        instance_id=status.instance_id or row.instance_id,
        runs=runs,
        run_started=run_started,
        last_heard=now,
    )


def external_seen(row: OccurrenceRecord | None, run: ExternalOccurrence, now: Instant) -> OccurrenceRecord:
    """An event of a run of another scheduler was read (WIRE.md 3.7); its end may come before its start."""
    row = row or OccurrenceRecord(id=run.correlation_id, created_at=now)
    start = run.start_time or (run.actual_fire_time if run.status == _S.RUNNING else None)
    runs, run_started = _runs(row, start, run.status)
    return evolve(
        row if _is_refused(row, run.status) else _with_status(row, run, now),
        job_name=run.external_job_id or row.job_name,
        display_name=run.job_type_name or row.display_name,
        worker_id=run.worker_id or row.worker_id,
        execute_at=run.scheduled_fire_time or row.execute_at,
        external_id=run.external_occurrence_id or row.external_id,
        source=run.source or row.source,
        start_time=row.start_time or start,
        runs=runs,
        run_started=run_started,
        last_heard=now,
    )


def is_lost(row: OccurrenceRecord, now: Instant, timeout: float) -> bool:
    """Whether nothing was heard of it for too long (WIRE.md 4.8).

    `timeout` in seconds. What its job says itself counts while it waits, and where it is the longer one while it runs:
    heartbeats come every minute, whatever a job says.
    """
    since, own = _silent_since(row), row.zombie_timeout
    if since is None:
        return False
    limit = max(timeout, own or 0) if row.status == _S.RUNNING or own is None else own
    return now.utc_ticks - since > limit * 10_000_000


def unfinished_since(row: OccurrenceRecord) -> int | None:
    """The time by which `HistoryStore.unfinished` finds and orders it, in ticks; `None` where it has ended."""
    since, own = _silent_since(row), min(row.zombie_timeout or 0, _LONGEST)
    return None if since is None else since + round(max(own - SHORTEST, 0) * 10_000_000)


def lost(row: OccurrenceRecord, now: Instant) -> OccurrenceRecord:
    """The occurrence is taken for lost: Unknown, which it leaves again with the next message of it."""
    what = "no worker has started it" if row.status == _S.QUEUED else "nothing was heard of it for too long"
    return evolve(
        row,
        status=_S.UNKNOWN,
        changes=_changes(row, _S.UNKNOWN, now),
        end_time=now,
        exception=f"Zombie: {what}. The next message of it will heal this.",
    )


def _silent_since(row: OccurrenceRecord) -> int | None:
    if row.status == _S.QUEUED:
        return max(row.created_at.utc_ticks, row.execute_at.utc_ticks if row.execute_at else 0)
    if row.status == _S.RUNNING:
        return (row.last_heard or row.created_at).utc_ticks
    return None


def _is_refused(row: OccurrenceRecord, status: OccurrenceStatus | int) -> bool:
    return row.status in _ENDS and status in (_S.QUEUED, _S.RUNNING)


def _is_repeated(row: OccurrenceRecord, sent: Instant | None) -> bool:
    """Whether a dispatch is a new one of an occurrence that has ended, and not the first one read late."""
    if row.status not in _REPEATABLE or sent is None or row.end_time is None:
        return False
    return sent.utc_ticks > row.end_time.utc_ticks


def _is_heartbeat(row: OccurrenceRecord, status: StatusUpdate) -> bool:
    """Of one that runs, neither start nor worker are taken: so retries keep the first attempt's start.

    Which instance runs it is taken all the same; a Milvaion API does not keep it.
    """
    has_end = status.end_time is not None or status.duration_ms is not None or bool(status.result)
    return row.status == status.status == _S.RUNNING and not has_end


def _with_status(row: OccurrenceRecord, told: StatusUpdate | ExternalOccurrence, now: Instant) -> OccurrenceRecord:
    """The row with this status and what came with it; what did not come with it stays."""
    # When it goes on after all, what its supposed end left is not true any more. What Queued told is kept as any other
    # word of before: so does a Milvaion API (WIRE.md 4.3).
    goes_on = told.status in (_S.QUEUED, _S.RUNNING) and row.status not in (_S.QUEUED, told.status)
    return evolve(
        row,
        status=told.status,
        changes=_changes(row, told.status, now),
        worker_id=told.worker_id or row.worker_id,
        start_time=told.start_time or row.start_time,
        end_time=told.end_time or (None if goes_on else row.end_time),
        duration_ms=row.duration_ms if told.duration_ms is None else told.duration_ms,
        result=told.result or row.result,
        exception=None if told.status == _S.COMPLETED else told.exception or (None if goes_on else row.exception),
    )


def _changes(row: OccurrenceRecord, status: OccurrenceStatus | int, now: Instant) -> tuple[StatusChange, ...]:
    return row.changes if status == row.status else (*row.changes, StatusChange(now, row.status, status))[-MAX_CHANGES:]


def _runs(row: OccurrenceRecord, start: Instant | None, status: OccurrenceStatus | int) -> tuple[int, Instant | None]:
    """How many there were, and when the last one started: only a later start is one more."""
    same = 0.0 if status == _S.RUNNING else SAME_START
    last = row.run_started
    if start is None or (last is not None and start.utc_ticks - last.utc_ticks <= same * 10_000_000):
        return row.runs, last
    return row.runs + 1, start


def _sent_at(sent: Instant, execute_at: Instant, now: Instant) -> Instant:
    """When it was dispatched: `sent` has whole seconds; what is to run at once says its time exactly."""
    if 0 <= execute_at.utc_ticks - sent.utc_ticks < 10_000_000 and execute_at.utc_ticks <= now.utc_ticks:
        return execute_at
    return sent if now.utc_ticks - sent.utc_ticks > PROMPT * 10_000_000 else now


def _given(moment: Instant) -> Instant | None:
    return None if moment.ticks == MINIMUM.ticks else moment


def _unix(seconds: float) -> Instant | None:
    try:
        return Instant.from_unix_ms(round(seconds * 1000))
    except (ValueError, OverflowError):  # anybody may have written it
        return None


def _tick(headers: Mapping[str, HeaderValue]) -> int | None:
    told = text(headers.get(TICK))
    return int(told) if told is not None and told.isascii() and told.isdigit() and len(told) < 16 else None
