"""What a cron expression means, field by field, for a person who has written one.

Separate from the reading of it: this is made from what was read, so it tells what will happen and not what was meant.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from milvaion_trio.policy.cron import CronTimes
from milvaion_trio.policy.cron_fields import DayRule

__all__ = ["field_meanings"]

_MONTHS: Final = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_WEEKDAYS: Final = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_NTH: Final = {-1: "the last", 1: "the first", 2: "the second", 3: "the third", 4: "the fourth", 5: "the fifth"}
_ALWAYS: Final = "any"


def field_meanings(times: CronTimes) -> Iterator[tuple[str, str, str]]:
    """The name of each of the six fields, how it is written, and what it allows."""
    fields, days = times.fields, times.fields.day_rule
    second, minute, hour, day, month, weekday = times.expression.split(" ")
    yield "second", second, _values(fields.seconds, 0, 59)
    yield "minute", minute, _values(fields.minutes, 0, 59)
    yield "hour", hour, _values(fields.hours, 0, 23)
    yield "day of month", day, _days(days)
    yield "month", month, _values(fields.months, 1, 12, ["", *_MONTHS])
    yield "day of week", weekday, _weekdays(days)


def _days(rule: DayRule) -> str:
    if rule.before_last is None:
        named = _values(rule.days, 1, 31)
    elif rule.before_last == 0:
        named = "the last"
    else:
        named = f"the last but {rule.before_last}"
    return f"the weekday (MON to FRI) nearest to {named}" if rule.nearest_weekday else named


def _weekdays(rule: DayRule) -> str:
    named = _values(rule.weekdays, 0, 6, _WEEKDAYS)
    return named if rule.nth == 0 else f"{_NTH[rule.nth]} {named} of the month"


def _values(bits: int, first: int, last: int, names: Sequence[str] | None = None) -> str:
    """The values whose bits are set; three or more in a row as a range."""
    values = [value for value in range(first, last + 1) if bits >> value & 1]
    if len(values) == last - first + 1:
        return _ALWAYS
    said = [str(value) if names is None else names[value] for value in range(last + 1)]
    parts: list[str] = []
    for _, row in groupby(enumerate(values), lambda each: each[1] - each[0]):
        run = [value for _, value in row]
        parts += [f"{said[run[0]]} to {said[run[-1]]}"] if len(run) > 2 else [said[value] for value in run]
    return ", ".join(parts)
