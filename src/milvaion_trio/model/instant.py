"""A .NET date: 100 ns ticks since the year 1, and how it is written.

Separate from `datetime`, which loses the seventh digit and the difference between `Z`, `+00:00` and no suffix.
A retry copy has to carry the dates of its job as they came.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final, Self

from attrs import frozen

__all__ = ["MINIMUM", "Instant"]

_MILLISECOND = 10_000
_SECOND = 1000 * _MILLISECOND
_MINUTE = 60 * _SECOND
_UNIX_EPOCH = 621_355_968_000_000_000
_END = 3_155_378_976_000_000_000
"""The first tick of the year 10000, which .NET has no more."""
_YEAR_ONE = datetime(1, 1, 1)

_FORM = re.compile(
    r"(\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d)?)"
    r"(?:(?<=:\d\d:\d\d)\.(\d{1,16}))?"  # a fraction of seconds, not of minutes
    r"(Z|[+-](?:0\d|1[0-3]):[0-5]\d|[+-]14:00)?"
    r"|(\d{4}-\d\d-\d\d)",
    re.ASCII,
)


@frozen
class Instant:
    """A date as it stands on the wire. Two are equal when they are written alike.

    Make one with `parse`, `from_unix_ns`, `from_unix_ms` or `from_datetime`.
    """

    ticks: int
    """Of the date and time as written, before the offset is applied."""
    kind: str = "Z"
    """The suffix: `Z` for UTC, `+hh:mm` or `-hh:mm` for a local time, `""` for a date that does not say."""

    @staticmethod
    def parse(text: str) -> "Instant":
        """Read what System.Text.Json reads (WIRE.md 0.1); digits past the seventh are cut.

        Raises `ValueError`.
        """
        return _parsed(text)

    @classmethod
    def from_unix_ns(cls, ns: int) -> Self:
        """A reading of `time.time_ns()`, in UTC; what is finer than 100 ns is cut."""
        return cls(_in_range(ns // 100 + _UNIX_EPOCH))

    @classmethod
    def from_unix_ms(cls, ms: int) -> Self:
        """So many milliseconds after 1970, in UTC. Raises `ValueError` outside the years 1 to 9999."""
        return cls(_in_range(ms * _MILLISECOND + _UNIX_EPOCH))

    @classmethod
    def from_datetime(cls, moment: datetime) -> Self:
        """An aware datetime in UTC, or a naive one without suffix (the API takes that as its own local time)."""
        kind = ""
        if moment.utcoffset() is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
            kind = "Z"
        since = moment.replace(tzinfo=None) - _YEAR_ONE
        return cls((since.days * 86_400 + since.seconds) * _SECOND + since.microseconds * 10, kind)

    @property
    def text(self) -> str:
        """As System.Text.Json writes it: the fraction without trailing zeros."""
        digits = str(self.ticks).zfill(8)
        fraction = digits[-7:].rstrip("0")
        if fraction:
            return f"{_whole(digits[:-7])}.{fraction}{self.kind}"
        return _whole(digits[:-7]) + self.kind

    @property
    def utc_ticks(self) -> int:
        """By what dates are compared and kept in order; one without suffix counts as UTC."""
        return self.ticks if self.kind in ("Z", "") else self.ticks - _offset_minutes(self.kind) * _MINUTE

    @property
    def round_trip(self) -> str:
        """As .NET's "O" format has it, in headers and Redis: always seven digits."""
        digits = str(self.ticks).zfill(8)
        return f"{_whole(digits[:-7])}.{digits[-7:]}{self.kind}"

    @property
    def unix_ms(self) -> int:
        """Whole milliseconds since 1970; a date without suffix counts as UTC."""
        return (self.utc_ticks - _UNIX_EPOCH) // _MILLISECOND

    def to_datetime(self) -> datetime:
        """In whole microseconds; aware, or naive where there is no suffix."""
        moment = _YEAR_ONE + timedelta(microseconds=self.ticks // 10)
        if not self.kind:
            return moment
        return moment.replace(
            tzinfo=UTC if self.kind == "Z" else timezone(timedelta(minutes=_offset_minutes(self.kind)))
        )

    def plus(self, seconds: float) -> Self:
        """The date so much later, written the same way. Raises `ValueError` outside the years 1 to 9999."""
        if not -1e12 < seconds < 1e12:
            raise ValueError(f"{seconds!r} seconds after {self.text} is no date")
        return type(self)(_in_range(self.ticks + round(seconds * _SECOND)), self.kind)


MINIMUM: Final = Instant(0, "")
"""What .NET has where no date was given: 0001-01-01T00:00:00, without suffix."""


def _in_range(ticks: int) -> int:
    if not 0 <= ticks < _END:
        raise ValueError(f"{ticks} ticks lie outside the years 1 to 9999")
    return ticks


def _offset_minutes(suffix: str) -> int:
    minutes = int(suffix[1:3]) * 60 + int(suffix[4:6])
    return -minutes if suffix[0] == "-" else minutes


# Messages come many to the second, and a job's date of creation is in each of its messages.


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Instant:
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no ISO 8601 date like 2026-04-02T09:15:30.1234567Z")
    whole, fraction, suffix, day = match.groups("")
    ticks = _ticks(whole or day)
    if fraction:
        ticks += int(fraction[:7].ljust(7, "0"))
    if suffix not in ("", "Z") and not 0 <= ticks - _offset_minutes(suffix) * _MINUTE < _END:
        raise ValueError(f"{text!r} lies outside the years 1 to 9999 in UTC")
    return Instant(ticks, suffix)


@lru_cache(maxsize=1024)
def _ticks(second: str) -> int:
    since = datetime.fromisoformat(second) - _YEAR_ONE
    return (since.days * 86_400 + since.seconds) * _SECOND


@lru_cache(maxsize=1024)
def _whole(seconds: str) -> str:
    return (_YEAR_ONE + timedelta(seconds=int(seconds))).isoformat()
