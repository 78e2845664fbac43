"""From what somebody says about a schedule to the schedule: values of Python first, then the sources together.

Every mistake is one line that names no source; whoever asked knows it and says so. Decorators, settings, clients and
commands come by here, so that all of them allow the same.
"""

import difflib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from attrs import fields

from milvaion_trio.model.errors import InvalidMessage, SettingsError
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.json_text import read, write
from milvaion_trio.model.jsonable import jsonable
from milvaion_trio.model.schedule import Cron, Every, Millis, Once, Recurrence, Schedule
from milvaion_trio.model.schedule_settings import ScheduleSettings
from milvaion_trio.policy.recurrence import validate

__all__ = ["check_schedule", "make_schedule", "millis_of", "moment_of", "said_with"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENTS: Final = ("at", "start", "end")
_LOOKED_UP: Final = ("job", "when", "worker_id", "pattern", "id", "origin", "start", "end")
"""The fields of a schedule that are not simply what was said."""


def said_with(values: Mapping[str, object]) -> ScheduleSettings:
    """What these keywords say: anything JSON-able for data, any form of a date for moments, `None` for nothing.

    Raises `SettingsError` with every mistake.
    """
    known = [attribute.name for attribute in fields(ScheduleSettings)]
    problems = [_unknown(name, known) for name in values if name not in known]
    told = {name: value for name, value in values.items() if name in known and value is not None}
    try:
        if "data" in told:
            told["data"] = write(jsonable(told["data"]))
    except (TypeError, ValueError) as error:
        del told["data"]
        problems.append(f"data has no JSON form: {error}")
    for name in _MOMENTS:
        if name in told:
            told[name] = moment_of(told[name])
    try:
        said = ScheduleSettings(**told)  # type: ignore[arg-type] # it says itself what does not fit
    except SettingsError as error:
        problems += error.problems
    if problems:  # then nobody comes to make a schedule of it, and so to look at these
        raise SettingsError([*problems, *_cron_problems(told.get("cron"), told.get("timezone", "UTC"))])
    return said


def moment_of(value: object) -> object:
    """The aware datetime of an ISO 8601 text or an `Instant`; anything else stays, for the check to name it."""
    try:
        if isinstance(value, Instant):
            return value.to_datetime()
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return value
    return value if moment is None or moment.utcoffset() is None else moment


def millis_of(moment: datetime) -> Millis:
    """Milliseconds since 1970 of an aware datetime; what is finer is cut."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def make_schedule(
    schedule_id: str, said: ScheduleSettings, *, job: str, worker_id: str, pattern: str, origin: str
) -> Schedule:
    """The schedule, with what was looked up about its job. Raises `SettingsError` with every mistake."""
    problems = list(_contradictions(said))
    when = _recurrence(said)
    if when is None:
        raise SettingsError(problems)
    options = {name: getattr(said, name) for name in said.said if name in _OPTIONS}
    problems += _cron_problems(said.cron, said.timezone or "UTC")
    try:
        schedule = Schedule(
            id=schedule_id,
            job=job,
            worker_id=worker_id,
            pattern=pattern,
            when=when,
            start=None if said.start is None else millis_of(said.start),
            end=None if said.end is None else millis_of(said.end),
            origin=origin,
            **options,
        )
    except SettingsError as error:
        problems += error.problems
    if problems:
        raise SettingsError(problems)
    return schedule


def check_schedule(schedule: Schedule) -> None:
    """Refuse a complete schedule that nobody could have made of words. Raises `SettingsError` with every mistake.

    Whoever reads the book would stumble over it: the leader, and all who list the schedules.
    """
    problems: list[str] = []
    moments = {"start": schedule.start, "end": schedule.end}
    if isinstance(schedule.when, Once):
        moments["at"] = schedule.when.at
    for name, moment in moments.items():
        try:
            if moment is not None:
                Instant.from_unix_ms(moment)
        except ValueError:
            problems.append(f"{name} is {moment}; it must be milliseconds since 1970, in the years 1 to 9999.")
    try:
        validate(schedule.when)
    except SettingsError as error:
        problems += error.problems
    try:
        if schedule.data is not None:
            read(schedule.data, case_matters=True, keep_digits=True)
    except InvalidMessage as error:
        problems.append(f"its data cannot be read. {error.problem} Make the text with json.dumps.")
    if problems:
        raise SettingsError([f"Schedule {schedule.id!r}: {problem}" for problem in problems])


_OPTIONS: Final = frozenset(attribute.name for attribute in fields(Schedule)).difference(_LOOKED_UP)


def _recurrence(said: ScheduleSettings) -> Recurrence | None:
    if said.cron is not None:
        return Cron(expression=said.cron, timezone=said.timezone or "UTC")
    if said.every is not None:
        return Every(said.every)
    return None if said.at is None else Once(millis_of(said.at))


def _cron_problems(expression: object, timezone: object) -> Iterator[str]:
    if isinstance(expression, str) and expression and isinstance(timezone, str) and timezone:
        try:
            validate(Cron(expression=expression, timezone=timezone))
        except SettingsError as error:
            yield from error.problems


def _contradictions(said: ScheduleSettings) -> Iterator[str]:
    times = [name for name in ("cron", "every", "at") if name in said.said]
    if not times:
        yield "it does not say when it runs: add cron, every or at."
    elif len(times) > 1:
        yield f"it says {' and '.join(times)}; one of them can hold."
    elif said.timezone is not None and said.cron is None:
        yield f"timezone is {said.timezone!r}, and only a cron expression has one; leave it out."
    if said.start is not None and said.end is not None and said.end <= said.start:
        yield f"it ends, {said.end.isoformat()}, before it starts, {said.start.isoformat()}."


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, [*known, "id"], n=1)
    return f"a schedule has no setting {name!r}{f'; did you mean {near[0]!r}?' if near else '.'}"
