"""Waits are the .NET worker's, inside bounds, whatever settings and headers say."""

import itertools
import math

import pytest

from milvaion_trio.policy.backoff import LONGEST_DELAY, bounded_delay, reconnect_delays, retry_delay


@pytest.mark.parametrize(
    ("base", "retry_count", "expected"),
    [
        (5, 0, 5),
        (5, 1, 10),
        (5, 2, 20),
        (60, 0, 60),
        (60, 1, 120),
        (60, 2, 240),
        (0.5, 3, 4),
        (0, 10, 0),
        (0.1, 1, 0.2),
    ],
)
def test_delays_are_those_of_the_dotnet_worker(base: float, retry_count: int, expected: float) -> None:
    assert retry_delay(base, retry_count) == expected


@pytest.mark.parametrize(
    ("base", "retry_count"),
    [
        (60, 26),
        (60, 1000),
        (60, 10**9),
        (LONGEST_DELAY, 0),
        (LONGEST_DELAY, 1000),
        (1e308, 0),
        (math.inf, 0),
        (10**400, 0),
    ],
)
def test_no_delay_is_longer_than_30_days(base: float, retry_count: int) -> None:
    assert retry_delay(base, retry_count) == 30 * 86400


@pytest.mark.parametrize("base", [-1, -math.inf, math.nan, -(10**400)])
def test_a_base_that_is_no_duration_means_no_wait(base: float) -> None:
    assert retry_delay(base, 3) == 0


@pytest.mark.parametrize("retry_count", [-1, -(2**31), -(10**400)])
def test_a_forged_negative_retry_count_counts_as_none(retry_count: int) -> None:
    assert retry_delay(5, retry_count) == 5


def test_the_retry_count_is_clamped_to_1000() -> None:
    tiny = 5e-324

    assert retry_delay(tiny, 1001) == retry_delay(tiny, 1000) == math.ldexp(tiny, 1000)


@pytest.mark.parametrize(
    ("cap", "expected"),
    [(None, 240), (100, 100), (240, 240), (1000, 240), (0, 0), (-5, 0), (math.nan, 240), (math.inf, 240)],
)
def test_a_cap_bounds_the_delay(cap: float | None, expected: float) -> None:
    assert retry_delay(60, 2, cap=cap) == expected


@pytest.mark.parametrize(
    ("draw", "expected"),
    [(0.0, 90), (0.25, 95), (0.5, 100), (0.75, 105), (1.0, 110), (-3.0, 90), (7.0, 110), (math.nan, 100)],
)
def test_jitter_spreads_the_delay_by_its_fraction_on_both_sides(draw: float, expected: float) -> None:
    assert retry_delay(100, 0, jitter=0.1, draw=draw) == pytest.approx(expected)


@pytest.mark.parametrize(("jitter", "expected"), [(-1.0, 100), (math.nan, 100), (5.0, 200), (math.inf, 200)])
def test_jitter_is_clamped_to_a_fraction(jitter: float, expected: float) -> None:
    assert retry_delay(100, 0, jitter=jitter, draw=1.0) == expected


def test_jitter_does_not_lift_a_delay_over_its_cap() -> None:
    assert retry_delay(100, 0, cap=100, jitter=0.1, draw=0.9) == 100


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, 0), (1.5, 1.5), (7, 7), (-1, 0), (math.nan, 0), (math.inf, LONGEST_DELAY), (10**400, LONGEST_DELAY)],
)
def test_a_bounded_delay_is_a_float_from_0_to_30_days(seconds: float, expected: float) -> None:
    delay = bounded_delay(seconds)

    assert delay == expected
    assert type(delay) is float


def test_reconnect_delays_with_the_highest_draws_triple_until_5_seconds() -> None:
    """However long an outage was, consuming goes on within 15 s of its end (RELIABILITY.md 6, I10)."""
    delays = list(reconnect_delays(itertools.repeat(1.0, 6)))

    assert delays == pytest.approx([0.6, 1.8, 5, 5, 5, 5])


def test_reconnect_delays_with_the_lowest_draws_stay_at_the_shortest() -> None:
    assert list(reconnect_delays(itertools.repeat(0.0, 3))) == pytest.approx([0.2, 0.2, 0.2])


def test_reconnect_delays_grow_from_the_last_one_and_not_from_the_number_of_tries() -> None:
    assert list(reconnect_delays(iter([1.0, 1.0, 0.0, 1.0]))) == pytest.approx([0.6, 1.8, 0.2, 0.6])


def test_reconnect_delays_end_with_their_draws() -> None:
    assert list(reconnect_delays(iter([]))) == []


@pytest.mark.parametrize("draw", [math.nan, math.inf, -math.inf, 5.0])
def test_reconnect_delays_stay_in_bounds_for_draws_out_of_theirs(draw: float) -> None:
    assert all(0.2 <= delay <= 5 for delay in reconnect_delays(itertools.repeat(draw, 20)))
