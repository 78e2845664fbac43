"""What a schedule does now: which of its ticks are dispatched, which wait, which are left out.

Pure functions over `model.schedule`, asked by whoever leads. Time is an argument. Asked again with the progress of
before, `decide` names the same ticks again: a leader that dies between a dispatch and its note is followed by one that
repeats it, under the same id, as long as the tick is within its grace.

The rules, in the order in which they apply:

- A tick is due at its time plus its jitter, and is decided once, in order; `Progress.decided` never goes back. So a
  clock that is set back repeats nothing, and nothing runs until it has caught up.
- What was due while the schedule was paused or disabled, or at any time before it was resumed, never runs.
- A tick that is late by no more than the grace is on time, and runs for itself. Of those that are later, `Misfire`
  says which run; so does it about a `Once` that had passed already when its schedule was made.
- What is to run meets the runs that have not ended, by `Overlap`. A run without a known end is forgotten after
  `lost_after`. Ticks that wait do so through a pause.
- After `max_runs` dispatches, none follows.
"""

import enum
from collections.abc import Sequence
from itertools import islice
from typing import Final

from attrs import evolve, frozen

from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.schedule import (
    Entry,
    Millis,
    OpenRun,
    Overlap,
    Progress,
    Schedule,
    occurrence_id_of,
)
from milvaion_trio.policy.due_ticks import due_times, millis, next_due, passed, stood
from milvaion_trio.policy.run_ends import end_seen, is_disabled, revived, with_runs

__all__ = [
    "OPEN_LIMIT",
    "WAITING_LIMIT",
    "Decision",
    "LeftOut",
    "Why",
    "decide",
    "due_at",
    "end_seen",
    "is_disabled",
    "is_over",
    "next_ticks",
]

WAITING_LIMIT: Final = 100
"""Ticks that wait for the runs before them; of more, the oldest are left out."""
OPEN_LIMIT: Final = 1000
"""Open runs that are remembered, the newest: nobody may ever tell how they end. An end of an older one says nothing."""


class Why(enum.StrEnum):
    """Why a tick does not run."""

    OVERLAP = "overlap"
    """The run of another one was in its way."""
    MISFIRE = "misfire"
    """Nobody dispatched it within its grace."""
    PAUSED = "paused"
    """It was due before the schedule was resumed."""
    DISABLED = "disabled"
    """Failures had stopped the schedule."""
    LIMIT = "limit"
    """`max_runs` is reached."""


@frozen
class LeftOut:
    """Ticks that do not run, for logs."""

    tick: Millis
    """The latest of them."""
    why: Why
    count: int = 1
    """How many, all for this reason; from 1,000 on it may have been more."""


@frozen(kw_only=True)
class Decision:
    """What to do now."""

    progress: Progress
    """To be written when every message is confirmed; equal to the entry's where nothing changed."""
    dispatches: tuple[Millis, ...] = ()
    """Ticks, oldest first."""
    cancels: tuple[OccurrenceId, ...] = ()
    """Runs to be stopped; none of them is dispatched here. Also such as may have been dispatched by a leader that died
    before it wrote so."""
    left_out: tuple[LeftOut, ...] = ()


def decide(entry: Entry, now: Millis) -> Decision:
    """What to do now. It takes 1,000 ticks on time at most; when there are more, `due_at` says to ask again at once."""
    schedule, progress = entry.schedule, revived(entry)
    still_open = tuple(run for run in progress.open_runs if now < _lost_at(schedule, run))
    if len(still_open) < len(progress.open_runs):
        progress = evolve(progress, open_runs=still_open)
    if (why := _standstill(entry)) is not None:
        standing = stood(entry, now)
        decided = standing[-1] if standing else None
        return Decision(progress=_up_to(progress, decided), left_out=_left_out(standing, why, progress.ran))
    now_due = passed(entry, now)
    wanted = [tick for tick in (*now_due.made_up, *now_due.on_time) if tick not in progress.ran]
    left_out = (
        *_left_out(now_due.before_resumed, Why.PAUSED, progress.ran),
        *_left_out(now_due.missed, Why.MISFIRE, progress.ran),
    )
    progress = _up_to(progress, now_due.decided)
    return _meet(schedule, progress, [*progress.waiting, *wanted], left_out, now)


def due_at(entry: Entry, now: Millis) -> Millis | None:
    """When `decide` has to be asked next: up to `now` means at once, `None` never, unless news come.

    News are an end and an edit: ask again after them. Nothing is due while it is paused or disabled: what passes
    meanwhile is left out when it is resumed.
    """
    if _standstill(entry) is not None or _is_spent(entry):
        return None
    due = next_due(entry)
    if not entry.progress.waiting:
        return due
    blockers = entry.progress.open_runs if entry.schedule.overlap is Overlap.QUEUE else ()
    free = max((_lost_at(entry.schedule, run) for run in blockers), default=now)
    return free if due is None else min(due, free)


def is_over(entry: Entry) -> bool:
    """Whether no tick of it will ever run again, as it is written now."""
    return _is_spent(entry) or (not entry.progress.waiting and next_due(entry) is None)


def next_ticks(entry: Entry, now: Millis, n: int) -> tuple[Millis, ...]:
    """The next times at which it will be dispatched if no run is in the way: ticks with their jitter, later than now.

    None while it is paused or disabled. Ticks that wait or are late are not among them.
    """
    if _standstill(entry) is not None:
        return ()
    if (max_runs := entry.schedule.max_runs) is not None:
        n = min(n, max_runs - entry.progress.runs - len(entry.progress.waiting))
    return tuple(islice(due_times(entry, now), max(n, 0)))


def _standstill(entry: Entry) -> Why | None:
    if entry.paused:
        return Why.PAUSED
    return Why.DISABLED if is_disabled(entry) else None


def _is_spent(entry: Entry) -> bool:
    return entry.schedule.max_runs is not None and entry.progress.runs >= entry.schedule.max_runs


def _lost_at(schedule: Schedule, run: OpenRun) -> Millis:
    return run.dispatched + millis(schedule.lost_after)


def _left_out(those: Sequence[Millis], why: Why, ran: Sequence[Millis] = ()) -> tuple[LeftOut, ...]:
    """One for all of them, or none."""
    those = [tick for tick in those if tick not in ran]
    return (LeftOut(those[-1], why, len(those)),) if those else ()


def _up_to(progress: Progress, decided: Millis | None) -> Progress:
    if decided is None:
        return progress
    return evolve(progress, decided=decided, ran=tuple(tick for tick in progress.ran if tick > decided))


def _meet(
    schedule: Schedule, progress: Progress, wanted: Sequence[Millis], left_out: tuple[LeftOut, ...], now: Millis
) -> Decision:
    """What becomes of the ticks that would run, oldest first, before the runs that are open and `max_runs`."""
    room = len(wanted) if schedule.max_runs is None else max(schedule.max_runs - progress.runs, 0)
    chosen, waiting, in_the_way = _overlapped(schedule.overlap, wanted, is_blocked=bool(progress.open_runs))
    if not room:
        # The limit is what is in their way, for ever.
        chosen, waiting, in_the_way = wanted, (), ()
    dispatches, waits = chosen[:room], waiting[: max(room - len(chosen), 0)]
    too_many = [*chosen[len(dispatches) :], *waiting[len(waits) :]]
    cancelled: list[Millis] = []
    if schedule.overlap is Overlap.CANCEL_PREVIOUS and dispatches:
        cancelled = [*(run.tick for run in progress.open_runs), *in_the_way]
    left_out = (*left_out, *_left_out(in_the_way, Why.OVERLAP), *_left_out(too_many, Why.LIMIT))
    progress = evolve(
        with_runs(progress, dispatches),
        waiting=tuple(waits),
        open_runs=(*progress.open_runs, *(OpenRun(tick, now) for tick in dispatches))[-OPEN_LIMIT:],
        left_out=progress.left_out + sum(each.count for each in left_out if each.why in {Why.OVERLAP, Why.MISFIRE}),
    )
    return Decision(
        progress=progress,
        dispatches=tuple(dispatches),
        cancels=tuple(occurrence_id_of(schedule.id, tick) for tick in cancelled),
        left_out=left_out,
    )


def _overlapped(
    overlap: Overlap, wanted: Sequence[Millis], *, is_blocked: bool
) -> tuple[Sequence[Millis], Sequence[Millis], Sequence[Millis]]:
    """Those that run, those that wait, and those that are left out."""
    match overlap:
        case Overlap.ALLOW:
            return wanted, (), ()
        case Overlap.CANCEL_PREVIOUS:
            # The earlier ones would be cancelled as soon as they were dispatched.
            return wanted[-1:], (), wanted[:-1]
        case Overlap.SKIP:
            free = 0 if is_blocked else 1
            return wanted[:free], (), wanted[free:]
        case Overlap.QUEUE:
            free = 0 if is_blocked else 1
            waiting = wanted[free:]
            return wanted[:free], waiting[-WAITING_LIMIT:], waiting[:-WAITING_LIMIT]
