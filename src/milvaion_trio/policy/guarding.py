"""What a guarded message says, one that is run with a lease, a claim or a tick, and when it comes again if it cannot.

Separate from admission, which needs nobody but this process: here is what has to be asked of what workers share.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from attrs import frozen

from milvaion_trio.model import headers
from milvaion_trio.model.envelope import HeaderValue
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.schedule import Millis
from milvaion_trio.policy.conclusion import Parked

__all__ = [
    "UNIQUE_FOR",
    "Tick",
    "exclusive_lease",
    "exclusive_lease_problems",
    "goes_on",
    "occurrence_lease",
    "park_delay",
    "parked",
    "shortest_lease",
    "tick_of",
    "twin_mark",
    "unique_for",
]

UNIQUE_FOR: Final = 86_400.0
"""Seconds for which a unique key is claimed at a time, where its client says nothing."""
_TICK_DIGITS: Final = 15
"""Of milliseconds since 1970: 30,000 years."""
_STEPS: Final = ((1.0, 2.0), (1.0, 2.0), (1.0, 2.0), (2.0, 5.0), (5.0, 10.0))
"""Seconds after which a message that was sent away comes again, by how often it was. Each is one rung of the ladder:
what waits longer passes the hop queue, and is said to be running there."""


@frozen
class Tick:
    """Which tick of which schedule an occurrence is."""

    schedule_id: str
    at: Millis


def tick_of(message_headers: Mapping[str, HeaderValue]) -> Tick | None:
    """The tick that a message is of, if it says so in a form that can be read."""
    schedule_id = headers.text(message_headers.get(headers.SCHEDULE))
    tick = headers.text(message_headers.get(headers.TICK)) or ""
    if not schedule_id or not (tick.isascii() and tick.isdigit() and len(tick) <= _TICK_DIGITS):
        return None
    return Tick(schedule_id, int(tick))


def unique_for(message_headers: Mapping[str, HeaderValue]) -> float:
    """Seconds for which its unique key is claimed at a time."""
    return float(headers.count(message_headers, headers.UNIQUE_FOR)) or UNIQUE_FOR


def goes_on(attempt: AttemptKey, message_headers: Mapping[str, HeaderValue]) -> bool:
    """Whether an earlier attempt of the same dispatch asked for this one, so that nobody else has ended it.

    Messages that were sent away unrun have snoozes too, and are first attempts still.
    """
    return attempt.retry_count > 0 or attempt.snoozes > headers.count(message_headers, headers.PARKED)


def exclusive_lease(key: str) -> str:
    """The name of the lease of an exclusive key."""
    return f"exclusive:{key}"


def occurrence_lease(occurrence_id: OccurrenceId) -> str:
    """The name of the lease of an occurrence that may have been dispatched twice."""
    return f"occurrence:{occurrence_id}"


def parked(message_headers: Mapping[str, HeaderValue], runs: int, deaths: int) -> Parked:
    """What a message that is sent away carries along: all runs that are known, and the deaths under this key.

    Deaths under earlier keys are in it already, or known to the workers that died.
    """
    deaths += headers.count(message_headers, headers.EARLIER_DEATHS)
    return Parked(1 + headers.count(message_headers, headers.PARKED), runs, deaths)


def twin_mark(attempt: AttemptKey, message_headers: Mapping[str, HeaderValue]) -> str:
    """What is marked once the attempt is concluded: the same for a message and the copy by which it was sent away."""
    own_snoozes = attempt.snoozes - headers.count(message_headers, headers.PARKED)
    return f"concluded:{attempt.occurrence_id}:{attempt.dispatch_stamp or '-'}:{attempt.retry_count}.{own_snoozes}"


def park_delay(count: int, draw: float) -> float:
    """Seconds until it comes again when it is sent away for the n-th time; `draw` in [0, 1) spreads them."""
    steps = _STEPS[min(max(count, 1), len(_STEPS)) - 1]
    return steps[int(draw * len(steps))]


def shortest_lease(cleanup_timeout: float) -> float:
    """Seconds that a lease must last to be renewed in time, and for a job to end before it does."""
    return 1.5 * (cleanup_timeout + 1.5)


def exclusive_lease_problems(lease: float, cleanup_timeout: float) -> Iterator[str]:
    """Whether a lease is long enough."""
    least = shortest_lease(cleanup_timeout)
    if lease < least:
        yield (
            f"Worker:ExclusiveLease is {lease:g} s, and a job may take {cleanup_timeout:g} s to clean up "
            "(Worker:Shutdown:CleanupTimeout): it has to end before its lease does. Allowed are "
            f"{least:g} s or more; make the one longer or the other shorter."
        )
