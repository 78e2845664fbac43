"""The term of a leader: won by a lease, kept by beats, over when somebody else leads or the own clock says so.

Separate from the dispatching, which needs no keeper of the book as long as the term lasts: all that is asked of the
keeper is asked here, one thing at a time.
"""

import logging
from collections.abc import Callable
from typing import Final

import trio
from attrs import define, field

from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.schedule import Millis
from milvaion_trio.ports.coordination import LEADER, Coordination, Token
from milvaion_trio.scheduler.agenda import Agenda
from milvaion_trio.scheduler.telling import Telling

__all__ = ["Leading", "Term", "beat_interval"]

_log = logging.getLogger("milvaion_trio.scheduler")

PAUSE: Final = 0.5
"""Seconds before a keeper that cannot be reached is asked again; a lease is at least one second."""
HEARING: Final = 0.1
"""Seconds that a tick may be late for the question whether the run of before has ended."""
BREATH: Final = 100
"""Entries that are taken over without a break: working out when a schedule ticks takes up to 0.1 ms."""


def beat_interval(lease: float) -> float:
    """Seconds between two beats: two may fail before the lease is over, and news are a second old at most."""
    return min(1.0, lease / 3)


@define(eq=False)
class Term:
    """The time for which this process leads, by its own clock, and so shorter than by the keeper's."""

    token: Token
    lease: float
    scope: trio.CancelScope
    """What is done as a leader is done in it: its deadline is the end of the lease."""
    _why: str = field(default="", init=False)

    @property
    def holds(self) -> bool:
        """Whether this process leads. Asked right before each publish: a process may have been stopped meanwhile."""
        return not self.scope.cancel_called and trio.current_time() < self.scope.deadline

    def renewed(self, asked_at: float) -> None:
        """The lease was renewed, by a request that was sent then."""
        self.scope.deadline = asked_at + self.lease

    def end(self, why: str) -> None:
        """It is over before its time."""
        if self.holds:
            self._why = why
            self.scope.cancel()

    @property
    def why_over(self) -> str:
        """Why it is over, for people."""
        return self._why or ("its lease ran out" if self.scope.cancelled_caught else "it leaves")


@define(eq=False)
class Leading:
    """The keeper of leases and book, as a scheduler asks it."""

    coordination: Coordination
    holder: str
    lease: float
    now: Callable[[], Millis]
    telling: Telling
    _is_away: bool = field(default=False, init=False)

    async def won(self) -> Term | None:
        """A term, or `None` while somebody else leads or nobody knows. If cancelled, the lease may be held a while."""
        asked_at = trio.current_time()
        try:
            token = await self.coordination.leases.acquire(LEADER, self.holder, self.lease)
        except LinkLost as lost:
            self._missed(lost)
            return None
        self._met()
        if token is None:
            return None
        return Term(token, self.lease, trio.CancelScope(deadline=asked_at + self.lease))

    async def learn(self, term: Term, agenda: Agenda) -> bool:
        """Renew the lease and take over what is new; false when the keeper cannot be reached.

        If cancelled, the lease may be renewed, and some news are taken over.
        """
        asked_at = trio.current_time()
        try:
            beat = await self.coordination.book.beat(term.token, self.lease)
            if beat is None:
                term.end("the keeper has given its lease away, or lost it")
                return True
            term.renewed(asked_at)
            if beat.revision != agenda.revision:
                await self._read(agenda)
        except LinkLost as lost:
            self._missed(lost)
            return False
        self._met()
        agenda.count(beat.ends, self.now())
        return True

    async def hear_ends(self, term: Term, agenda: Agenda) -> None:
        """Learn what has ended by now, unless that takes long. If cancelled, as `learn`."""
        if not self._is_away:
            with trio.move_on_after(HEARING):
                await self.learn(term, agenda)

    async def keep(self, term: Term, agenda: Agenda) -> None:
        """Beat, and write down what was done as soon as it was, until the term is over.

        If cancelled, the last of it may be written or not.
        """
        beat_at = trio.current_time() + beat_interval(self.lease)
        while True:
            with trio.move_on_at(beat_at):
                await agenda.unwritten.wait()
            is_reached = await self.write(term, agenda)
            if is_reached and trio.current_time() >= beat_at:
                beat_at = trio.current_time() + beat_interval(self.lease)
                is_reached = await self.learn(term, agenda)
            if not is_reached:
                await trio.sleep(min(PAUSE, self.lease / 6))

    async def write(self, term: Term, agenda: Agenda) -> bool:
        """Write down what was done, if anything; false when the keeper cannot be reached.

        If cancelled, all of it or nothing is written.
        """
        if not agenda.unwritten.is_set():
            return True
        progress, taken = agenda.to_write()
        try:
            if await self.coordination.book.advance(term.token, progress, taken):
                self.telling.wrote(agenda.written(progress, taken))
            else:
                term.end("another one leads")
        except LinkLost as lost:
            self._missed(lost)
            return False
        self._met()
        return True

    async def resign(self, term: Term, agenda: Agenda) -> None:
        """Let another one lead at once, who finds everything written. If cancelled, it has to wait for the lease."""
        if await self.write(term, agenda):
            try:
                await self.coordination.leases.release(LEADER, term.token)
            except LinkLost as lost:
                self._missed(lost)

    async def _read(self, agenda: Agenda) -> None:
        revision, entries = await self.coordination.book.read()
        for index, entry in enumerate(entries):
            if index % BREATH == BREATH - 1:
                await trio.lowlevel.checkpoint()
            agenda.put(entry, self.now())
        agenda.keep(entry.schedule.id for entry in entries)
        agenda.revision = revision
        self.telling.has(agenda.entries)

    def _missed(self, lost: LinkLost) -> None:
        if not self._is_away:
            _log.warning("the schedules cannot be reached: %s; asking again until they can", lost)
        self._is_away = True

    def _met(self) -> None:
        if self._is_away:
            _log.warning("the schedules can be reached again: %s", self.coordination.name)
        self._is_away = False
