"""Whether a failed attempt is tried again, and when: every row of the decision."""

import math

import pytest

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.outcome import Failed, RetryRequested, TimedOut
from milvaion_trio.policy.backoff import LONGEST_DELAY
from milvaion_trio.policy.retry import GaveUp, Retry, Retryable, RetryPolicy, next_retry

POLICY = RetryPolicy(max_retries=3, base_delay=60)
TIMEOUTS_TOO = RetryPolicy(max_retries=3, base_delay=60, retry_on_timeout=True)
NONE = RetryPolicy(max_retries=0)
FAILED = Failed("boom")
TIMED_OUT = TimedOut(limit=5, elapsed=5.1)
TIRED = GaveUp(permanent=False)
FOR_GOOD = GaveUp(permanent=True)


@pytest.mark.parametrize(
    ("policy", "outcome", "retry_count", "expected"),
    [
        pytest.param(POLICY, FAILED, 0, Retry(60, 1), id="first failure waits the base delay"),
        pytest.param(POLICY, FAILED, 1, Retry(120, 2), id="second failure waits twice as long"),
        pytest.param(POLICY, FAILED, 2, Retry(240, 3), id="the last retry"),
        pytest.param(POLICY, FAILED, 3, TIRED, id="retries are used up"),
        pytest.param(POLICY, FAILED, 1000, TIRED, id="a forged count beyond the maximum"),
        pytest.param(NONE, FAILED, 0, TIRED, id="no retries at all"),
        pytest.param(POLICY, Failed("x", permanent=True), 0, FOR_GOOD, id="permanent, retries left"),
        pytest.param(POLICY, Failed("x", permanent=True), 3, FOR_GOOD, id="permanent, retries used up"),
        pytest.param(POLICY, RetryRequested(7.5, "later"), 0, Retry(7.5, 1), id="RetryLater takes its own delay"),
        pytest.param(POLICY, RetryRequested(7.5, "later"), 2, Retry(7.5, 3), id="RetryLater does not double"),
        pytest.param(POLICY, RetryRequested(7.5, "later"), 3, TIRED, id="RetryLater counts as an attempt"),
        pytest.param(POLICY, RetryRequested(0, "now"), 0, Retry(0, 1), id="RetryLater at once"),
        pytest.param(POLICY, RetryRequested(1e12, "x"), 0, Retry(LONGEST_DELAY, 1), id="RetryLater beyond 30 days"),
        pytest.param(POLICY, RetryRequested(-3, "x"), 0, Retry(0, 1), id="RetryLater with a negative delay"),
        pytest.param(POLICY, RetryRequested(math.nan, "x"), 0, Retry(0, 1), id="RetryLater with no number"),
        pytest.param(POLICY, TIMED_OUT, 0, FOR_GOOD, id="a timeout is final"),
        pytest.param(TIMEOUTS_TOO, TIMED_OUT, 0, Retry(60, 1), id="a timeout is retried where the job asks"),
        pytest.param(TIMEOUTS_TOO, TIMED_OUT, 3, TIRED, id="a timeout with retries used up"),
    ],
)
def test_decision(policy: RetryPolicy, outcome: Retryable, retry_count: int, expected: Retry | GaveUp) -> None:
    assert next_retry(policy, outcome, retry_count, 0.5) == expected


def test_cap_and_jitter_apply_to_the_computed_delay() -> None:
    policy = RetryPolicy(max_retries=9, base_delay=60, cap=100, jitter=0.1)

    assert next_retry(policy, FAILED, 0, 0.0) == Retry(54, 1)
    assert next_retry(policy, FAILED, 5, 0.5) == Retry(100, 6)


def test_cap_and_jitter_do_not_touch_the_delay_a_job_asked_for() -> None:
    policy = RetryPolicy(max_retries=9, base_delay=60, cap=100, jitter=0.1)

    assert next_retry(policy, RetryRequested(500, "later"), 0, 0.0) == Retry(500, 1)


def test_a_policy_has_the_defaults_of_the_readme() -> None:
    policy = RetryPolicy()

    assert (policy.max_retries, policy.base_delay, policy.retry_on_timeout) == (3, 60, False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_retries", -1),
        ("max_retries", 1001),
        ("max_retries", 2.0),
        ("max_retries", True),
        ("max_retries", "3"),
        ("base_delay", -1),
        ("base_delay", math.nan),
        ("base_delay", math.inf),
        ("base_delay", 31 * 86400),
        ("base_delay", "60"),
        ("cap", -0.1),
        ("cap", math.nan),
        ("cap", True),
        ("jitter", -0.1),
        ("jitter", 1.1),
        ("jitter", math.nan),
        ("never", (3,)),
        ("never", (int,)),
        ("never", ("ValueError",)),
    ],
)
def test_a_policy_refuses_what_makes_no_sense_and_names_it(name: str, value: object) -> None:
    with pytest.raises(SettingsError) as caught:
        RetryPolicy(**{name: value})  # type: ignore[arg-type]  # the point of the test

    assert caught.value.problems[0].startswith(f"{name} is {value!r}")


def test_a_policy_reports_all_its_mistakes_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        RetryPolicy(max_retries=-1, base_delay=-1, cap=-1, jitter=2)

    assert len(caught.value.problems) == 4


@pytest.mark.parametrize(
    ("name", "value"), [("max_retries", 0), ("max_retries", 1000), ("cap", math.inf), ("jitter", 1)]
)
def test_a_policy_takes_the_values_at_its_borders(name: str, value: float) -> None:
    assert getattr(RetryPolicy(**{name: value}), name) == value  # type: ignore[arg-type]  # one of several fields


def test_a_policy_forbids_the_listed_exceptions_and_their_subclasses_only() -> None:
    policy = RetryPolicy(never=(LookupError, KeyboardInterrupt))

    assert policy.forbids(KeyError("x"))
    assert policy.forbids(KeyboardInterrupt())
    assert not policy.forbids(ValueError("x"))
    assert not RetryPolicy().forbids(ValueError("x"))


def test_exceptions_may_be_given_as_a_list() -> None:
    assert RetryPolicy(never=[ValueError]).never == (ValueError,)
