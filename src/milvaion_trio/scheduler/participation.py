"""What a worker does for schedules: it brings its own into the book, and runs a scheduler if it may.

Separate from the scheduler: the schedules of a worker have to get into the book also where it never leads.
"""

import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
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
    """Announce them, and again whenever the book turns out to be lost while this process leads."""
    await announce(book, schedules, now)
    while schedules and scheduler is not None:
        await scheduler.blank.wait()
        scheduler.blank = trio.Event()
        await announce(book, schedules, now)


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


async def announce(book: ScheduleBook, schedules: Sequence[Schedule], now: Callable[[], Millis]) -> None:
    """Put all of them into the book, trying again until it is reached. If cancelled, some are in it."""
    delays = reconnect_delays(iter(random.random, None))
    was_told = False
    groups: dict[str, str] | None = None
    for schedule in schedules:
        while True:
            try:
                if groups is None:
                    groups = {entry.schedule.id: entry.schedule.worker_id for entry in (await book.read())[1]}
                if await book.put(schedule, now()):
                    _log.info("schedule %s: added or changed", schedule.id)
                    if (group := groups.get(schedule.id, schedule.worker_id)) != schedule.worker_id:
                        _log.warning(
                            "schedule %s was one of the workers %s, and is one of %s from now on; if they are not the "
                            "same ones under a new name, give one of the two another id",
                            schedule.id,
                            group,
                            schedule.worker_id,
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
