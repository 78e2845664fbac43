"""Whether a failed attempt is tried again, and when."""

from collections.abc import Iterable
from typing import TypeAlias

from attrs import field, frozen

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.headers import RETRY_COUNT_LIMIT
from milvaion_trio.model.outcome import Failed, RetryRequested, TimedOut
from milvaion_trio.policy.backoff import LONGEST_DELAY, bounded_delay, retry_delay

__all__ = ["GaveUp", "Retry", "RetryPolicy", "Retryable", "next_retry"]


def _as_tuple(kinds: Iterable[type[BaseException]]) -> tuple[type[BaseException], ...]:
    return tuple(kinds)


@frozen
class RetryPolicy:
    """A job's rules for retries. Raises `SettingsError`, with every mistake in it."""

    max_retries: int = 3
    """Runs altogether are one more."""
    base_delay: float = 60.0
    """Seconds before the first retry; each further one waits twice as long."""
    cap: float | None = None
    """No retry waits longer than this."""
    jitter: float = 0.0
    """Fraction by which delays are spread: 0.1 means ±10 %."""
    retry_on_timeout: bool = False
    """Milvaion never retries a timeout; a job may ask for it."""
    never: tuple[type[BaseException], ...] = field(default=(), converter=_as_tuple)
    """Exceptions that no retry can help: they fail the job as `PermanentFailure` does."""

    def __attrs_post_init__(self) -> None:
        """Refuse what would loop for ever, never run or mean nothing."""
        problems = [
            f"{name} is {value!r}; allowed is {allowed}."
            for name, value, fits, allowed in (
                (
                    "max_retries",
                    self.max_retries,
                    _is_integer(self.max_retries) and 0 <= self.max_retries <= RETRY_COUNT_LIMIT,
                    f"a whole number from 0 to {RETRY_COUNT_LIMIT}",
                ),
                (
                    "base_delay",
                    self.base_delay,
                    _is_number(self.base_delay) and 0 <= self.base_delay <= LONGEST_DELAY,
                    f"a number of seconds from 0 to {LONGEST_DELAY:.0f} (30 days)",
                ),
                (
                    "cap",
                    self.cap,
                    self.cap is None or (_is_number(self.cap) and self.cap >= 0),
                    "a number of seconds, 0 or more, or None",
                ),
                (
                    "jitter",
                    self.jitter,
                    _is_number(self.jitter) and 0 <= self.jitter <= 1,
                    "a fraction from 0 to 1",
                ),
                (
                    "never",
                    self.never,
                    all(_is_exception_class(kind) for kind in self.never),
                    "a list of exception classes",
                ),
            )
            if not fits
        ]
        if problems:
            raise SettingsError(problems)

    def forbids(self, error: BaseException) -> bool:
        """Whether the job said that this exception is permanent. Who builds the `Failed` outcome asks it."""
        return isinstance(error, self.never)


@frozen
class Retry:
    """Try again: a copy of the message waits `delay` seconds and carries `retry_count`."""

    delay: float
    retry_count: int


@frozen
class GaveUp:
    """No further attempt. `permanent`: none was wanted, even if some were left."""

    permanent: bool


Retryable: TypeAlias = Failed | RetryRequested | TimedOut
"""The outcomes after which the question comes up. A snooze needs no answer: it is granted, and counts nothing."""


def next_retry(policy: RetryPolicy, outcome: Retryable, retry_count: int, draw: float) -> Retry | GaveUp:
    """What follows an attempt that came after `retry_count` retries; `draw` in [0, 1) is the jitter's randomness."""
    if isinstance(outcome, Failed) and outcome.permanent:
        return GaveUp(permanent=True)
    if isinstance(outcome, TimedOut) and not policy.retry_on_timeout:
        return GaveUp(permanent=True)
    if retry_count >= policy.max_retries:
        return GaveUp(permanent=False)
    if isinstance(outcome, RetryRequested):
        # Exactly what the job asked for: neither the job's cap nor its jitter applies.
        delay = bounded_delay(outcome.delay)
    else:
        delay = retry_delay(policy.base_delay, retry_count, cap=policy.cap, jitter=policy.jitter, draw=draw)
    return Retry(delay, retry_count + 1)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_exception_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)
