"""Cron against a second reading of the same rules, written as slowly and plainly as can be, and against cronsim."""

import calendar
import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import cronsim
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from milvaion_trio.policy.cron import CronTimes, parse_cron

ZONES = ["UTC", "Europe/Berlin", "Europe/Istanbul", "America/New_York", "Australia/Lord_Howe", "America/St_Johns"]

# Changes of clocks, forward and back: Berlin, New York, Lord Howe (half an hour), Istanbul (to
# summer time for good), Apia (a whole day is left out), Casablanca (back for Ramadan and forward again).
CHANGES = [
    ("Europe/Berlin", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("America/New_York", datetime(2027, 3, 14, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2027, 11, 7, 6, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2027, 4, 3, 15, tzinfo=UTC)),
    ("Europe/Istanbul", datetime(2015, 11, 8, 1, tzinfo=UTC)),
    ("Europe/Istanbul", datetime(2016, 3, 27, 1, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    ("Africa/Casablanca", datetime(2025, 2, 23, 2, tzinfo=UTC)),
    ("Africa/Casablanca", datetime(2025, 4, 6, 2, tzinfo=UTC)),
]


# --- expressions, each made together with what it means -------------------------------------------------------------


@frozen
class Part:
    """A field's text, the values it names, and whether it is one with `*`, a range or steps."""

    text: str
    values: frozenset[int]
    is_interval: bool = False


@frozen
class DayPart:
    text: str
    fits: Callable[[date], bool]


@frozen
class Expression:
    second: Part
    minute: Part
    hour: Part
    day: DayPart
    month: Part
    weekday: DayPart

    @property
    def text(self) -> str:
        parts = (self.second, self.minute, self.hour, self.day, self.month, self.weekday)
        return " ".join(part.text for part in parts)

    @property
    def is_interval(self) -> bool:
        return self.second.is_interval or self.minute.is_interval or self.hour.is_interval

    def fits_day(self, day: date) -> bool:
        return day.month in self.month.values and self.day.fits(day) and self.weekday.fits(day)

    def fits(self, clock: datetime) -> bool:
        return (
            self.fits_day(clock.date())
            and clock.hour in self.hour.values
            and clock.minute in self.minute.values
            and clock.second in self.second.values
        )


def around(first: int, last: int, low: int, high: int, step: int) -> frozenset[int]:
    """Every `step`-th value from `low` on, going on at the beginning after the last one, until `high`."""
    circle = list(range(first, last + 1))
    turned = circle[low - first :] + circle[: low - first]
    return frozenset(turned[: turned.index(high) + 1 : step])


def items(first: int, last: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[Part]:
    def said(value: int) -> st.SearchStrategy[str]:
        ways = [str(value), f"{value:02}"]
        if names:
            ways += [names[value - first], names[value - first].lower()]
        return st.sampled_from(ways)

    @st.composite
    def item(draw: st.DrawFn) -> Part:
        kind = draw(st.sampled_from(["value", "range", "range/step", "value/step"]))
        low, high = draw(st.integers(first, last)), draw(st.integers(first, last))
        step = draw(st.integers(1, last))
        low_text, high_text = draw(said(low)), draw(said(high))
        match kind:
            case "value":
                return Part(low_text, frozenset([low]))
            case "range":
                return Part(f"{low_text}-{high_text}", around(first, last, low, high, 1), True)
            case "range/step":
                return Part(f"{low_text}-{high_text}/{step}", around(first, last, low, high, step), True)
            case _:
                return Part(f"{low_text}/{step}", frozenset(range(low, last + 1, step)), True)

    return item()


def parts(first: int, last: int, names: tuple[str, ...] = ()) -> st.SearchStrategy[Part]:
    every = frozenset(range(first, last + 1))
    lists = st.lists(items(first, last, names), min_size=1, max_size=3).map(
        lambda found: Part(
            ",".join(part.text for part in found),
            frozenset().union(*(part.values for part in found)),
            any(part.is_interval for part in found),
        )
    )
    steps = st.tuples(st.sampled_from("*?"), st.integers(1, last)).map(
        lambda drawn: Part(f"{drawn[0]}/{drawn[1]}", frozenset(range(first, last + 1, drawn[1])), True)
    )
    return st.sampled_from([Part("*", every, True), Part("?", every, True)]) | lists | steps


def last_of(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def is_nearest(day: date, target: int) -> bool:
    """Whether this is the Monday to Friday nearest to that day of its month."""
    if not 1 <= target <= last_of(day):
        return False
    workdays = [number for number in range(1, last_of(day) + 1) if day.replace(day=number).weekday() < 5]
    return day.day == min(workdays, key=lambda number: abs(number - target))


def any_day(_day: date) -> bool:
    return True


plain_days = parts(1, 31).map(lambda part: DayPart(part.text, lambda day: day.day in part.values))
last_days = st.sampled_from([0, 0, 1, 3, 27, 30]).map(
    lambda before: DayPart(f"L-{before}" if before else "L", lambda day: day.day == last_of(day) - before)
)
last_workdays = st.sampled_from([0, 0, 1, 3, 27, 30]).map(
    lambda before: DayPart(f"l-{before}w" if before else "LW", lambda day: is_nearest(day, last_of(day) - before))
)
workdays = st.integers(1, 31).map(lambda target: DayPart(f"{target}W", lambda day: is_nearest(day, target)))
days = st.just(DayPart("*", any_day)) | plain_days | last_days | last_workdays | workdays

WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
plain_weekdays = st.lists(items(0, 6, WEEKDAYS), min_size=1, max_size=3).filter(
    lambda found: not any("/" in part.text and "-" not in part.text for part in found)
)
"""Without `1/2`: it goes on to 7, which is Sunday; `test_cron.py` of the unit tests has it."""


def weekday_list(found: list[Part]) -> DayPart:
    values = frozenset().union(*(part.values for part in found))
    return DayPart(",".join(part.text for part in found), lambda day: day.isoweekday() % 7 in values)


weekdays = (
    st.just(DayPart("*", any_day))
    | plain_weekdays.map(weekday_list)
    | st.tuples(st.integers(0, 6), st.integers(1, 5)).map(
        lambda drawn: DayPart(
            f"{WEEKDAYS[drawn[0]]}#{drawn[1]}",
            lambda day: day.isoweekday() % 7 == drawn[0] and (day.day + 6) // 7 == drawn[1],
        )
    )
    | st.integers(0, 7).map(
        lambda weekday: DayPart(
            f"{weekday}L", lambda day: day.isoweekday() % 7 == weekday % 7 and day.day > last_of(day) - 7
        )
    )
)
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
months = st.just(Part("*", frozenset(range(1, 13)))) | parts(1, 12, MONTHS)
expressions = st.builds(Expression, parts(0, 59), parts(0, 59), parts(0, 23), days, months, weekdays)

night_hours = st.lists(st.integers(0, 4), min_size=1, max_size=3).map(
    lambda found: Part(",".join(map(str, found)), frozenset(found))
)
late_steps = st.integers(0, 4).map(lambda hour: Part(f"{hour}/23", frozenset(range(hour, 24, 23)), True))
"""Intervals that tick once or twice a day."""
nightly = st.builds(
    Expression,
    st.just(Part("0", frozenset([0]))),
    parts(0, 59) | items(0, 59),
    night_hours | late_steps | parts(0, 23),
    st.just(DayPart("*", any_day)),
    st.just(Part("*", frozenset(range(1, 13)))),
    st.just(DayPart("*", any_day)) | plain_weekdays.map(weekday_list),
)
"""Whole minutes of most days, mostly at the hours at which clocks are changed."""

moments = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))


def millis(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000 + moment.microsecond // 1000


def as_datetime(tick: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=tick)


def ticks_after(times: CronTimes, moment: int) -> Iterator[int]:
    while (tick := times.after(moment)) is not None:
        yield tick
        moment = tick


# --- the properties -------------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(expressions, moments)
def test_ticks_are_the_matching_times_of_the_matching_days(expression: Expression, moment: datetime) -> None:
    """Two years of days, each with all its times, as a person would look them up."""
    clocks = itertools.product(
        sorted(expression.hour.values), sorted(expression.minute.values), sorted(expression.second.values)
    )
    times_of_day = list(itertools.islice(clocks, 100_000))
    looked_up = (
        tick
        for number in range(730)
        if expression.fits_day(day := (moment + timedelta(days=number)).date())
        for hour, minute, second in times_of_day
        if (tick := datetime(day.year, day.month, day.day, hour, minute, second, tzinfo=UTC)) > moment
    )
    expected = [millis(tick) for tick in itertools.islice(looked_up, 10)]

    times = parse_cron(expression.text)

    assert list(itertools.islice(ticks_after(times, millis(moment)), len(expected))) == expected


@settings(max_examples=150)
@given(expressions, moments, st.sampled_from(ZONES))
def test_the_last_tick_up_to_is_the_inverse_of_the_first_one_after(
    expression: Expression, moment: datetime, zone: str
) -> None:
    times = parse_cron(expression.text, zone)
    start = millis(moment)

    found = list(itertools.islice(ticks_after(times, start), 5))

    assert found == sorted(set(found))
    for earlier, later in zip([times.up_to(start), *found], found, strict=False):
        assert times.up_to(later) == later
        assert times.up_to(later - 1) == earlier
        assert earlier is None or (times.after(earlier) == later and times.after(later - 1) == later)


@settings(max_examples=150)
@given(nightly, st.sampled_from(CHANGES), st.integers(-120, 120))
def test_around_a_change_of_clocks_ticks_are_what_the_clocks_show(
    expression: Expression, change: tuple[str, datetime], shift: int
) -> None:
    """Minute by minute: times shown again count for intervals alone, and times left out count right after the jump."""
    zone, moment = ZoneInfo(change[0]), change[1] + timedelta(minutes=shift)
    expected = []
    for number in range(-180, 181):
        now = moment + timedelta(minutes=number)
        clock, clock_before = now.astimezone(zone), (now - timedelta(minutes=1)).astimezone(zone)
        shown, shown_before = clock.replace(tzinfo=None), clock_before.replace(tzinfo=None)
        left_out = int((shown - shown_before) / timedelta(minutes=1)) - 1
        skipped = any(expression.fits(shown - timedelta(minutes=back)) for back in range(1, left_out + 1))
        again = clock.fold == 1 and not expression.is_interval
        if skipped or (expression.fits(shown) and not again):
            expected.append(millis(now))
    begin, end = millis(moment - timedelta(minutes=180)) - 1, millis(moment + timedelta(minutes=180))
    times = parse_cron(expression.text, change[0])

    forward = list(itertools.takewhile(lambda tick: tick <= end, ticks_after(times, begin)))
    back = []
    tick = times.up_to(end)
    while tick is not None and tick > begin:
        back.append(tick)
        tick = times.up_to(tick - 1)

    assert forward == expected
    assert back == expected[::-1]


# cronsim joins two restricted kinds of day by OR, has no ranges past the end, and takes a step of a range for a fixed
# time; it agrees where an expression has none of these.
shared_days = st.sampled_from(
    ["* *", "*/2 1-5", "*/7 2#3", "L *", "LW *", "1,15 *", "10-20/3 *", "* MON,WED", "* 5L", "* 0#5", "* 6/1"]
)
shared_months = st.sampled_from(["*", "2", "*/5", "JAN,JUL", "3-9/2"])
fixed_minutes = st.lists(st.integers(0, 59), min_size=1, max_size=3).map(lambda found: ",".join(map(str, found)))
fixed_hours = st.lists(st.integers(0, 23), min_size=1, max_size=3).map(lambda found: ",".join(map(str, found)))
free_times = st.sampled_from(["*/7 * *", "0 */15 *", "0 0 */2", "30 5/10 1-3", "10-50/20 0 22", "0 0,30 9-17"])


@settings(max_examples=100)
@given(free_times, shared_days, shared_months, moments)
def test_ticks_in_utc_are_those_of_cronsim(clock: str, day: str, month: str, moment: datetime) -> None:
    days_of_month, days_of_week = day.split()
    text = f"{clock} {days_of_month} {month} {days_of_week}"

    expected = [millis(tick) for tick in itertools.islice(cronsim.CronSim(text, moment), 5)]

    assert list(itertools.islice(ticks_after(parse_cron(text), millis(moment)), 5)) == expected


@settings(max_examples=100)
@given(
    st.one_of(
        st.tuples(fixed_minutes, fixed_hours).map(" ".join),
        st.sampled_from(["0 *", "*/15 *", "* *", "*/30 *"]),
    ),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Europe/Istanbul"]),
    moments | st.sampled_from([moment - timedelta(hours=20) for _, moment in CHANGES]),
)
def test_ticks_by_changing_clocks_are_those_of_cronsim(clock: str, zone: str, moment: datetime) -> None:
    text = f"{clock} * * *"

    expected = [millis(tick) for tick in itertools.islice(cronsim.CronSim(text, moment.astimezone(ZoneInfo(zone))), 60)]

    found = list(itertools.islice(ticks_after(parse_cron(text, zone), millis(moment)), 60))
    assert [as_datetime(tick) for tick in found] == [as_datetime(tick) for tick in expected]
