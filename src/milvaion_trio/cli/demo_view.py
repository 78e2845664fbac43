"""How the demo looks: a live table on a terminal, lines elsewhere, and a closing table on both."""

import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import trio
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from milvaion_trio.cli.demo_record import Fate, Record
from milvaion_trio.cli.narration import Remark
from milvaion_trio.cli.terminal import QUIET, STYLES, table

__all__ = ["closing_table", "is_live", "live_table", "remark_line", "shown_live"]

REFRESH = 0.1
"""Seconds between two pictures: tenths of seconds are what they show."""

NAMES = 12
"""Columns for the longest name of a job in the demo."""

ROOM_FOR_WORDS = 30
"""Columns without which a job's last word is not worth showing."""

GAP = 2
"""Columns between two columns of a table."""


def is_live(console: Console) -> bool:
    """Whether somebody watches on a terminal that can redraw, and wants it."""
    return sys.stdout.isatty() and not console.is_dumb_terminal and not os.environ.get("NO_COLOR")


@asynccontextmanager
async def shown_live(console: Console, record: Record, shows: Mapping[str, str]) -> AsyncIterator[None]:
    """Redraw the table of all jobs while the context is open; it is wiped afterwards."""
    with Live(live_table(record, shows, console.width), console=console, auto_refresh=False, transient=True) as live:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_redraw, live, console, record, shows)
            yield
            nursery.cancel_scope.cancel()


async def _redraw(live: Live, console: Console, record: Record, shows: Mapping[str, str]) -> None:
    while True:
        await trio.sleep(REFRESH)
        live.update(live_table(record, shows, console.width), refresh=True)


def live_table(record: Record, shows: Mapping[str, str], width: int) -> Table:
    """The table at this moment: what each job shows, where it stands, and where there is room what it said last."""
    now = record.clock()
    needed = NAMES, max(map(len, shows.values())), len("running, attempt 3  0.0 s")
    room = width - sum(needed) - GAP * len(needed)
    has_room = room >= ROOM_FOR_WORDS
    made = table("Job", "What it shows", "Now", *(["Last word"] if has_room else []))
    for column, least in zip(made.columns, needed, strict=False):
        column.min_width = least
    fates = {fate.job_name: fate for fate in record.fates.values()}
    for name, what in shows.items():
        fate = fates.get(name, Fate(name))
        cells = [Text(what, QUIET), Text(_state(fate, now), STYLES[fate.mood])]
        made.add_row(name, *cells, *([Text(_cut(fate.latest, room), QUIET)] if has_room else []))
    footer = "the worker leaves" if record.is_leaving else "Ctrl-C drains, twice cancels"
    made.caption = Text(f"{now:4.1f} s  shop-worker on the embedded broker; {footer}", QUIET)
    made.caption_justify = "left"
    return made


def _cut(text: str, room: int) -> str:
    # Left to rich, a text that is too long would take the room of all columns, the first one's whole.
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _state(fate: Fate, now: float) -> str:
    if fate.ending is not None or fate.started is None:
        return fate.state
    if fate.next_try is not None:
        return f"{fate.state} in {max(fate.next_try - now, 0):.1f} s"
    attempt = f", attempt {fate.attempts}" if fate.attempts > 1 else ""
    return f"{fate.state}{attempt}  {now - fate.started:.1f} s"


def remark_line(remark: Remark, now: float) -> Text:
    """One line for a terminal that cannot redraw, or a file."""
    name = remark.job_name or ("worker" if remark.occurrence_id is None else "")
    return Text.assemble((f"{now:6.2f}  ", QUIET), f"{name:<{NAMES}}  ", (remark.text, STYLES[remark.mood]))


def closing_table(record: Record) -> Table:
    """What became of each job, and what a Milvaion server would have been told."""
    made = table("Job", "Attempts", "Ending", "Took", "Reported")
    made.columns[1].justify = made.columns[3].justify = "right"
    for fate in record.fates.values():
        took = f"{fate.ended - fate.started:.1f} s" if fate.ended is not None and fate.started is not None else ""
        made.add_row(fate.job_name, str(fate.attempts), Text(fate.state, STYLES[fate.mood]), took, _reported(fate))
    return made


def _reported(fate: Fate) -> str:
    counted = Counter(status.name.replace("_", " ").lower() for status in fate.statuses)
    parts = [f"{count} {name}" if count > 1 else name for name, count in counted.items()]
    if fate.log_entries:
        parts.append(f"{fate.log_entries} log{'' if fate.log_entries == 1 else 's'}")
    return ", ".join(parts)
