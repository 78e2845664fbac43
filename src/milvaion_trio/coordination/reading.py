"""What every keeper does with what it reads, and how much of it is kept and handed over.

Separate from the codec: that knows texts; here is decided what becomes of one that cannot be read.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, TypeVar

from milvaion_trio.coordination.codec import read_progress, read_schedule
from milvaion_trio.model.schedule import Entry, Millis, Progress

__all__ = ["ENDS_AT_A_TIME", "ENDS_REMEMBERED", "entry_of", "readable"]

ENDS_AT_A_TIME: Final = 10_000
"""Ends in a beat: some megabytes, and an hour of a busy leader's absence in a few beats."""
ENDS_REMEMBERED: Final = 90_000.0
"""Seconds for `has_ended`: a day, and an hour for clocks and for messages on their way."""

T = TypeVar("T")

_log = logging.getLogger("milvaion_trio.coordination")


def entry_of(
    schedule_id: str | bytes,
    definition: str | bytes,
    recurrence: str | bytes,
    created: int | str | bytes,
    paused: int | str | bytes | None,
    resumed: int | str | bytes | None,
    progress: str | bytes | None,
) -> Entry:
    """The entry of what a keeper has of a schedule; raises `ValueError` for what this version cannot read."""
    try:
        return Entry(
            schedule=read_schedule(definition, recurrence),
            created=int(created),
            paused=bool(int(paused or 0)),
            resumed=None if resumed is None else int(resumed),
            progress=_progress_of(int(created), progress),
        )
    except ValueError as error:
        name = schedule_id if isinstance(schedule_id, str) else schedule_id.decode()
        raise ValueError(f"schedule {name!r}: {error}") from error


def _progress_of(created: Millis, text: str | bytes | None) -> Progress:
    """How far the entry of that time has come. A leader that has not heard yet that somebody put another schedule in
    the place of one may have written once more how far the one before had come.
    """
    progress = read_progress(text)
    return progress if progress.created in (None, created) else Progress()


def readable(rows: Iterable[Sequence[object]], read: Callable[..., T]) -> list[T]:
    """What can be read of the rows. The rest is left out and told once: one strange schedule must not stop all."""
    found: list[T] = []
    for row in rows:
        try:
            found.append(read(*row))
        except ValueError as error:
            _tell(str(error))
    return found


@lru_cache(maxsize=1000)
def _tell(why: str) -> None:
    _log.error("left out of the book of schedules: %s; a newer version may have written it", why)
