"""What a worker does for schedules: it brings its own into the book, and runs a scheduler if it may.

Separate from the scheduler: the schedules of a worker have to get into the book also where it never leads.
"""

import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final

import trio

from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.schedule import Millis, Schedule
from milvaion_trio.policy.backoff import reconnect_delays
from milvaion_trio.ports.coordination import ScheduleBook
from milvaion_trio.scheduler.scheduler import Scheduler

__all__ = ["announce", "taking_part"]

LOOK: Final = 15.0
"""Seconds between two looks for the first schedule, which anybody may have added: 0.2 ms of work each."""
WATCH: Final = 300.0
"""Seconds between two looks whether somebody has taken over a schedule of this worker: 12 ms of work for a book of
1,000 schedules, and Redis reads them too, for each worker."""

_log = logging.getLogger("milvaion_trio.scheduler")


@contextlib.asynccontextmanager
async def taking_part(
    book: ScheduleBook,
    schedules: Sequence[Schedule],
    now: Callable[[], Millis],
    scheduler: Scheduler | None,
    expected: trio.Event,
) -> AsyncIterator[None]:
    """Bring these schedules into the book and, with a scheduler, lead when it is its turn, while the context is open.

    It is entered at once, whether the book can be reached or not. The coordination has to be open. The scheduler sleeps
    until some schedules are `expected`, or others have written down the first: those who have none pay for none.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_bring, book, schedules, now, scheduler)
        if scheduler is not None:
            nursery.start_soon(_run, scheduler, book, expected)
        yield
        nursery.cancel_scope.cancel()


async def _bring(
    book: ScheduleBook, schedules: Sequence[Schedule], now: Callable[[], Millis], scheduler: Scheduler | None
) -> None:
    """Announce them, and again whenever the book turns out to be lost while this process leads.

    In between, tell whose each has become: who had it would else not learn why it does not run any more.
    """
    await announce(book, schedules, now)
    told: dict[str, Schedule] = {}
    while schedules:
        with trio.move_on_after(WATCH):
            if scheduler is None:
                await trio.sleep_forever()
            await scheduler.blank.wait()
        if scheduler is not None and scheduler.blank.is_set():
            scheduler.blank = trio.Event()
            await announce(book, schedules, now)
        else:
            told = await _tell_taken(book, schedules, told)


async def _run(scheduler: Scheduler, book: ScheduleBook, expected: trio.Event) -> None:
    while not expected.is_set() and not await _has_any(book):
        with trio.move_on_after(LOOK):
            await expected.wait()
    await scheduler.run()


async def _has_any(book: ScheduleBook) -> bool:
    """Whether there are schedules as far as anybody can tell: no warning is worth it to who has none."""
    try:
        _, entries = await book.read()
    except Exception:  # a defect is told by the scheduler of whoever has schedules
        return False
    return bool(entries)


async def _tell_taken(
    book: ScheduleBook, schedules: Sequence[Schedule], told: Mapping[str, Schedule]
) -> dict[str, Schedule]:
    """Tell of those that run another job now, or one of other workers; returns what they are, to be told once.

    If cancelled, nothing changes.
    """
    try:
        _, entries = await book.read()
    except Exception:  # as above
        return dict(told)
    kept = {entry.schedule.id: entry.schedule for entry in entries}
    taken = {own.id: kept[own.id] for own in schedules if own.id in kept and _is_anothers(kept[own.id], own)}
    for own in schedules:
        if own.id in taken and (own.id not in told or _is_anothers(taken[own.id], told[own.id])):
            _log.warning(
                "schedule %s does not run %s any more, as this worker declares it, but %s: another worker or a client "
                "has taken it over; give one of the two another id, or each start takes it from the other",
                own.id,
                _whose(own),
                _whose(taken[own.id]),
            )
    return taken


def _is_anothers(one: Schedule, other: Schedule) -> bool:
    return (one.worker_id, one.job.lower()) != (other.worker_id, other.job.lower())


def _whose(schedule: Schedule) -> str:
    return f"{schedule.job} of the workers {schedule.worker_id}"


async def announce(book: ScheduleBook, schedules: Sequence[Schedule], now: Callable[[], Millis]) -> None:
    """Put all of them into the book, trying again until it is reached. If cancelled, some are in it."""
    delays = reconnect_delays(iter(random.random, None))
    was_told = False
    before: dict[str, Schedule] | None = None
    for schedule in schedules:
        while True:
            try:
                if before is None:
                    before = {entry.schedule.id: entry.schedule for entry in (await book.read())[1]}
                if await book.put(schedule, now()):
                    _log.info("schedule %s: added or changed", schedule.id)
                    if _is_anothers(other := before.get(schedule.id, schedule), schedule):
                        _log.warning(
                            "schedule %s ran %s, and runs %s from now on; if that is not the same one under a new "
                            "name, give one of the two another id, or each start takes it from the other",
                            schedule.id,
                            _whose(other),
                            _whose(schedule),
                        )
                break
            except LinkLost as lost:
                if not was_told:
                    _log.warning("the schedules cannot be written down yet: %s; trying again until they can", lost)
                was_told = True
            except Exception:  # a defect of ours; jobs run in this process
                _log.exception("schedule %s cannot be written down, and is left out", schedule.id)
                break
            await trio.sleep(next(delays))
