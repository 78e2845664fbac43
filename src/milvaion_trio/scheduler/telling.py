"""Who wants to know what a leader does, and the words in which it hears it: a report to others, say.

Separate from whoever that is, who stands above. All of it is told after the book has it: what a leader did and could
not write is done again by the next one, who must not find it told already.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import field, frozen

from milvaion_trio.model.schedule import Entry, OpenRun, RunEnd

__all__ = ["UNHEARD", "Begun", "Guarded", "Telling", "Written"]

_log = logging.getLogger("milvaion_trio.scheduler")


@frozen(eq=False)
class Begun:
    """A tick was dispatched, and the broker has confirmed it."""

    entry: Entry
    run: OpenRun


@frozen(kw_only=True, eq=False)
class Written:
    """What the book has since a moment ago."""

    entries: Sequence[Entry] = ()
    """Those that have come further."""
    begun: Sequence[Begun] = ()
    """Runs that nobody has told: of one tick once, whoever leads."""
    ended: Sequence[RunEnd] = ()
    """Also of runs that began long ago, and of schedules that are gone."""


class Telling(Protocol):
    """Hears it, in Trio's thread. Every call returns at once: ticks wait for it."""

    def has(self, entries: Sequence[Entry]) -> None:
        """The leader has these schedules now and no others: when it begins to lead, and after each edit.

        What is open in the first ones was dispatched, and told, by others.
        """

    def wrote(self, written: Written) -> None:
        """Something happened."""

    def follows(self) -> None:
        """It leads no more."""


@frozen(eq=False)
class _Nobody:
    def has(self, entries: Sequence[Entry]) -> None:
        """Nobody wants to know."""

    def wrote(self, written: Written) -> None:
        """Nobody wants to know."""

    def follows(self) -> None:
        """Nobody wants to know."""


UNHEARD: Telling = _Nobody()
"""Nobody listens."""


@frozen(eq=False)
class Guarded:
    """Keeps the defects of one who listens from those who dispatch."""

    _to: Telling = field(alias="to")

    def has(self, entries: Sequence[Entry]) -> None:
        """As it says there."""
        _try(lambda: self._to.has(entries))

    def wrote(self, written: Written) -> None:
        """As it says there."""
        _try(lambda: self._to.wrote(written))

    def follows(self) -> None:
        """As it says there."""
        _try(self._to.follows)


def _try(tell: Callable[[], None]) -> None:
    try:
        tell()
    except Exception:
        _log.exception("a defect in the reports about schedules; the schedules go on")
