"""Figures of the comparison: what the marks of a round say, and what rounds say together."""

import itertools

import pytest
from benchmarks.peers.figures import Figure, figure, figures, latencies_ms, percentile, steady_rate
from hypothesis import given
from hypothesis import strategies as st

SECOND = 1_000_000_000


def test_the_median_counts_and_the_spread_is_kept() -> None:
    assert figure([3.0, 1.0, 10.0]) == Figure(median=3.0, least=1.0, most=10.0, rounds=3)


def test_a_round_without_a_figure_does_not_count_for_it() -> None:
    """One that was measured later, or only where there is something to measure."""
    both = figures([{"a": 1.0}, {"a": 3.0, "b": 5.0}])

    assert both == {"a": Figure(2.0, 1.0, 3.0, 2), "b": Figure(5.0, 5.0, 5.0, 1)}


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99, 1.0]))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values: list[float], fraction: float) -> None:
    found = percentile(values, fraction)

    assert found in values
    assert sum(value <= found for value in values) >= fraction * len(values)
    assert sum(value < found for value in values) < fraction * len(values)


def test_the_rate_is_that_of_the_steady_part() -> None:
    """A slow start and a slow end change nothing."""
    first = range(0, 10 * SECOND, SECOND)  # ten jobs, one a second
    steady = range(60 * SECOND, 61 * SECOND, SECOND // 80)  # eighty in a second
    last = range(120 * SECOND, 130 * SECOND, SECOND)

    assert steady_rate([*first, *steady, *last], 0.11, 0.89) == pytest.approx(80, rel=0.02)


def test_marks_of_several_processes_come_in_any_order() -> None:
    marks = list(range(0, 100 * SECOND, SECOND))

    assert steady_rate([*marks[50:], *marks[:50]]) == steady_rate(marks) == pytest.approx(1.0)


@pytest.mark.parametrize("marks", [[5], [5, 5, 5, 5]])
def test_no_rate_is_made_of_too_little(marks: list[int]) -> None:
    with pytest.raises(ValueError, match="too few"):
        steady_rate(marks)


def test_latency_is_from_each_publish_to_its_own_job() -> None:
    published = [0, 50_000_000, 100_000_000]

    waits = latencies_ms(published, [103_000_000, 1_000_000, 52_000_000])
    assert waits == [1.0, 2.0, 3.0]


def test_a_job_that_ran_before_its_publish_is_somebody_elses() -> None:
    with pytest.raises(ValueError, match="before"):
        latencies_ms([10, 20], [5, 25])


def test_a_job_that_is_missing_is_no_latency() -> None:
    with pytest.raises(ValueError, match="argument"):
        latencies_ms([10, 20], [15])


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=100))
def test_the_order_of_marks_means_nothing(gaps: list[int]) -> None:
    marks = list(itertools.accumulate(gaps))

    assert steady_rate(marks[::-1], 0.0, 1.0) == steady_rate(marks, 0.0, 1.0)
