"""Figures with their spread, and what is read from marks; nothing here knows a clock, a process or a server."""

import math
import statistics
from collections.abc import Mapping, Sequence

from attrs import frozen

__all__ = ["Figure", "figure", "figures", "latencies_ms", "percentile", "steady_rate"]


@frozen
class Figure:
    """What the rounds gave: the median counts, the spread is shown."""

    median: float
    least: float
    most: float
    rounds: int


def figure(values: Sequence[float]) -> Figure:
    """Of at least one round."""
    return Figure(statistics.median(values), min(values), max(values), len(values))


def figures(rounds: Sequence[Mapping[str, float]]) -> dict[str, Figure]:
    """By name; a round that lacks a figure does not count for it."""
    names = dict.fromkeys(name for one in rounds for name in one)
    return {name: figure([one[name] for one in rounds if name in one]) for name in names}


def percentile(values: Sequence[float], fraction: float) -> float:
    """The least value that so many of them do not exceed."""
    return sorted(values)[max(0, math.ceil(fraction * len(values)) - 1)]


def steady_rate(marks_ns: Sequence[int], begin: float = 0.1, end: float = 0.9) -> float:
    """Jobs per second between two fractions of the jobs: neither the start counts nor the queue that runs dry."""
    ordered = sorted(marks_ns)
    first, last = int(len(ordered) * begin), min(int(len(ordered) * end), len(ordered) - 1)
    if ordered[last] <= ordered[first]:
        raise ValueError(f"{len(ordered)} marks are too few, or all at one time, to tell a rate.")
    return (last - first) / (ordered[last] - ordered[first]) * 1e9


def latencies_ms(published_ns: Sequence[int], marks_ns: Sequence[int]) -> list[float]:
    """From each publish to its job, in milliseconds: the first job is the first publish's, as queues are in order.

    A mark before its publish means that somebody else's job was counted: that raises `ValueError`.
    """
    waits = [(mark - published) / 1e6 for published, mark in zip(published_ns, sorted(marks_ns), strict=True)]
    if min(waits) < 0:
        raise ValueError("A job ran before it was published.")
    return waits
