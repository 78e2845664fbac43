"""Delays and retry decisions for any input, reasonable or forged."""

import itertools
import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from milvaion_trio.model.outcome import Failed, RetryRequested, TimedOut
from milvaion_trio.policy.backoff import LONGEST_DELAY, bounded_delay, reconnect_delays, retry_delay
from milvaion_trio.policy.retry import GaveUp, Retry, Retryable, RetryPolicy, next_retry

any_number = st.floats() | st.integers() | st.sampled_from([10**400, -(10**400), 0.0, -0.0, 5e-324])
any_count = st.integers() | st.integers(-2, 1002)
draws = st.floats(0, 1, exclude_max=True)
durations = st.floats(0, LONGEST_DELAY)

policies = st.builds(
    RetryPolicy,
    max_retries=st.integers(0, 1000) | st.integers(0, 4),
    base_delay=durations,
    cap=st.none() | durations,
    jitter=st.floats(0, 1),
    retry_on_timeout=st.booleans(),
)
outcomes: st.SearchStrategy[Retryable] = st.one_of(
    st.builds(Failed, st.text(), permanent=st.booleans()),
    st.builds(RetryRequested, any_number, st.text()),
    st.builds(TimedOut, durations, durations),
)


@given(any_number, any_count, st.none() | any_number, any_number, any_number)
def test_a_delay_is_a_number_from_0_to_30_days_whatever_it_is_made_of(
    base: float, retry_count: int, cap: float | None, jitter: float, draw: float
) -> None:
    delay = retry_delay(base, retry_count, cap=cap, jitter=jitter, draw=draw)

    assert type(delay) is float
    assert 0 <= delay <= LONGEST_DELAY
    assert cap is None or math.isnan(float(min(max(cap, -1), 1))) or delay <= max(cap, 0)


@given(st.integers(0, 2**31) | durations, st.integers(0, 1000))
def test_an_unclamped_delay_is_exactly_the_dotnet_value(base: float, retry_count: int) -> None:
    exact = Fraction(base) * 2**retry_count

    delay = retry_delay(base, retry_count)

    assert Fraction(delay) == min(exact, Fraction(LONGEST_DELAY))


@given(any_number, any_count, any_count, st.none() | any_number, any_number, any_number)
def test_a_later_retry_never_waits_less(
    base: float, one: int, other: int, cap: float | None, jitter: float, draw: float
) -> None:
    earlier, later = sorted((one, other))

    def delay(retry_count: int) -> float:
        return retry_delay(base, retry_count, cap=cap, jitter=jitter, draw=draw)

    assert delay(earlier) <= delay(later)


@given(durations, st.integers(0, 40), st.floats(0, 1), draws)
def test_jitter_moves_a_delay_by_no_more_than_its_fraction(
    base: float, retry_count: int, jitter: float, draw: float
) -> None:
    plain = retry_delay(base, retry_count)

    moved = retry_delay(base, retry_count, jitter=jitter, draw=draw)

    slack = 1e-9 * plain
    assert plain * (1 - jitter) - slack <= moved <= min(plain * (1 + jitter) + slack, LONGEST_DELAY)


@given(any_number)
def test_bounding_a_delay_twice_changes_nothing(seconds: float) -> None:
    assert bounded_delay(bounded_delay(seconds)) == bounded_delay(seconds)


@given(st.lists(any_number, max_size=50))
def test_reconnect_delays_lie_between_the_shortest_and_three_times_the_last(some_draws: list[float]) -> None:
    delays = list(reconnect_delays(iter(some_draws)))

    assert len(delays) == len(some_draws)
    for before, delay in itertools.pairwise([0.2, *delays]):
        assert 0.2 <= delay <= min(3 * before + 1e-9, 30)


@given(policies, outcomes, st.integers(0, 1000), draws)
def test_a_retry_counts_up_by_one_and_never_passes_the_maximum(
    policy: RetryPolicy, outcome: Retryable, retry_count: int, draw: float
) -> None:
    decision = next_retry(policy, outcome, retry_count, draw)

    match decision:
        case Retry(delay, following):
            assert 0 <= delay <= LONGEST_DELAY
            assert following == retry_count + 1 <= policy.max_retries
        case GaveUp(permanent=False):
            assert retry_count >= policy.max_retries
        case GaveUp(permanent=True):
            assert isinstance(outcome, Failed | TimedOut)


@given(policies, st.builds(Failed, st.just("boom")) | st.builds(RetryRequested, any_number, st.just("later")), draws)
def test_a_job_that_always_fails_runs_once_more_than_it_is_retried(
    policy: RetryPolicy, outcome: Failed | RetryRequested, draw: float
) -> None:
    counts = [0]
    while isinstance(decision := next_retry(policy, outcome, counts[-1], draw), Retry):
        counts.append(decision.retry_count)

    assert counts == list(range(policy.max_retries + 1))
