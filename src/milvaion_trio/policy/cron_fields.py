"""The fields of a cron expression as sets of bits, and the times that they match on a clock that never changes.

Separate from the text they are read from (`policy.cron_grammar`) and from the clocks of a zone (`policy.cron`).
Times are seconds since 1970 on the local clock.
"""

from datetime import date
from functools import lru_cache
from typing import Final

from attrs import field, frozen

__all__ = ["CronFields", "DayRule"]

_DAY: Final = 86_400
_ORDINAL_OF_1970: Final = date(1970, 1, 1).toordinal()
_LENGTHS: Final = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@frozen(kw_only=True)
class DayRule:
    """Which days of a month match: those that day-of-month AND day-of-week name, as Cronos has it."""

    days: int
    """Bits 1 to 31."""
    before_last: int | None = None
    """`L` and `L-3`: this many days before the last one, instead of `days`."""
    nearest_weekday: bool = False
    """`W`: the day is moved to the nearest one from Monday to Friday within its month."""
    weekdays: int
    """Bits 0 (Sunday) to 6."""
    nth: int = 0
    """`MON#2`: only the weekday's nth in the month; -1 for `5L`, the last; 0 for any."""

    def of_month(self, length: int, first_weekday: int) -> int:
        """The matching days of a month of this length whose day 1 has this weekday, as bits 1 to 31."""
        if self.before_last is not None:
            named = [length - self.before_last] if length > self.before_last else []
        else:
            named = [day for day in range(1, length + 1) if self.days >> day & 1]
        matching = 0
        for day in named:
            if self.nearest_weekday:
                day = _nearest_weekday(day, length, (first_weekday + day - 1) % 7)
            is_nth = self.nth in (0, (day - 1) // 7 + 1) or (self.nth == -1 and day + 7 > length)
            if is_nth and self.weekdays >> (first_weekday + day - 1) % 7 & 1:
                matching |= 1 << day
        return matching


def _nearest_weekday(day: int, length: int, weekday: int) -> int:
    if weekday == 6:
        return day - 1 if day > 1 else 3
    if weekday == 0:
        return day + 1 if day < length else day - 2
    return day


@frozen(kw_only=True)
class CronFields:
    """What a cron expression says, apart from the zone."""

    seconds: int
    """Bits 0 to 59."""
    minutes: int
    hours: int
    months: int
    """Bits 1 to 12."""
    day_rule: DayRule
    is_interval: bool
    """Second, minute or hour has `*`, a range or steps: it goes on through times that the clocks show twice."""
    never: bool = field(init=False)
    """No date matches, as with 30 February."""
    _days: tuple[tuple[int, ...], ...] = field(init=False, repr=False)
    """The matching days of every kind of month, by its length less 28 and the weekday of its first day."""
    _first_time: int = field(init=False, repr=False)
    """Second of the day."""
    _last_time: int = field(init=False, repr=False)

    @_days.default
    def _all_days(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(self.day_rule.of_month(length, first) for first in range(7)) for length in range(28, 32))

    @never.default
    def _is_never(self) -> bool:
        lengths = {length for month, length in enumerate(_LENGTHS) if self.months >> month & 1}
        if 28 in lengths:
            lengths.add(29)
        return not any(self.day_rule.of_month(length, first) for length in lengths for first in range(7))

    @_first_time.default
    def _when_first(self) -> int:
        return _lowest(self.hours) * 3600 + _lowest(self.minutes) * 60 + _lowest(self.seconds)

    @_last_time.default
    def _when_last(self) -> int:
        return _highest(self.hours) * 3600 + _highest(self.minutes) * 60 + _highest(self.seconds)

    def first_from(self, time: int) -> int:
        """The first matching time at or after this one, unless `never`."""
        day, rest = divmod(time, _DAY)
        if self._has(day):
            hour, rest = divmod(rest, 3600)
            minute, second = divmod(rest, 60)
            if self.hours >> hour & 1:
                if self.minutes >> minute & 1 and (left := self.seconds >> second):
                    return time + _lowest(left)
                if left := self.minutes >> minute + 1:
                    return time - second + 60 * (1 + _lowest(left)) + _lowest(self.seconds)
            if left := self.hours >> hour + 1:
                return day * _DAY + (hour + 1 + _lowest(left)) * 3600 + self._first_time % 3600
        return self._day_from(day + 1) * _DAY + self._first_time

    def last_up_to(self, time: int) -> int:
        """The last matching time at or before this one, unless `never`."""
        day, rest = divmod(time, _DAY)
        if self._has(day):
            hour, rest = divmod(rest, 3600)
            minute, second = divmod(rest, 60)
            if self.hours >> hour & 1:
                if self.minutes >> minute & 1 and (left := self.seconds & (2 << second) - 1):
                    return time - second + _highest(left)
                if left := self.minutes & (1 << minute) - 1:
                    return time - second + 60 * (_highest(left) - minute) + _highest(self.seconds)
            if left := self.hours & (1 << hour) - 1:
                return day * _DAY + _highest(left) * 3600 + self._last_time % 3600
        return self._day_up_to(day - 1) * _DAY + self._last_time

    def _has(self, day: int) -> int:
        month, first, length = _month_of(day)
        return self.months >> month & self._days[length - 28][(first + 4) % 7] >> day - first + 1 & 1

    def _day_from(self, day: int) -> int:
        """The first matching day at or after this one: within 40 years, since no date and weekday are further apart."""
        while True:
            month, first, length = _month_of(day)
            left = self._days[length - 28][(first + 4) % 7] >> day - first + 1
            if left and self.months >> month & 1:
                return day + _lowest(left)
            day = first + length

    def _day_up_to(self, day: int) -> int:
        """The last matching day at or before this one."""
        while True:
            month, first, length = _month_of(day)
            left = self._days[length - 28][(first + 4) % 7] & (2 << day - first + 1) - 1
            if left and self.months >> month & 1:
                return first - 1 + _highest(left)
            day = first - 1


@lru_cache(maxsize=4096)
def _month_of(day: int) -> tuple[int, int, int]:
    """The month that a day since 1970 is in: its number, its first day, its length. 1 January 1970 was a Thursday."""
    on = date.fromordinal(day + _ORDINAL_OF_1970)
    is_leap = on.year % 4 == 0 and (on.year % 100 != 0 or on.year % 400 == 0)
    return on.month, day - on.day + 1, 29 if on.month == 2 and is_leap else _LENGTHS[on.month]


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


def _highest(bits: int) -> int:
    return bits.bit_length() - 1
