"""Dates keep their ticks and the way they are written."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from milvaion_trio.model.instant import MINIMUM, Instant


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2026-04-02T09:15:30.1234567Z", "2026-04-02T09:15:30.1234567Z"),
        ("2026-04-02T09:15:30.1200000+03:00", "2026-04-02T09:15:30.12+03:00"),
        ("2026-04-02T09:15:30.0Z", "2026-04-02T09:15:30Z"),
        ("2026-04-02T09:15-14:00", "2026-04-02T09:15:00-14:00"),
        ("2026-04-02", "2026-04-02T00:00:00"),
        ("0001-01-01T00:00:00.0000001Z", "0001-01-01T00:00:00.0000001Z"),
        ("9999-12-31T23:59:59.99999999Z", "9999-12-31T23:59:59.9999999Z"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
    ],
)
def test_dates_are_read_and_written(text: str, written: str) -> None:
    assert Instant.parse(text).text == written
    assert Instant.parse(written) == Instant.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "2026-04-02T",
        "2026-04-02T09Z",
        "2026-04-02T09:15:30.Z",
        "2026-04-02T09:15.5Z",
        "2026-04-02Z",
        "2026-04-02t09:15:30z",
        "2026-4-2T09:15:30Z",
        "20260402T091530Z",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-04-02T24:00:00Z",
        "2026-04-02T23:60:00Z",
        "2026-04-02T23:59:60Z",
        "2026-04-02T09:15:30+14:01",
        "2026-04-02T09:15:30+1:00",
        "2026-04-02T09:15:30+03",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:00-00:01",
        "2026-04-02T09:15:30Z\n",
        " 2026-04-02T09:15:30Z",
        "\u0662026-04-02T09:15:30Z",
        "2026-W14-4",
        "2026-04-02T09:15:30.12345678901234567Z",
        "9" * 10_000,
    ],
    ids=lambda text: repr(text[:40]),
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Instant.parse(text)


def test_clock_readings_are_cut_to_ticks() -> None:
    assert Instant.from_unix_ns(1_775_121_330_123_456_789).text == "2026-04-02T09:15:30.1234567Z"
    assert Instant.from_unix_ns(-1).text == "1969-12-31T23:59:59.9999999Z"


def test_clock_readings_outside_of_the_calendar_are_refused() -> None:
    with pytest.raises(ValueError, match="outside the years 1 to 9999"):
        Instant.from_unix_ns(10**21)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 4, 2, 9, 15, 30, 123_456, UTC), "2026-04-02T09:15:30.123456Z"),
        (datetime(2026, 4, 2, 9, 15, tzinfo=timezone(timedelta(hours=3, minutes=30))), "2026-04-02T05:45:00Z"),
        (datetime(2026, 4, 2, 9, 15), "2026-04-02T09:15:00"),
        (datetime(1, 1, 1), "0001-01-01T00:00:00"),
    ],
)
def test_datetimes_become_utc(moment: datetime, text: str) -> None:
    """We write dates with `Z` (WIRE.md 0.1); a naive one has nothing to be converted from."""
    instant = Instant.from_datetime(moment)

    assert instant.text == text
    assert instant.to_datetime() == moment


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-04-02T09:15:30.1234567Z", datetime(2026, 4, 2, 9, 15, 30, 123_456, UTC)),
        ("2026-04-02T09:15:30-01:30", datetime(2026, 4, 2, 10, 45, 30, tzinfo=UTC)),
        ("0001-01-01T00:00:00", datetime(1, 1, 1)),
    ],
)
def test_instants_become_datetimes(text: str, moment: datetime) -> None:
    assert Instant.parse(text).to_datetime() == moment


def test_offset_of_a_datetime_is_the_written_one() -> None:
    assert Instant.parse("2026-04-02T09:15:30-01:30").to_datetime().utcoffset() == -timedelta(minutes=90)


@pytest.mark.parametrize(
    ("text", "seconds", "later"),
    [
        ("2026-04-02T09:15:30Z", 5, "2026-04-02T09:15:35Z"),
        ("2026-12-31T23:59:59.9999999Z", 1e-7, "2027-01-01T00:00:00Z"),
        ("2026-04-02T09:15:30+03:00", -30.5, "2026-04-02T09:14:59.5+03:00"),
        ("0001-01-01T00:00:00", 0.25, "0001-01-01T00:00:00.25"),
    ],
)
def test_later_instants_are_written_the_same_way(text: str, seconds: float, later: str) -> None:
    assert Instant.parse(text).plus(seconds).text == later


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1, 1e300])
def test_later_instants_outside_of_the_calendar_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"."):
        MINIMUM.plus(seconds)


def test_round_trip_form_has_seven_digits() -> None:
    assert Instant.parse("2026-04-02T09:15:30.5+03:00").round_trip == "2026-04-02T09:15:30.5000000+03:00"
    assert MINIMUM.round_trip == "0001-01-01T00:00:00.0000000"
