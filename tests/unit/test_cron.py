"""Cron expressions mean what Cronos' documentation says, on all clocks."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.policy.cron import CronTimes, parse_cron

YEAR_9000 = 221_845_392_000_000


def at(text: str) -> int:
    """Milliseconds of an ISO date, in UTC where it does not say."""
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def shown(tick: int | None, zone: str = "UTC") -> str | None:
    """As a clock of that zone shows it, with its distance from UTC where that is not the zone UTC."""
    if tick is None:
        return None
    clock = datetime.fromtimestamp(tick / 1000, ZoneInfo(zone))
    return f"{clock:%Y-%m-%d %H:%M:%S}" if zone == "UTC" else f"{clock:%m-%d %H:%M} {clock:%z}"


def following(times: CronTimes, moment: int, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count and (tick := times.after(moment)) is not None:
        found.append(tick)
        moment = tick
    return found


# --- fields ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minute", "expected"),
    [
        ("*", list(range(60))),
        ("?", list(range(60))),
        ("5", [5]),
        ("05", [5]),
        ("3,1,1", [1, 3]),
        ("50-55", [50, 51, 52, 53, 54, 55]),
        ("58-2", [0, 1, 2, 58, 59]),
        ("*/15", [0, 15, 30, 45]),
        ("?/59", [0, 59]),
        ("*/24", [0, 24, 48]),
        ("5/15", [5, 20, 35, 50]),
        ("10-30/10", [10, 20, 30]),
        ("10-29/10", [10, 20]),
        ("50-10/7", [4, 50, 57]),
        ("30,45-15/7", [6, 13, 30, 45, 52, 59]),
        ("3,5-11/3,12", [3, 5, 8, 11, 12]),
    ],
)
def test_a_field_names_values_lists_ranges_also_past_the_end_and_steps(minute: str, expected: list[int]) -> None:
    times = parse_cron(f"0 {minute} 0 1 1 *")

    found = following(times, at("2025-12-31"), len(expected) + 1)

    assert [tick - at("2026-01-01") for tick in found[:-1]] == [value * 60_000 for value in expected]
    assert found[-1] >= at("2027-01-01")


@pytest.mark.parametrize(
    ("weekday", "expected"),
    [
        ("*", "SMTWTFS"),
        ("?", "SMTWTFS"),
        ("0", "S------"),
        ("7", "S------"),
        ("sun", "S------"),
        ("MON-FRI", "-MTWTF-"),
        ("Mon,wEd", "-M-W---"),
        ("FRI-MON", "SM---FS"),
        ("5-7", "S----FS"),
        ("1-7", "SMTWTFS"),
        ("6-1", "SM----S"),
        ("7-2", "SMT----"),
        ("SUN-TUE", "SMT----"),
        ("0-7", "SMTWTFS"),
        ("7-7", "S------"),
        ("*/2", "S-T-T-S"),
        ("1/3", "SM--T--"),  # 1, 4 and 7
        ("5-2/2", "S-T--F-"),
        ("7-2/2", "S-T----"),
    ],
)
def test_both_0_and_7_are_sunday_and_weeks_have_no_end(weekday: str, expected: str) -> None:
    times = parse_cron(f"0 0 0 * * {weekday}")

    sunday = at("2026-02-01")
    found = {(tick - sunday) // 86_400_000 for tick in following(times, sunday - 1, 7)}

    assert "".join("SMTWTFS"[day] if day in found else "-" for day in range(7)) == expected


@pytest.mark.parametrize(
    ("months", "expected"),
    [("JAN,jul", [1, 7]), ("11-2", [1, 2, 11, 12]), ("*/5", [1, 6, 11]), ("dec", [12]), ("2/4", [2, 6, 10])],
)
def test_months_are_counted_or_named(months: str, expected: list[int]) -> None:
    found = following(parse_cron(f"0 0 0 1 {months} *"), at("2026-01-01") - 1, len(expected))

    assert [datetime.fromtimestamp(tick / 1000, UTC).month for tick in found] == expected
    assert {datetime.fromtimestamp(tick / 1000, UTC).year for tick in found} == {2026}


@pytest.mark.parametrize(
    ("day", "weekday", "expected"),
    [
        ("L", "*", ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30"]),
        ("L-1", "?", ["2026-01-30", "2026-02-27", "2026-03-30", "2026-04-29"]),
        ("L-30", "*", ["2026-01-01", "2026-03-01", "2026-05-01"]),
        ("LW", "*", ["2026-01-30", "2026-02-27", "2026-03-31", "2026-04-30", "2026-05-29"]),
        ("l-2w", "*", ["2026-01-29", "2026-02-26", "2026-03-30", "2026-04-28"]),
        ("L-30W", "*", ["2026-01-01", "2026-03-02", "2026-05-01", "2026-07-01"]),  # June has no such day to move
        ("3W", "*", ["2026-01-02", "2026-02-03", "2026-03-03", "2026-04-03", "2026-05-04"]),
        ("1W", "*", ["2026-01-01", "2026-02-02", "2026-03-02", "2026-04-01", "2026-05-01", "2026-06-01"]),
        ("1W", "SAT", []),
        ("31W", "*", ["2026-01-30", "2026-03-31", "2026-05-29", "2026-07-31", "2026-08-31"]),
        ("15W", "1", ["2026-02-16", "2026-03-16", "2026-06-15"]),  # two of them moved to the Monday
        ("*", "5L", ["2026-01-30", "2026-02-27", "2026-03-27"]),
        ("*", "TUEl", ["2026-01-27", "2026-02-24", "2026-03-31"]),
        ("*", "7L", ["2026-01-25", "2026-02-22", "2026-03-29"]),
        ("?", "MON#1", ["2026-01-05", "2026-02-02", "2026-03-02"]),
        ("*", "6#3", ["2026-01-17", "2026-02-21", "2026-03-21"]),
        ("*", "0#5", ["2026-03-29", "2026-05-31", "2026-08-30"]),
        ("13", "5", ["2026-02-13", "2026-03-13", "2026-11-13", "2027-08-13"]),
        ("1-7", "MON", ["2026-01-05", "2026-02-02", "2026-03-02"]),
        ("31", "*", ["2026-01-31", "2026-03-31", "2026-05-31"]),
        ("20-5/5", "*", ["2026-01-04", "2026-01-20", "2026-01-25", "2026-01-30", "2026-02-04"]),
    ],
)
def test_day_of_month_and_day_of_week_have_both_to_fit(day: str, weekday: str, expected: list[str]) -> None:
    times = parse_cron(f"0 0 12 {day} * {weekday}")

    found = following(times, at("2026-01-01") - 1, len(expected) or 1)

    assert [shown(tick) for tick in found] == [f"{date} 12:00:00" for date in expected]


@pytest.mark.parametrize(
    ("first_of_month", "moved"),
    [("2026-08-01", "2026-08-03"), ("2026-11-01", "2026-11-02")],  # a Saturday, a Sunday
)
def test_the_nearest_weekday_stays_in_its_month(first_of_month: str, moved: str) -> None:
    assert shown(parse_cron("0 0 0 1W * *").after(at(first_of_month) - 1)) == f"{moved} 00:00:00"


def test_the_29th_of_february_comes_also_after_a_century_without() -> None:
    times = parse_cron("0 0 0 29 2 *")

    assert [shown(tick) for tick in following(times, at("2092-01-01"), 3)] == [
        "2092-02-29 00:00:00",
        "2096-02-29 00:00:00",
        "2104-02-29 00:00:00",
    ]
    assert shown(parse_cron("0 0 0 29 2 MON").after(at("2072-03-01"))) == "2112-02-29 00:00:00"


@pytest.mark.parametrize(
    "expression", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 L-30 2 *", "0 0 8 * MON#1", "0 0 31W 2 ?"]
)
def test_what_fits_no_date_never_ticks(expression: str) -> None:
    times = parse_cron(expression, "Europe/Istanbul")

    assert times.is_never
    assert times.after(at("2026-01-01")) is None
    assert times.up_to(at("2026-01-01")) is None


@pytest.mark.parametrize(
    ("macro", "six"),
    [
        ("@yearly", "0 0 0 1 1 *"),
        ("@annually", "0 0 0 1 1 *"),
        ("@monthly", "0 0 0 1 * *"),
        ("@weekly", "0 0 0 * * 0"),
        ("@daily", "0 0 0 * * *"),
        ("@midnight", "0 0 0 * * *"),
        (" @Hourly\t", "0 0 * * * *"),
        ("@every_minute", "0 * * * * *"),
        ("@EVERY_SECOND", "* * * * * *"),
    ],
)
def test_a_macro_is_written_out(macro: str, six: str) -> None:
    assert parse_cron(macro, seconds=True) == parse_cron(six)


def test_five_fields_are_at_second_0_and_can_be_refused() -> None:
    assert parse_cron(" 30 \t4 * * MON ") == parse_cron("0 30 4 * * MON", seconds=True)
    assert parse_cron("30 4 * * MON").expression == "0 30 4 * * MON"
    with pytest.raises(SettingsError, match=r"has 5 fields; allowed are 6 .* Put a second in front: '0 30 4 "):
        parse_cron("30 4 * * MON", seconds=True)


# --- moments --------------------------------------------------------------------------------------------------------


def test_after_is_strictly_after_and_up_to_includes_the_moment() -> None:
    times = parse_cron("10 * * * * *")
    tick = at("2026-05-05 05:05:10")

    assert times.after(tick - 1) == tick
    assert times.after(tick) == times.after(tick + 1) == tick + 60_000
    assert times.up_to(tick) == times.up_to(tick + 59_999) == tick
    assert times.up_to(tick - 1) == tick - 60_000


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_times_begin_with_1970_and_end_before_the_year_9999(zone: str) -> None:
    times = parse_cron("0 0 * * * *", zone)

    assert times.after(-(10**30)) == 0 == times.up_to(0)
    assert times.up_to(-1) is None
    assert times.after(10**30) is None
    assert (times.up_to(10**30) or 0) > YEAR_9000
    assert (parse_cron("0 0 0 29 2 MON", zone).up_to(10**30) or 0) > YEAR_9000
    assert times.after(times.up_to(10**30) or 0) is None


# --- clocks that are changed ----------------------------------------------------------------------------------------

# (zone, expression, when to begin, what its clocks show at the ticks)
GAPS = [
    ("Europe/Berlin", "30 2 * * *", "2026-03-28T00:00+01:00", [
        "03-28 02:30 +0100", "03-29 03:00 +0200", "03-30 02:30 +0200"]),
    ("Europe/Berlin", "0 2 * * *", "2026-03-29T00:00+01:00", ["03-29 03:00 +0200", "03-30 02:00 +0200"]),
    ("Europe/Berlin", "0,30 2,3 * * *", "2026-03-29T00:00+01:00", [
        "03-29 03:00 +0200", "03-29 03:30 +0200", "03-30 02:00 +0200"]),
    ("Europe/Berlin", "*/30 * * * *", "2026-03-29T01:00+01:00", [
        "03-29 01:30 +0100", "03-29 03:00 +0200", "03-29 03:30 +0200"]),
    # An interval, too, makes up for what is left out, as Cronos does.
    ("Europe/Berlin", "15 * * * *", "2026-03-29T01:00+01:00", [
        "03-29 01:15 +0100", "03-29 03:00 +0200", "03-29 03:15 +0200"]),
    ("Europe/Berlin", "15 2 29 3 SUN", "2026-01-01T00:00+01:00", ["03-29 03:00 +0200"]),
    ("Europe/Berlin", "30 2 * * MON", "2026-03-28T00:00+01:00", ["03-30 02:30 +0200"]),
    ("Europe/Istanbul", "30 3 * * *", "2016-03-26T00:00+02:00", [
        "03-26 03:30 +0200", "03-27 04:00 +0300", "03-28 03:30 +0300"]),
    # Since 2016 it keeps summer time.
    ("Europe/Istanbul", "30 3 * * *", "2026-03-28T00:00+03:00", [
        "03-28 03:30 +0300", "03-29 03:30 +0300", "03-30 03:30 +0300"]),
    ("America/New_York", "30 2 * * *", "2026-03-07T00:00-05:00", [
        "03-07 02:30 -0500", "03-08 03:00 -0400", "03-09 02:30 -0400"]),
    ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T00:00+10:30", [
        "10-03 02:15 +1030", "10-04 02:30 +1100", "10-05 02:15 +1100"]),
    ("Australia/Lord_Howe", "*/20 * * * *", "2026-10-04T01:30+10:30", [
        "10-04 01:40 +1030", "10-04 02:30 +1100", "10-04 02:40 +1100"]),
    # A whole day was left out.
    ("Pacific/Apia", "0 12 * * *", "2011-12-29T00:00-10:00", [
        "12-29 12:00 -1000", "12-31 00:00 +1400", "12-31 12:00 +1400"]),
]  # fmt: skip

OVERLAPS = [
    ("Europe/Berlin", "30 2 * * *", "2026-10-24T12:00+02:00", ["10-25 02:30 +0200", "10-26 02:30 +0100"]),
    ("Europe/Berlin", "0 2 * * *", "2026-10-24T12:00+02:00", ["10-25 02:00 +0200", "10-26 02:00 +0100"]),
    ("Europe/Berlin", "0 3 * * *", "2026-10-24T12:00+02:00", ["10-25 03:00 +0100", "10-26 03:00 +0100"]),
    ("Europe/Berlin", "0,30 1,2,3 * * *", "2026-10-25T01:00+02:00", [
        "10-25 01:30 +0200", "10-25 02:00 +0200", "10-25 02:30 +0200", "10-25 03:00 +0100", "10-25 03:30 +0100"]),
    ("Europe/Berlin", "*/30 * * * *", "2026-10-25T01:30+02:00", [
        "10-25 02:00 +0200", "10-25 02:30 +0200", "10-25 02:00 +0100", "10-25 02:30 +0100", "10-25 03:00 +0100"]),
    ("Europe/Berlin", "30 * * * *", "2026-10-25T01:00+02:00", [
        "10-25 01:30 +0200", "10-25 02:30 +0200", "10-25 02:30 +0100", "10-25 03:30 +0100"]),
    # A range or steps anywhere in second, minute or hour make an interval.
    ("Europe/Berlin", "30 1-2 * * *", "2026-10-25T01:00+02:00", [
        "10-25 01:30 +0200", "10-25 02:30 +0200", "10-25 02:30 +0100", "10-26 01:30 +0100"]),
    ("Europe/Berlin", "30 2/23 * * *", "2026-10-25T01:00+02:00", [
        "10-25 02:30 +0200", "10-25 02:30 +0100", "10-26 02:30 +0100"]),
    ("America/New_York", "30 1/23 * * *", "2026-11-01T00:00-04:00", [
        "11-01 01:30 -0400", "11-01 01:30 -0500", "11-02 01:30 -0500"]),
    # One in the days does not.
    ("Europe/Berlin", "30 2 */1 1-12 0-6", "2026-10-25T01:00+02:00", ["10-25 02:30 +0200", "10-26 02:30 +0100"]),
    ("Europe/Istanbul", "30 3 * * *", "2015-11-07T12:00+03:00", ["11-08 03:30 +0300", "11-09 03:30 +0200"]),
    ("America/New_York", "30 1 * * *", "2026-10-31T12:00-04:00", ["11-01 01:30 -0400", "11-02 01:30 -0500"]),
    ("America/New_York", "0 * * * *", "2026-11-01T00:00-04:00", [
        "11-01 01:00 -0400", "11-01 01:00 -0500", "11-01 02:00 -0500"]),
    ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04T12:00+11:00", ["04-05 01:45 +1100", "04-06 01:45 +1030"]),
    ("Australia/Lord_Howe", "*/15 * * * *", "2026-04-05T01:15+11:00", [
        "04-05 01:30 +1100", "04-05 01:45 +1100", "04-05 01:30 +1030", "04-05 01:45 +1030", "04-05 02:00 +1030"]),
]  # fmt: skip


@pytest.mark.parametrize(("zone", "expression", "begin", "expected"), GAPS)
def test_times_that_clocks_leave_out_tick_once_right_after(
    zone: str, expression: str, begin: str, expected: list[str]
) -> None:
    found = following(parse_cron(expression, zone), at(begin), len(expected))

    assert [shown(tick, zone) for tick in found] == expected


@pytest.mark.parametrize(("zone", "expression", "begin", "expected"), OVERLAPS)
def test_times_that_clocks_show_twice_tick_twice_for_intervals_alone(
    zone: str, expression: str, begin: str, expected: list[str]
) -> None:
    found = following(parse_cron(expression, zone), at(begin), len(expected))

    assert [shown(tick, zone) for tick in found] == expected


@pytest.mark.parametrize(("zone", "expression", "begin", "expected"), [*GAPS, *OVERLAPS])
def test_going_back_over_changed_clocks_meets_the_same_ticks(
    zone: str, expression: str, begin: str, expected: list[str]
) -> None:
    times = parse_cron(expression, zone)
    tick: int | None = following(times, at(begin), len(expected))[-1]

    found: list[str | None] = []
    while tick is not None and len(found) < len(expected):
        found.append(shown(tick, zone))
        tick = times.up_to(tick - 1)

    assert found == expected[::-1]


def test_a_zone_is_known_also_where_the_year_of_its_table_ends() -> None:
    """The files of a zone list changes up to 2037; later ones follow a rule."""
    times = parse_cron("30 2 * * *", "Europe/Berlin")

    assert [shown(tick, "Europe/Berlin") for tick in following(times, at("2090-03-25 12:00"), 2)] == [
        "03-26 03:00 +0200",
        "03-27 02:30 +0200",
    ]


def test_times_shown_twice_are_remembered_where_the_search_of_a_zone_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zones are searched in stretches; here one begins between the two times that the clocks show 02:30."""
    change = at("2026-10-25T01:00") // 1000
    monkeypatch.setattr("milvaion_trio.policy.zones._STRETCH", change + 60)
    zone = "Europe/Vienna"  # not asked for by other tests, whose stretches are kept

    found = following(parse_cron("30 2 * * *", zone), at("2026-10-24T12:00"), 2)

    assert [shown(tick, zone) for tick in found] == ["10-25 02:30 +0200", "10-26 02:30 +0100"]
