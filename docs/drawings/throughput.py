"""The comparison as a drawing: a bar for each worker, as long as its jobs per second, with the spread of the rounds."""

from collections.abc import Iterator

from benchmarks.peers.history import Row
from benchmarks.peers.tables import OURS
from docs.drawings.svg import ACCENT, document, element, text
from docs.performance_reference import NOTHING, last_run

__all__ = ["throughput"]

_NAMES = 372.0
"""Width of the column with the workers' names."""
_BARS = 300.0
_NUMBERS = 64.0
_ROW = 26.0
_BAR = 14.0
_HEAD = 8.0
RATE = "jobs_per_second"


def throughput() -> str:
    """The drawing; the fastest stands above."""
    run = last_run()
    rows = [] if run is None else [row for row in run.rows if RATE in row.throughput]
    rows.sort(key=lambda row: -row.throughput[RATE].median)
    longest = max((row.throughput[RATE].most for row in rows), default=1.0)
    told = [f"{row.title}: {row.throughput[RATE].median:,.0f}." for row in rows]
    parts = [part for number, row in enumerate(rows) for part in _row(row, number, longest)]
    return document(
        "throughput",
        "Jobs per second of each worker",
        " ".join(told) or NOTHING,
        _NAMES + _BARS + _NUMBERS,
        2 * _HEAD + _ROW * max(1, len(rows)),
        parts or [text(NOTHING, 0, _HEAD + _BAR)],
    )


def _row(row: Row, number: int, longest: float) -> Iterator[str]:
    top = _HEAD + _ROW * number
    middle = top + _ROW / 2
    rate = row.throughput[RATE]
    scale = _BARS / longest
    colour = ACCENT if row.name.startswith(OURS) else "currentColor"
    yield text(row.title, _NAMES - 10, round(middle + 5, 1), text_anchor="end")
    width = round(rate.median * scale, 1)
    yield element(
        "rect", x=_NAMES, y=round(middle - _BAR / 2, 1), width=width, height=_BAR, fill=colour, fill_opacity=0.55
    )
    least, most = round(_NAMES + rate.least * scale, 1), round(_NAMES + rate.most * scale, 1)
    yield element("line", x1=least, y1=middle, x2=most, y2=middle, stroke="currentColor", stroke_width=2)
    yield text(f"{rate.median:,.0f}", round(_NAMES + rate.most * scale + 8, 1), round(middle + 5, 1))
