"""The message of a tick: what Milvaion's dispatcher would send, and our headers.

Separate from the dispatcher: whoever leads, and however often, makes the same bytes of the same tick.
"""

from milvaion_trio.model import headers
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.messages import JobMessage
from milvaion_trio.model.schedule import Cron, Entry, Millis, Once, Overlap, job_id_of, occurrence_id_of
from milvaion_trio.runtime.dispatching import Destination, dispatch

__all__ = ["ORIGIN", "tick_message"]

ORIGIN = "scheduler"
"""What tells workers that no Milvaion API knows the occurrence."""

_QUEUE_POLICY = 1
"""Milvaion's number for what it calls Queue (WIRE.md 2.2); ours that it has not count as Skip, its 0."""


def tick_message(entry: Entry, tick: Millis, *, is_local: bool = True) -> Publication:
    """What makes this tick run; `is_local` where no Milvaion API knows the occurrences of this scheduler.

    Its timestamp is the tick's and not the publish's, so that a second message of the tick is the same attempt to
    every worker (DESIGN.md 5).
    """
    schedule = entry.schedule
    job = JobMessage(
        id=job_id_of(schedule.id),
        display_name=schedule.id,
        job_name_in_worker=schedule.job,
        job_data=schedule.data,
        execute_at=Instant.from_unix_ms(tick),
        cron_expression=schedule.when.expression if isinstance(schedule.when, Cron) else None,
        is_active=True,
        concurrent_execution_policy=_QUEUE_POLICY if schedule.overlap is Overlap.QUEUE else 0,
        worker_id=schedule.worker_id,
        routing_pattern=schedule.pattern,
        version=1,
        creation_date=Instant.from_unix_ms(entry.created),
    )
    ours = {headers.DISPATCH_STAMP: str(tick), headers.SCHEDULE: schedule.id, headers.TICK: str(tick)}
    return dispatch(
        Destination(worker_id=schedule.worker_id, job_name=schedule.job, pattern=schedule.pattern),
        job,
        occurrence_id_of(schedule.id, tick),
        timestamp=tick // 1000,
        is_recurring=not isinstance(schedule.when, Once),
        more={**ours, headers.ORIGIN: ORIGIN} if is_local else ours,
    )
