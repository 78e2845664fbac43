"""Durations in the form of .NET's TimeSpan: `[-][d.]hh:mm:ss[.fffffff]`.

Separate because results and job data have it in common, one being written and the other read.
"""

import re
from datetime import timedelta

__all__ = ["parse_time_span", "time_span_text"]

_FORM = re.compile(r"(-?)(?:(\d+)\.)?(\d\d):(\d\d):(\d\d)(?:\.(\d{1,7}))?", re.ASCII)


def time_span_text(span: timedelta) -> str:
    """The text of a duration; without a fraction where there is none."""
    seconds, microseconds = divmod(abs(span) // timedelta(microseconds=1), 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    sign = "-" if span < timedelta(0) else ""
    day_part = f"{days}." if days else ""
    fraction = f".{microseconds:06d}0" if microseconds else ""
    return f"{sign}{day_part}{hours:02d}:{minutes:02d}:{seconds:02d}{fraction}"


def parse_time_span(text: str) -> timedelta:
    """The duration, to microseconds; raises `ValueError`, or `OverflowError` where Python has no such duration."""
    parts = _FORM.fullmatch(text)
    if parts is None:
        raise ValueError(text)
    sign, days, hours, minutes, seconds, fraction = parts.groups("0")
    if int(hours) > 23 or int(minutes) > 59 or int(seconds) > 59:
        raise ValueError(text)
    microseconds = int(f"{fraction:0<7}"[:6])
    span = timedelta(int(days), int(seconds), microseconds, minutes=int(minutes), hours=int(hours))
    return -span if sign == "-" else span
