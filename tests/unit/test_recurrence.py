"""A schedule's ticks are the same from wherever they are asked for, and finding the latest ones is cheap."""

from datetime import UTC, datetime
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.schedule import Cron, Every, Millis, Once, Recurrence, Schedule
from milvaion_trio.policy import cron
from milvaion_trio.policy.cron import CronTimes
from milvaion_trio.policy.recurrence import last_tick_up_to, tick_after, ticks, ticks_between, validate

CREATED = int(datetime(2026, 5, 5, 12, tzinfo=UTC).timestamp()) * 1000
HOUR = 3_600_000
YEAR = 365 * 24 * HOUR


def schedule(when: Recurrence, start: Millis | None = None, end: Millis | None = None) -> Schedule:
    return Schedule(id="s", job="J", worker_id="w", pattern="j.*", when=when, start=start, end=end)


def first(plan: Schedule, after: Millis, count: int = 3) -> list[Millis]:
    return [tick - CREATED for tick in islice(ticks(plan, CREATED, after), count)]


# --- each kind ------------------------------------------------------------------------------------------------------


def test_every_counts_from_when_the_schedule_was_made_which_is_no_tick_itself() -> None:
    plan = schedule(Every(10))

    assert first(plan, 0) == first(plan, CREATED) == [10_000, 20_000, 30_000]
    assert first(plan, CREATED + 10_000) == first(plan, CREATED + 19_999) == [20_000, 30_000, 40_000]
    assert last_tick_up_to(plan, CREATED, CREATED + 9_999) is None
    assert last_tick_up_to(plan, CREATED, CREATED + 10_000) == CREATED + 10_000


def test_every_counts_from_its_start_which_is_a_tick_itself() -> None:
    plan = schedule(Every(10), start=CREATED + 3)

    assert first(plan, 0) == first(plan, CREATED) == [3, 10_003, 20_003]
    assert first(plan, CREATED + 3) == [10_003, 20_003, 30_003]
    assert last_tick_up_to(plan, CREATED, CREATED + 2) is None
    assert last_tick_up_to(plan, CREATED, CREATED + 3) == CREATED + 3


def test_a_start_long_ago_still_says_at_which_distances_it_ticks() -> None:
    plan = schedule(Every(7 * 86_400), start=CREATED - YEAR)

    assert first(plan, CREATED, 2) == [6 * 24 * HOUR, 13 * 24 * HOUR]  # a year is 52 weeks and a day


def test_distances_finer_than_a_millisecond_never_add_up() -> None:
    plan = schedule(Every(0.1001))

    assert first(plan, CREATED + 900, 3) == [901, 1001, 1101]
    assert first(plan, CREATED + 100_100_000_000 - 1, 1) == [100_100_000_000]


def test_once_ticks_at_its_moment_alone() -> None:
    plan = schedule(Once(CREATED + 5))

    assert first(plan, 0) == first(plan, CREATED + 4) == [5]
    assert first(plan, CREATED + 5) == []
    assert last_tick_up_to(plan, CREATED, CREATED + 4) is None
    assert last_tick_up_to(plan, CREATED, CREATED + 5) == CREATED + 5


def test_cron_ticks_by_its_expression_and_zone() -> None:
    plan = schedule(Cron(expression="0 18 * * *", timezone="Europe/Istanbul"))

    assert first(plan, CREATED) == [3 * HOUR, 27 * HOUR, 51 * HOUR]
    assert last_tick_up_to(plan, CREATED, CREATED) == CREATED - 21 * HOUR


@pytest.mark.parametrize("when", [Cron(expression="* * * * * *"), Every(1), Once(CREATED + 1000)])
def test_start_and_end_are_ticks_themselves_and_nothing_beyond_them_is(when: Recurrence) -> None:
    plan = schedule(when, start=CREATED + 1000, end=CREATED + 1000)

    assert first(plan, 0) == [1000]
    assert last_tick_up_to(plan, CREATED, CREATED + YEAR) == CREATED + 1000
    assert ticks_between(plan, CREATED, 0, CREATED + YEAR, 10) == (CREATED + 1000,)
    assert first(schedule(when, start=CREATED + 1001, end=CREATED + 1000), 0) == []


@pytest.mark.parametrize("when", [Cron(expression="0 * * * * *"), Every(60), Once(CREATED)])
def test_moments_beyond_all_calendars_have_no_tick_after_them_and_one_before(when: Recurrence) -> None:
    plan = schedule(when)

    assert tick_after(plan, CREATED, 10**400) is None
    assert tick_after(plan, CREATED, -(10**400)) is not None
    assert last_tick_up_to(plan, CREATED, 10**400) is not None
    assert last_tick_up_to(plan, CREATED, -(10**400)) is None


def test_a_distance_longer_than_all_calendars_has_no_tick_but_its_start() -> None:
    assert first(schedule(Every(1e308)), 0) == []
    assert first(schedule(Every(1e308), start=CREATED), 0) == [0]
    assert last_tick_up_to(schedule(Every(1e308)), CREATED, 10**400) is None


# --- the latest ones ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", [Cron(expression="* * * * * *"), Every(1)])
def test_the_latest_ticks_of_a_year_of_seconds_are_found_without_walking_it(
    when: Recurrence, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked = 0
    up_to = CronTimes.up_to

    def counted(times: CronTimes, moment: Millis) -> Millis | None:
        nonlocal walked
        walked += 1
        return up_to(times, moment)

    monkeypatch.setattr(cron.CronTimes, "up_to", counted)

    found = ticks_between(schedule(when), CREATED, CREATED, CREATED + YEAR, 3)

    assert found == (CREATED + YEAR - 2000, CREATED + YEAR - 1000, CREATED + YEAR)
    assert walked <= 3


def test_between_excludes_its_beginning_includes_its_end_and_may_be_empty() -> None:
    plan = schedule(Every(1))

    assert ticks_between(plan, CREATED, CREATED + 1000, CREATED + 3000, 9) == (CREATED + 2000, CREATED + 3000)
    assert ticks_between(plan, CREATED, CREATED + 1000, CREATED + 1999, 9) == ()
    assert ticks_between(plan, CREATED, CREATED + 3000, CREATED + 1000, 9) == ()
    assert ticks_between(plan, CREATED, CREATED, CREATED + 3000, 0) == ()


# --- for any schedule -----------------------------------------------------------------------------------------------

near = st.integers(CREATED - 10 * HOUR, CREATED + 10 * HOUR)
recurrences = st.one_of(
    st.builds(Every, st.floats(0.1, 100_000)),
    st.builds(Every, st.floats(0.1, 2)),
    st.builds(Once, near),
    st.builds(
        Cron,
        expression=st.sampled_from(["* * * * * *", "*/7 * * * *", "30 12 * * *", "@weekly", "0 0 30 2 *"]),
        timezone=st.sampled_from(["UTC", "Europe/Berlin"]),
    ),
)
schedules = st.builds(schedule, recurrences, st.none() | near, st.none() | near)


@given(schedules, near)
def test_ticks_ascend_and_going_back_over_them_meets_the_same(plan: Schedule, after: Millis) -> None:
    found = list(islice(ticks(plan, CREATED, after), 10))

    assert found == sorted(set(found))
    assert all(tick > after for tick in found)
    assert all((plan.start or 0) <= tick <= (plan.end or tick) for tick in found)
    until = found[-1] if found else after
    assert list(ticks_between(plan, CREATED, after, until, 10)) == found
    assert list(ticks_between(plan, CREATED, after, until, 4)) == found[-4:]
    for tick in found:
        assert last_tick_up_to(plan, CREATED, tick) == tick == tick_after(plan, CREATED, tick - 1)


@given(st.floats(0.1, 1e7), st.integers(1, 10**9))
def test_each_tick_of_every_is_its_number_times_the_distance(seconds: float, number: int) -> None:
    expected = CREATED + round(number * seconds * 1000)
    before = CREATED + round((number - 1) * seconds * 1000)
    plan = schedule(Every(seconds))
    if expected > 250_000_000_000_000:  # beyond the calendar
        return

    assert tick_after(plan, CREATED, before) == expected
    assert last_tick_up_to(plan, CREATED, expected) == expected
    assert last_tick_up_to(plan, CREATED, expected - 1) == (before if number > 1 else None)


# --- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "when", [Every(0.1), Once(0), Cron(expression="@daily"), Cron(expression="0 0 29 2 *", timezone="Asia/Tokyo")]
)
def test_what_can_tick_is_valid(when: Recurrence) -> None:
    validate(when)


def test_expression_and_zone_are_refused_for_what_is_wrong_with_them() -> None:
    with pytest.raises(SettingsError) as refusal:
        validate(Cron(expression="0 25 * * *", timezone="Asia/Tokio"))

    hour, zone = refusal.value.problems
    assert "hour is '25'" in hour
    assert "did you mean 'Asia/Tokyo'?" in zone


def test_a_cron_that_never_ticks_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"'0 0 30 2 \*' never ticks: no date fits"):
        validate(Cron(expression="0 0 30 2 *"))
