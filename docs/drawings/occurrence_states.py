"""The table of occurrence states as a drawing: a column for each status, a row for each event.

Not the usual graph of boxes and arrows: with 27 steps between 8 statuses its arrows would cross, and four events have
the same three sources. Here one row shows one event entirely, and nothing crosses anything that matters.
"""

from collections.abc import Iterator

from docs.drawings.svg import ACCENT, document, element, text

from milvaion_trio.model.occurrence import FINAL, TRANSITIONS, OccurrenceEvent, OccurrenceStatus, status_name

__all__ = ["occurrence_states", "steps_table"]

_EVENTS = 118.0
"""Width of the column with the events' names."""
_COLUMN = 90.0
_ROW = 28.0
_HEAD = 44.0
"""Height of the statuses' names."""
_FOOT = 34.0
_RING = 6.5
_DOT = 3.5


def occurrence_states() -> str:
    """The drawing; every step of the table is one dot, and leads to the ring in its row."""
    width = _EVENTS + _COLUMN * len(OccurrenceStatus)
    bottom = _HEAD + _ROW * len(OccurrenceEvent)
    parts = [*_columns(bottom), *_rows(width), *_legend(bottom)]
    return document(
        "occurrence-states",
        "The states of an occurrence",
        " ".join(f"{before} becomes {after}: {events}." for before, after, events in _steps()),
        width,
        bottom + _FOOT,
        parts,
    )


def steps_table() -> str:
    """The same in words, as a table in Markdown."""
    rows = [f"| {before} | {events} | {after} |" for before, after, events in _steps()]
    return "\n".join(["", "| status | event | status after it |", "| --- | --- | --- |", *rows, ""])


def _steps() -> Iterator[tuple[str, str, str]]:
    """What becomes what, by which events, in the order of the table."""
    found: dict[tuple[OccurrenceStatus, OccurrenceStatus], list[str]] = {}
    for (before, event), after in TRANSITIONS.items():
        found.setdefault((before, after), []).append(event.value)
    for (before, after), events in found.items():
        yield status_name(before), status_name(after), ", ".join(events)


def _x(status: OccurrenceStatus) -> float:
    # Unknown goes before the ends: it is none, and what leaves it goes the same ways as what leaves Running.
    order = [status for status in OccurrenceStatus if status not in FINAL]
    order += [status for status in OccurrenceStatus if status in FINAL]
    return _EVENTS + _COLUMN * (order.index(status) + 0.5)


def _columns(bottom: float) -> Iterator[str]:
    for status in OccurrenceStatus:
        x = _x(status)
        is_end = status in FINAL
        yield element("line", x1=x, y1=_HEAD - 8, x2=x, y2=bottom, stroke="currentColor", stroke_opacity=0.2)
        yield element(
            "rect",
            x=x - _COLUMN / 2 + 3,
            y=6,
            width=_COLUMN - 6,
            height=_HEAD - 14,
            rx=4 if is_end else 15,
            fill=ACCENT,
            fill_opacity=0.05 if is_end else 0.16,
            stroke="currentColor" if is_end else ACCENT,
            stroke_opacity=0.45 if is_end else 1,
        )
        yield text(status_name(status), x, 26, text_anchor="middle", font_weight=600, font_size=12.5)


def _rows(width: float) -> Iterator[str]:
    for number, event in enumerate(OccurrenceEvent):
        y = _HEAD + _ROW * (number + 0.5)
        if number % 2 == 0:
            yield element(
                "rect", x=0, y=y - _ROW / 2, width=width, height=_ROW, rx=3, fill="currentColor", fill_opacity=0.05
            )
        yield text(event.value, 10, y + 4.5, font_size=13)
        steps_here = [(before, after) for (before, what), after in TRANSITIONS.items() if what is event]
        for before, after in steps_here:
            yield from _arrow(_x(before), _x(after), y)
        for after in dict.fromkeys(after for _, after in steps_here):
            yield _ring(_x(after), y)
        for before, _ in steps_here:
            yield element("circle", cx=_x(before), cy=y, r=_DOT)


def _arrow(start: float, end: float, y: float) -> Iterator[str]:
    """From the dot to the edge of the ring, or nothing where the status stays."""
    if start == end:
        return
    towards = 1 if end > start else -1
    tip = end - towards * (_RING + 1)
    yield element("line", x1=start, y1=y, x2=tip - towards * 6, y2=y, stroke=ACCENT, stroke_width=1.5)
    yield element("path", d=f"M{tip:g} {y:g}l{-towards * 8:g} -4v8z", fill=ACCENT)


def _ring(x: float, y: float) -> str:
    return element("circle", cx=x, cy=y, r=_RING, fill="none", stroke=ACCENT, stroke_width=2)


def _legend(bottom: float) -> Iterator[str]:
    y = bottom + 20
    yield element("circle", cx=_EVENTS, cy=y - 4, r=_DOT)
    yield text("before", _EVENTS + 12, y, font_size=12)
    yield _ring(_EVENTS + 84, y - 4)
    yield text("after", _EVENTS + 98, y, font_size=12)
    yield _ring(_EVENTS + 156, y - 4)
    yield element("circle", cx=_EVENTS + 156, cy=y - 4, r=_DOT)
    yield text("stays", _EVENTS + 170, y, font_size=12)
    yield text("round: may go on; square: an end", _EVENTS + 236, y, font_size=12)
