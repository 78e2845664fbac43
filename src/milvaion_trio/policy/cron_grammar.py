"""Reads a cron expression: Cronos' grammar (https://github.com/HangfireIO/Cronos), which Milvaion's schedules have.

Separate from the times (`policy.cron_fields`), so that all that can be wrong with a text is said in one place.
No Python library reads this grammar: those with seconds match day-of-month OR day-of-week, Cronos both.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final, TypeVar

from attrs import field, frozen

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.policy.cron_fields import CronFields, DayRule

__all__ = ["read_expression", "six_fields"]

_MACROS: Final = MappingProxyType(
    {
        "@yearly": "0 0 0 1 1 *",
        "@annually": "0 0 0 1 1 *",
        "@monthly": "0 0 0 1 * *",
        "@weekly": "0 0 0 * * 0",
        "@daily": "0 0 0 * * *",
        "@midnight": "0 0 0 * * *",
        "@hourly": "0 0 * * * *",
        "@every_minute": "0 * * * * *",
        "@every_second": "* * * * * *",
    }
)
T = TypeVar("T")

_ORDER: Final = "second minute hour day-of-month month day-of-week"


@frozen
class _Field:
    name: str
    first: int
    last: int
    names: Mapping[str, int] = field(factory=dict)
    also: str = ""
    """What it allows besides values, lists, ranges and steps, as text."""

    @property
    def values(self) -> str:
        between = f" or {next(iter(self.names))} to {list(self.names)[-1]}" if self.names else ""
        return f"{self.first} to {self.last}{between}"


def _numbered(names: str, first: int) -> Mapping[str, int]:
    return MappingProxyType({name: number for number, name in enumerate(names.split(), first)})


_SECOND: Final = _Field("second", 0, 59)
_MINUTE: Final = _Field("minute", 0, 59)
_HOUR: Final = _Field("hour", 0, 23)
_DAY: Final = _Field("day of month", 1, 31, also="; or one of L, L-3, LW, L-3W and 15W alone")
_MONTH: Final = _Field("month", 1, 12, _numbered("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC", 1))
_WEEKDAY: Final = _Field(
    "day of week", 0, 7, _numbered("SUN MON TUE WED THU FRI SAT", 0), also="; or one of 5L, MON#2 alone"
)

_VALUE: Final = r"[0-9]{1,2}|[A-Za-z]{3}"
_ITEM: Final = re.compile(rf"(?P<low>{_VALUE})(?:-(?P<high>{_VALUE}))?(?:/(?P<step>[0-9]{{1,2}}))?")
_ANY: Final = re.compile(r"[*?](?:/(?P<step>[0-9]{1,2}))?")
_LAST_DAY: Final = re.compile(r"[Ll](?:-(?P<before>[0-9]{1,2}))?(?P<nearest>[Ww])?")
_NEAREST_DAY: Final = re.compile(r"(?P<day>[0-9]{1,2})[Ww]")
_ONE_WEEKDAY: Final = re.compile(rf"(?P<weekday>{_VALUE})(?:[Ll]|#(?P<nth>[0-9]{{1,2}}))")


class _MistakeError(Exception):
    """What is wrong with one field, as a sentence."""


def six_fields(expression: str, *, seconds: bool = False) -> str:
    """The expression with all six fields: macros written out, 5 fields put at second 0 or, with `seconds`, refused.

    Raises `SettingsError`.
    """
    shown = _shown(expression)
    text = expression.strip(" \t")
    if text.startswith("@"):
        if written := _MACROS.get(text.lower()):
            return written
        near = difflib.get_close_matches(text.lower()[:100], _MACROS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(_MACROS)}."
        raise SettingsError([f"cron expression {shown} is no macro that is known; {hint}"])
    parts = re.split(r"[ \t]+", text) if text else []
    if len(parts) == 5 and not seconds:
        return " ".join(["0", *parts])
    if len(parts) != 6:
        allowed = f"6 ({_ORDER})" + ("" if seconds else ", or the last 5 of them")
        hint = f" Put a second in front: '0 {' '.join(parts)}'." if len(parts) == 5 else ""
        raise SettingsError([f"cron expression {shown} has {len(parts)} fields; allowed are {allowed}.{hint}"])
    return " ".join(parts)


def read_expression(six: str) -> CronFields:
    """Read what `six_fields` gave. Raises `SettingsError` with a sentence for every field that is wrong."""
    second, minute, hour, day, month, weekday = six.split(" ")
    problems: list[str] = []

    def read(reader: Callable[[str], T], text: str, otherwise: T) -> T:
        try:
            return reader(text)
        except _MistakeError as mistake:
            problems.append(f"cron expression {_shown(six)}: {mistake}")
            return otherwise

    seconds, minutes, hours = (
        read(partial(_bits, rule), text, 1) for rule, text in ((_SECOND, second), (_MINUTE, minute), (_HOUR, hour))
    )
    no_days: tuple[int, int | None, bool] = 0, None, False
    days, before_last, nearest_weekday = read(_read_days, day, no_days)
    months = read(partial(_bits, _MONTH), month, 0)
    weekdays, nth = read(_read_weekdays, weekday, (0, 0))
    if problems:
        raise SettingsError(problems)
    return CronFields(
        seconds=seconds,
        minutes=minutes,
        hours=hours,
        months=months,
        day_rule=DayRule(
            days=days, before_last=before_last, nearest_weekday=nearest_weekday, weekdays=weekdays, nth=nth
        ),
        is_interval=any(mark in second + minute + hour for mark in "*?-/"),
    )


def _read_days(text: str) -> tuple[int, int | None, bool]:
    """Day of month: its bits, days before the last one, and whether the nearest weekday is meant."""
    if last := _LAST_DAY.fullmatch(text):
        before = _number(_DAY, text, "what is taken off L", last["before"] or "0", 0, 30)
        return 0, before, bool(last["nearest"])
    if nearest := _NEAREST_DAY.fullmatch(text):
        return 1 << _value(_DAY, text, nearest["day"]), None, True
    return _bits(_DAY, text), None, False


def _read_weekdays(text: str) -> tuple[int, int]:
    """Day of week: its bits, and which one in the month is meant (0: any)."""
    if one := _ONE_WEEKDAY.fullmatch(text):
        bits = 1 << _value(_WEEKDAY, text, one["weekday"])
        nth = _number(_WEEKDAY, text, "what follows #", one["nth"], 1, 5) if one["nth"] else -1
    else:
        bits, nth = _bits(_WEEKDAY, text), 0
    return (bits | bits >> 7) & 0x7F, nth  # 0 and 7 are both Sunday


def _bits(rule: _Field, text: str) -> int:
    """The values that a field names, as bits."""
    if every := _ANY.fullmatch(text):
        return _stepped(rule, rule.first, rule.last, _step(rule, text, every["step"]))
    bits = 0
    for part in text.split(","):
        item = _ITEM.fullmatch(part)
        if item is None:
            raise _MistakeError(_unreadable(rule, text, part))
        low = high = _value(rule, text, item["low"])
        if item["high"]:
            high = _value(rule, text, item["high"])
        elif item["step"]:
            high = rule.last  # 5/15 goes on to the end
        bits |= _stepped(rule, low, high, _step(rule, text, item["step"]))
    return bits


def _stepped(rule: _Field, low: int, high: int, step: int) -> int:
    """Every `step`-th value from `low` to `high`; past the field's end it goes on at its beginning (22-2)."""
    count = 7 if rule is _WEEKDAY else rule.last - rule.first + 1
    if high < low:
        high += count
    bits = 0
    for value in range(low, high + 1, step):
        bits |= 1 << (value if value <= rule.last else value - count)
    return bits


def _value(rule: _Field, text: str, written: str) -> int:
    value = int(written) if written.isdigit() else rule.names.get(written.upper(), -1)
    if not rule.first <= value <= rule.last:
        part = "" if written == text else f", with {_shown(written)} in it"
        raise _MistakeError(f"{rule.name} is {_shown(text)}{part}; allowed is {rule.values}.")
    return value


def _step(rule: _Field, text: str, written: str | None) -> int:
    return 1 if written is None else _number(rule, text, "its step", written, 1, rule.last)


def _number(rule: _Field, text: str, what: str, written: str, least: int, most: int) -> int:
    if not least <= int(written) <= most:
        raise _MistakeError(f"{rule.name} is {_shown(text)}, {what} is {written}; allowed is {least} to {most}.")
    return int(written)


def _unreadable(rule: _Field, text: str, part: str) -> str:
    if re.match(r"[Hh](/|$)", part):
        return f"{rule.name} is {_shown(text)}; H has no meaning here, use the schedule's jitter to spread runs."
    place = "" if part == text else f", of which {_shown(part)} cannot be read"
    return (
        f"{rule.name} is {_shown(text)}{place}; allowed are {rule.values}, lists (1,3), ranges (1-3, 3-1), "
        f"steps (*/2, 1/2, 1-3/2), and * or ? alone{rule.also}."
    )


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 100 else f"{text[:100]!r}..."
