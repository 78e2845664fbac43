"""What happened in a simulation, in order: all that the checks know.

An event is a plain value. As text it is a line that is the same wherever and whenever its seed is run.
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from attrs import define, field

from milvaion_trio.model.ids import OccurrenceId

__all__ = ["Event", "Trace", "identity", "number_of"]

_REST: Final = "-0000-4000-8000-000000000000"


class Event(NamedTuple):
    """Something that happened."""

    at: float
    """Second of the virtual clock."""
    who: str
    """`api`, `world`, a host, or one life of a host such as `h0.1`."""
    what: str
    """One word: `dispatched`, `handed`, `began`, `ended`, `stored`, `confirmed`, `acked`, `crashed`, …"""
    about: str = ""
    """An attempt (`reporting.label`), a message id, or nothing."""
    detail: str = ""
    body: bytes = b""

    def __str__(self) -> str:
        digest = f" {zlib.crc32(self.body):08x}" if self.body else ""
        return f"{self.at:12.6f} {self.who:6} {self.what:10} {self.about} {self.detail}{digest}".replace(_REST, "")


@define(eq=False)
class Trace:
    """The events so far."""

    now: Callable[[], float]
    events: list[Event] = field(factory=list, init=False)

    def note(self, who: str, what: str, about: str = "", detail: str = "", body: bytes = b"") -> None:
        """Something happened now."""
        self.events.append(Event(self.now(), who, what, about, detail, body))

    def lines(self) -> Iterator[str]:
        """As text."""
        return map(str, self.events)


def identity(number: int) -> OccurrenceId:
    """The occurrence of this number."""
    return OccurrenceId(f"{number:08x}{_REST}")


def number_of(about: str) -> int:
    """The number of the occurrence that a text begins with; -1 where it does not begin with one."""
    return int(about[:8], 16) if about[8:36] == _REST else -1
