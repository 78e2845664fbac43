"""When a schedule ticks: its nominal times, before jitter and whatever its policies make of them.

Separate from `policy.scheduling`, which decides what is done about a tick, and from `policy.cron`, one of three ways to
say when. `created` is `Entry.created`. A tick does not depend on when it is asked for: all schedulers see the same.
"""

from collections.abc import Iterator
from functools import lru_cache

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.schedule import Cron, Every, Millis, Once, Recurrence, Schedule
from milvaion_trio.policy.cron import CronTimes, parse_cron
from milvaion_trio.policy.zones import END

__all__ = ["last_tick_up_to", "tick_after", "ticks", "ticks_between", "validate"]

_LAST = END * 1000 - 1


def validate(when: Recurrence) -> None:
    """Refuse a cron expression or time zone that means nothing, and one that never ticks.

    Raises `SettingsError`, as the other functions do for the first two.
    """
    if isinstance(when, Cron) and _cron_times(when.expression, when.timezone).is_never:
        raise SettingsError(
            [
                f"cron expression {when.expression!r} never ticks: no date fits its day of month, month and "
                "day of week together; both kinds of day have to fit."
            ]
        )


def tick_after(schedule: Schedule, created: Millis, after: Millis) -> Millis | None:
    """The first tick strictly after, from `start` to `end`; `None` when there is none any more.

    `created` anchors `Every` alone: of the others, ticks before it are told to those who ask for them.
    """
    if schedule.start is not None:
        after = max(after, schedule.start - 1)
    match schedule.when:
        case Cron(expression=expression, timezone=timezone):
            tick = _cron_times(expression, timezone).after(after)
        case Every(seconds):
            tick = _step_after(_anchor(schedule, created), seconds, _first_step(schedule), after)
        case Once(at):
            tick = at if at > after else None
    return None if tick is None or (schedule.end is not None and tick > schedule.end) else tick


def last_tick_up_to(schedule: Schedule, created: Millis, until: Millis) -> Millis | None:
    """The last tick at or before, from `start` to `end`; `None` when there was none."""
    if schedule.end is not None:
        until = min(until, schedule.end)
    match schedule.when:
        case Cron(expression=expression, timezone=timezone):
            tick = _cron_times(expression, timezone).up_to(until)
        case Every(seconds):
            tick = _step_up_to(_anchor(schedule, created), seconds, _first_step(schedule), until)
        case Once(at):
            tick = at if at <= until else None
    return None if tick is None or (schedule.start is not None and tick < schedule.start) else tick


def ticks(schedule: Schedule, created: Millis, after: Millis) -> Iterator[Millis]:
    """All ticks strictly after, in order; often without end."""
    tick = tick_after(schedule, created, after)
    while tick is not None:
        yield tick
        tick = tick_after(schedule, created, tick)


def ticks_between(schedule: Schedule, created: Millis, after: Millis, until: Millis, limit: int) -> tuple[Millis, ...]:
    """The ticks strictly after `after` and up to `until`, oldest first; of more than `limit` only the latest.

    It costs what is returned, not the time in between: a year of seconds is not walked through.
    """
    found: list[Millis] = []
    while len(found) < limit:
        tick = last_tick_up_to(schedule, created, until)
        if tick is None or tick <= after:
            break
        found.append(tick)
        until = tick - 1
    return tuple(reversed(found))


@lru_cache(maxsize=4096)
def _cron_times(expression: str, timezone: str) -> CronTimes:
    return parse_cron(expression, timezone)


def _anchor(schedule: Schedule, created: Millis) -> Millis:
    return created if schedule.start is None else schedule.start


def _first_step(schedule: Schedule) -> int:
    """A `start` that somebody wrote is a tick itself; when a schedule happened to be made is none."""
    return 1 if schedule.start is None else 0


def _tick(anchor: Millis, seconds: float, step: int) -> Millis:
    """Counted from the anchor, so that what is finer than a millisecond never adds up."""
    return anchor + round(step * min(seconds, END) * 1000)


def _step_after(anchor: Millis, seconds: float, first: int, after: Millis) -> Millis | None:
    after = min(max(after, anchor - 1), _LAST)
    step = max(first, int((after - anchor) / (seconds * 1000)) - 1)  # one less, against rounding
    while (tick := _tick(anchor, seconds, step)) <= after:
        step += 1
    return tick if tick <= _LAST else None


def _step_up_to(anchor: Millis, seconds: float, first: int, until: Millis) -> Millis | None:
    until = min(until, _LAST)
    if until < anchor:
        return None
    step = int((until - anchor) / (seconds * 1000)) + 1
    while (tick := _tick(anchor, seconds, step)) > until:
        step -= 1
    return tick if step >= first else None
