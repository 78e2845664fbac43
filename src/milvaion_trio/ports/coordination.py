"""What processes that work together share: leases, claims, and the book of schedules.

On several machines Redis keeps it, on one SQLite. `tests/contract` holds every adapter to these sentences.
All methods raise `LinkLost` when the keeper cannot be reached; then nobody knows whether it was done.
Lifetimes are seconds, and run out by the keeper's clock.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NewType, Protocol

from attrs import frozen

from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.schedule import Entry, Millis, Progress, RunEnd, Schedule

__all__ = ["LEADER", "Beat", "Claims", "Coordination", "Leases", "ScheduleBook", "Token"]

Token = NewType("Token", int)
"""A fencing token: of one name, a later holder always has a larger one."""


class Leases(Protocol):
    """At most one holder of a name at a time, as long as the keeper keeps its data and clocks run alike."""

    async def acquire(self, name: str, holder: str, seconds: float) -> Token | None:
        """Hold the name for so long, or `None` while somebody else does. Nobody holds a name twice: no re-entry.

        If cancelled, it may be held; it then runs out.
        """

    async def renew(self, name: str, token: Token, seconds: float) -> bool:
        """Hold it for so long from now; `False` when it is not held with this token any more.

        If cancelled, it may be done.
        """

    async def release(self, name: str, token: Token) -> bool:
        """Give it up; `False` when it was not held with this token any more. If cancelled, it may be done."""


class Claims(Protocol):
    """A key belongs to one occurrence until that gives it up, or its time is over."""

    async def claim(self, key: str, occurrence_id: OccurrenceId, seconds: float) -> OccurrenceId:
        """Claim the key for the occurrence if it is free, and return whose it is now.

        Claiming what is one's own prolongs it. If cancelled, it may be claimed.
        """

    async def give_up(self, key: str, occurrence_id: OccurrenceId) -> bool:
        """Free the key; `False` when it was not this occurrence's. If cancelled, it may be done."""


@frozen
class Beat:
    """What a leader learns with each renewal."""

    revision: int
    """Grows with every edit of the book by an operator."""
    ends: tuple[RunEnd, ...]
    """Runs that ended and that no `advance` has taken yet, oldest first. Of very many, the first ones."""


class ScheduleBook(Protocol):
    """All schedules with their progress. Operators edit entries, the leading scheduler alone writes progress."""

    async def put(self, schedule: Schedule, now: Millis) -> bool:
        """Add the schedule, or replace the one of this name; `False` when it was there just so.

        Pausing stays. Progress stays where the recurrence is the same; else it starts anew, from now.
        If cancelled, it may be done.
        """

    async def remove(self, schedule_id: str) -> bool:
        """Take it out, with its progress; `False` when there is none. If cancelled, it may be done."""

    async def pause(self, schedule_id: str) -> bool:
        """No tick of it runs from now on; `False` when there is none. If cancelled, it may be done."""

    async def resume(self, schedule_id: str, now: Millis) -> bool:
        """Its ticks run again, also where failures had stopped it; `False` when there is none.

        Where failures stopped it later than `now`, by a clock that is ahead or went back since, it counts from right
        behind that: a schedule that was resumed is never still stopped.
        If cancelled, it may be done.
        """

    async def read(self) -> tuple[int, Sequence[Entry]]:
        """The revision and every entry, by name. If cancelled, nothing changes."""

    async def ended(self, end: RunEnd) -> None:
        """Keep the end of a run for the leader, who takes it with `advance`. Of one tick the first one told counts.

        One that is known (`RunEnd.is_known`) counts over one that is not.

        If cancelled, it may be kept.
        """

    async def has_ended(self, schedule_id: str, tick: Millis) -> bool:
        """Whether the end of this tick's run was told by `ended`, within the last day at least.

        A run that was only taken for lost has not ended: its message may come yet, and then it has to be run.
        If cancelled, nothing changes.
        """

    async def beat(self, token: Token, seconds: float) -> Beat | None:
        """Renew the lease of the leader and look for news; `None` when this token leads no more.

        If cancelled, it may be renewed.
        """

    async def advance(self, token: Token, progress: Mapping[str, Progress], taken: Sequence[RunEnd]) -> bool:
        """Write how far these schedules have come and forget these ends, as one; `False`, and nothing is written, when
        a leader with a larger token has been.

        Schedules that are gone from the book are left out, and progress of one that another has taken the place of is
        not read (`Progress.created`). If cancelled, all of it or nothing is written.
        """


class Coordination(Protocol):
    """One keeper of all three."""

    @property
    def name(self) -> str:
        """For messages to people, without secrets."""

    @property
    def leases(self) -> Leases:
        """Who may do what only one may."""

    @property
    def claims(self) -> Claims:
        """Which occurrence a key belongs to."""

    @property
    def book(self) -> ScheduleBook:
        """The schedules; the leader is who holds the lease `LEADER`."""

    def open(self) -> AbstractAsyncContextManager[None]:
        """Use it while the context is open; it may be open several times. Entering does not connect.

        A lost connection is made again when it is needed.
        """


LEADER = "scheduler"
"""Name of the lease of the leading scheduler; `ScheduleBook.beat` and `advance` compare its token."""
