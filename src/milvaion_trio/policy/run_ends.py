"""What the end of a scheduled run changes: it blocks no later tick any more, and failures in a row stop the schedule.

Separate from `policy.scheduling`, as ends come by their own ways and at their own times: twice, late, or before the
leader knows of the dispatch, since the one before it died between the dispatch and its note.
"""

from collections.abc import Sequence
from typing import Final

from attrs import evolve

from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.schedule import Entry, Millis, Progress, RunEnd, Schedule
from milvaion_trio.policy.due_ticks import is_undecided, millis

__all__ = ["EARLY_LIMIT", "REASON_LIMIT", "end_seen", "is_disabled", "revived", "with_runs"]

REASON_LIMIT: Final = 200
"""Characters of `disabled_why`, as many as Milvaion keeps (WIRE.md 4.4)."""
EARLY_LIMIT: Final = 1000
"""Ends of undecided ticks that are remembered, the newest: as many as one decision dispatches on time."""


def end_seen(entry: Entry, end: RunEnd) -> Entry:
    """The entry after the end of a run; the same object where the end says nothing new.

    Whatever its status: who tells an end has judged that it is one. Ends of ticks that are neither open, waiting nor
    still to be decided change nothing: they were told before, or their run was given up as lost.
    """
    progress, tick = revived(entry), end.tick
    if any(run.tick == tick for run in progress.open_runs):
        left = tuple(run for run in progress.open_runs if run.tick != tick)
        closed = evolve(progress, open_runs=left, last_status=end.status)
    elif tick in progress.waiting:
        left_waiting = tuple(each for each in progress.waiting if each != tick)
        closed = evolve(with_runs(progress, [tick]), waiting=left_waiting, last_status=end.status)
    elif tick not in progress.ran and is_undecided(entry, tick):
        ran = (*progress.ran, tick)[-EARLY_LIMIT:]
        closed = evolve(with_runs(progress, [tick]), ran=ran, last_status=end.status)
    else:
        return entry
    return evolve(entry, progress=_judged(entry.schedule, closed, end))


def is_disabled(entry: Entry) -> bool:
    """Whether failures stopped it, and nobody resumed it since."""
    return revived(entry).disabled is not None


def revived(entry: Entry) -> Progress:
    """The progress; without its failures if they stopped it and it was resumed later."""
    progress = entry.progress
    if progress.disabled is None or entry.resumed is None or entry.resumed <= progress.disabled:
        return progress
    return evolve(progress, disabled=None, disabled_why="", failures=0, last_failure=None)


def with_runs(progress: Progress, dispatched: Sequence[Millis]) -> Progress:
    """The progress, with these dispatched ticks counted."""
    if not dispatched:
        return progress
    last = max(dispatched) if progress.last_tick is None else max(*dispatched, progress.last_tick)
    return evolve(progress, runs=progress.runs + len(dispatched), last_tick=last)


def _judged(schedule: Schedule, progress: Progress, end: RunEnd) -> Progress:
    """Failures in a row, and what they lead to (WIRE.md 4.4)."""
    if end.status == OccurrenceStatus.COMPLETED:
        return evolve(progress, failures=0) if progress.failures else progress
    if end.status != OccurrenceStatus.FAILED:
        return progress
    last = end.at if progress.last_failure is None else progress.last_failure
    failures = progress.failures + 1 if end.at - last <= millis(schedule.failure_window) else 1
    # Workers' clocks differ: a failure that is told later may have an earlier time.
    progress = evolve(progress, failures=failures, last_failure=max(end.at, last))
    if not schedule.disable_after or failures < schedule.disable_after or progress.disabled is not None:
        return progress
    why = f"Failures in a row: {failures}. The last one: {end.error.strip() or 'nothing was told about it.'}"
    return evolve(progress, disabled=end.at, disabled_why=why[:REASON_LIMIT])
