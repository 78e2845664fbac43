"""Which ticks of a schedule are due and not decided yet, and which of them are late.

Separate from `policy.scheduling`, which decides about them, as this is where time is: jitter, grace, the clock's jumps,
and what passed before a resume. A tick is due at its time plus its jitter. Whatever is asked costs as much as it
returns, and that is bounded: an outage may have lasted a year, of a schedule that ticks ten times a second.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Final

from attrs import frozen

from milvaion_trio.model.schedule import Entry, Millis, Misfire, Once
from milvaion_trio.policy.recurrence import tick_after, ticks, ticks_between

__all__ = ["COUNTED", "ON_TIME_AT_ONCE", "Passed", "due_times", "is_undecided", "millis", "next_due", "passed", "stood"]

ON_TIME_AT_ONCE: Final = 1000
"""Ticks on time that one decision takes; the next one takes the next. A long grace may hold millions of them."""
COUNTED: Final = 1000
"""Ticks left out together that are counted one by one. A year of seconds would take minutes."""


@frozen(kw_only=True)
class Passed:
    """Undecided ticks that are due, each part in order, and the parts one after the other."""

    before_resumed: Sequence[Millis] = ()
    """Due up to when the schedule was resumed; the latest 1,000."""
    missed: Sequence[Millis] = ()
    """Later than their grace, and not made up for; the latest 1,000."""
    made_up: Sequence[Millis] = ()
    """Later than their grace, and to run in spite of it."""
    on_time: Sequence[Millis] = ()
    """The oldest 1,000."""

    @property
    def decided(self) -> Millis | None:
        """The last of all, or `None`."""
        for part in (self.on_time, self.made_up, self.missed, self.before_resumed):
            if part:
                return part[-1]
        return None


def passed(entry: Entry, now: Millis) -> Passed:
    """The undecided ticks that are due by now, judged by resume, grace and misfire."""
    schedule, after = entry.schedule, _decided(entry)
    first = _first_due(entry, after, now)
    if first is None:
        return Passed()
    before_resumed: Sequence[Millis] = ()
    if entry.resumed is not None and first <= entry.resumed:
        before_resumed = _due_by(entry, after, min(entry.resumed, now), COUNTED)
        after = before_resumed[-1] if before_resumed else after
    late: Sequence[Millis] = ()
    making_up = {Misfire.SKIP: 0, Misfire.ONCE: 1, Misfire.ALL: schedule.misfire_limit}[schedule.misfire]
    grace_began = now - millis(schedule.grace)
    if first < grace_began:
        late = _due_by(entry, after, grace_began - 1, COUNTED + making_up)
        after = late[-1] if late else after
    missed = late[: max(len(late) - making_up, 0)]
    on_time: list[Millis] = []
    for tick in islice(ticks(schedule, entry.created, after), ON_TIME_AT_ONCE):
        if _due(entry, tick) > now:
            break
        on_time.append(tick)
    return Passed(before_resumed=before_resumed, missed=missed, made_up=late[len(missed) :], on_time=on_time)


def stood(entry: Entry, now: Millis) -> Sequence[Millis]:
    """The undecided ticks that are due by now, of a schedule that stands still; the latest 1,000."""
    return _due_by(entry, _decided(entry), now, COUNTED)


def next_due(entry: Entry) -> Millis | None:
    """When the first undecided tick is due, or was; `None` when there is none any more."""
    tick = tick_after(entry.schedule, entry.created, _decided(entry))
    return None if tick is None else _due(entry, tick)


def due_times(entry: Entry, now: Millis) -> Iterator[Millis]:
    """When undecided ticks are due later than now."""
    # Of those before now only the last can be due later.
    after = max(_decided(entry), now - millis(entry.schedule.jitter) - 1)
    return (due for tick in ticks(entry.schedule, entry.created, after) if (due := _due(entry, tick)) > now)


def is_undecided(entry: Entry, tick: Millis) -> bool:
    """Whether it is a tick of the schedule, later than all decided ones."""
    return tick > _decided(entry) and tick_after(entry.schedule, entry.created, tick - 1) == tick


def millis(seconds: float) -> Millis:
    """Seconds as whole milliseconds."""
    return round(seconds * 1000)


def _decided(entry: Entry) -> Millis:
    if entry.progress.decided is not None:
        return entry.progress.decided
    # A moment that had passed when the schedule was made is late like any other. What a cron expression would have
    # meant before, nobody wanted.
    return entry.schedule.when.at - 1 if isinstance(entry.schedule.when, Once) else entry.created - 1


def _due(entry: Entry, tick: Millis) -> Millis:
    """The tick plus its jitter: for ever the same, evenly spread, up to the next tick at most, so the order is kept."""
    room = millis(entry.schedule.jitter)
    if not room:
        return tick
    following = tick_after(entry.schedule, entry.created, tick)
    if following is not None:
        room = min(room, following - tick)
    draw = int.from_bytes(blake2b(f"{entry.schedule.id}@{tick}".encode(), digest_size=8).digest())
    return tick + (draw * (room + 1) >> 64)


def _first_due(entry: Entry, after: Millis, now: Millis) -> Millis | None:
    """When the first of them is due, if that is not after now."""
    first = tick_after(entry.schedule, entry.created, after)
    if first is None or first > now:
        return None
    due = _due(entry, first)
    return due if due <= now else None


def _due_by(entry: Entry, after: Millis, moment: Millis, limit: int) -> Sequence[Millis]:
    """The ticks after `after` that are due up to the moment; of more than `limit` the latest."""
    found = ticks_between(entry.schedule, entry.created, after, moment, limit + 1)
    # No due time lies beyond the next tick: so only the last one can still be to come.
    if found and _due(entry, found[-1]) > moment:
        found = found[:-1]
    return found[-limit:]
