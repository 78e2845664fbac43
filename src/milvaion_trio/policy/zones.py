"""The clocks of a time zone, as spans in which they keep one distance from UTC.

Separate from the cron that reads them: inside a span local time is plain arithmetic, and all of daylight saving is in
what its beginning says. `zoneinfo` knows the distance at a moment, not when it changes; that is found out here, once.
"""

import difflib
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from attrs import field, frozen

__all__ = ["END", "Span", "problem_of_zone", "span_at"]

END: Final = 250_000_000_000
"""Seconds since 1970, in the year 9892: no times are computed from there on; `datetime` ends with 9999."""

_DAY: Final = 86_400
_STRETCH: Final = 1 << 25
"""Seconds that are searched at a time, about a year."""
_LOOK_BACK: Final = 2 * _DAY
"""A stretch knows of the change just before it: clocks that are set back show times again, for a day at most."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@frozen
class Span:
    """From `start` to before `end`, in seconds since 1970 UTC, local time is UTC plus `offset`."""

    start: int
    end: int
    offset: int
    before: int
    """The offset until `start`: a smaller one means that local time jumped there, a larger one that it fell back."""
    fresh: int = field(init=False)
    """From here on the clocks show what they have not shown yet."""

    @fresh.default
    def _when_fresh(self) -> int:
        return self.start + max(0, self.before - self.offset)


_UTC: Final = Span(-END, END, 0, 0)


def problem_of_zone(name: str) -> str | None:
    """Why there is no such zone, with the name that may have been meant; `None` when there is one."""
    if name == "UTC":  # known without any files
        return None
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # no such file, not the name of a file, a folder
        pass
    else:
        return None
    shown = repr(name[:100])
    zones = sorted(available_timezones())
    if not zones:
        return f"time zone {shown} cannot be looked up: there are no time zone files here; install the package tzdata."
    folded = {zone.rpartition("/")[2].lower(): zone for zone in zones} | {zone.lower(): zone for zone in zones}
    near = difflib.get_close_matches(name.lower()[:100], folded, n=1)
    hint = f"did you mean {folded[near[0]]!r}?" if near else "allowed are names such as 'UTC' and 'Europe/Istanbul'."
    return f"time zone {shown} is not known; {hint}"


def span_at(zone: str, second: int) -> Span:
    """The span that this moment before `END` is in, of a zone without `problem_of_zone`.

    Its neighbours may have the same offset.
    """
    if zone == "UTC":
        return _UTC
    for span in _spans(zone, second // _STRETCH):
        if second < span.end:
            break
    return span


@lru_cache(maxsize=4096)
def _spans(zone_name: str, stretch: int) -> tuple[Span, ...]:
    """All spans of a stretch; the first one begins before it.

    The distance is asked for once a day: no zone has changed twice within one.
    """
    zone = ZoneInfo(zone_name)
    begin, end = stretch * _STRETCH - _LOOK_BACK, min((stretch + 1) * _STRETCH, END)
    spans = []
    start, before = begin, _offset(zone, begin)
    offset = before
    for day in range(begin, end, _DAY):
        last = min(day + _DAY, end) - 1
        if _offset(zone, last) != offset:
            change = _change(zone, day - 1, last, offset)
            spans.append(Span(start, change, offset, before))
            start, before, offset = change, offset, _offset(zone, last)
    return (*spans, Span(start, end, offset, before))


def _change(zone: ZoneInfo, before: int, after: int, offset: int) -> int:
    """The first second with another offset, between one that has this one and one that has another."""
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(zone, middle) == offset:
            before = middle
        else:
            after = middle
    return after


def _offset(zone: ZoneInfo, second: int) -> int:
    distance = (_EPOCH + timedelta(seconds=second)).astimezone(zone).utcoffset()
    assert distance is not None  # ZoneInfo knows one for every moment
    return int(distance.total_seconds())
