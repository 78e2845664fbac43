"""How long to wait: before the next attempt of a job, and before the next try to connect.

Total functions: base, cap and retry count come from settings and from messages that anybody may have written, and a
wait that is negative, endless or no number would stop a worker.
"""

import math
from collections.abc import Iterator

from milvaion_trio.model.headers import RETRY_COUNT_LIMIT

__all__ = ["LONGEST_DELAY", "bounded_delay", "reconnect_delays", "retry_delay"]

LONGEST_DELAY = 30 * 86400.0
"""30 days (DESIGN.md 5). Doubling has no end: 60 s reach a century after 26 retries."""

_FIRST_RECONNECT = 0.2
"""Seconds. A restarted broker takes 6 s to serve (RELIABILITY.md, appendix A), a lost packet much less."""
_LONGEST_RECONNECT = 5.0
"""Seconds, since consuming has to go on within 15 s of a server's return (RELIABILITY.md 6, I10), and a try that meets
a server in the middle of its start may take seconds itself and be for nothing: at 10 s, 12 of 50 kills missed that."""


def retry_delay(
    base: float,
    retry_count: int,
    *,
    cap: float | None = None,
    jitter: float = 0.0,
    draw: float = 0.5,
) -> float:
    """Seconds before the attempt that follows `retry_count` retries: `base * 2 ** retry_count`.

    The same as a .NET worker's, so that a job may fail in one language and be retried in the other; except that it is
    clamped to `cap` and to 30 days. `jitter` is a fraction: with 0.1 the delay is spread over 90 % to 110 %, and
    `draw`, a random number in [0, 1), says where; 0.5 is the middle.
    """
    longest = LONGEST_DELAY if cap is None or _is_nan(cap) else bounded_delay(cap)
    # Doubling is exact, and cannot overflow: 30 days * 2 ** 1000 is below the largest float.
    delay = min(math.ldexp(bounded_delay(base), _count(retry_count)), longest)
    spread = 1.0 + _fraction(jitter, 0.0) * (2.0 * _fraction(draw, 0.5) - 1.0)
    return min(delay * spread, longest)


def bounded_delay(seconds: float) -> float:
    """The delay as a float from 0 to 30 days; what is no number counts as 0."""
    if not seconds > 0:  # also true of NaN
        return 0.0
    return float(seconds) if seconds < LONGEST_DELAY else LONGEST_DELAY


def reconnect_delays(draws: Iterator[float]) -> Iterator[float]:
    """Waits before the first, second, … try to connect again: 0.2 s at first, 5 s at most.

    Decorrelated jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/): each wait is drawn
    between the shortest one and three times the last one. Workers that lost the same broker at the same moment drift
    apart, where a common doubling sequence would keep them together.
    """
    delay = _FIRST_RECONNECT
    for draw in draws:
        delay = min(_FIRST_RECONNECT + _fraction(draw, 0.5) * (3 * delay - _FIRST_RECONNECT), _LONGEST_RECONNECT)
        yield delay


def _count(retry_count: float) -> int:
    if not retry_count > 0:
        return 0
    return int(retry_count) if retry_count < RETRY_COUNT_LIMIT else RETRY_COUNT_LIMIT


def _fraction(value: float, otherwise: float) -> float:
    if _is_nan(value):
        return otherwise
    return 0.0 if value <= 0 else 1.0 if value >= 1 else float(value)


def _is_nan(value: float) -> bool:
    return value != value  # math.isnan() fails for integers beyond a float
