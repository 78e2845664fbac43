"""`Scheduler`: follows until it may lead, leads as long as it may, and lets go when it leaves.

Of all that run with the same keeper one leads. None of them is needed by those that run jobs, so nothing that goes
wrong here ends anything but a term.
"""

import logging
from collections.abc import Callable
from typing import Final

import trio
from attrs import define, field

from milvaion_trio.model.exception_groups import sole
from milvaion_trio.model.schedule import Millis
from milvaion_trio.ports import Publisher, Signals
from milvaion_trio.ports.coordination import Coordination, Token
from milvaion_trio.runtime.supervisor import SupervisedLink
from milvaion_trio.scheduler.agenda import Agenda
from milvaion_trio.scheduler.dispatching import Dispatching
from milvaion_trio.scheduler.leading import Leading, Term, beat_interval
from milvaion_trio.scheduler.telling import UNHEARD, Guarded, Telling

__all__ = ["Scheduler"]

_log = logging.getLogger("milvaion_trio.scheduler")

LETTING_GO: Final = 0.5
"""Seconds to write down what was done and give the lease up, when this process leaves. Jobs wait for it meanwhile."""


@define(eq=False, kw_only=True)
class Scheduler:
    """Turns the schedules of the book into dispatched occurrences, when its turn comes."""

    coordination: Coordination
    """Open as long as it runs."""
    link: SupervisedLink[Publisher]
    signals: Signals
    holder: str
    """Its name among all that may lead."""
    lease: float
    """Seconds after which another one leads when this one is silent."""
    clock_ns: Callable[[], int]
    is_local: bool = True
    """Whether no Milvaion API knows the occurrences it makes."""
    telling: Telling = field(default=UNHEARD, converter=Guarded)
    """Who wants to know what it does while it leads."""
    blank: trio.Event = field(factory=trio.Event, init=False)
    """Set when it leads by a book that nobody ever wrote into, as after a loss; replaced by who waits for it."""
    _dispatching: Dispatching = field(init=False)
    _leading: Leading = field(init=False)
    _term: Term | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        """Make its parts."""
        self._leading = Leading(self.coordination, self.holder, self.lease, self._now, self.telling)
        self._dispatching = Dispatching(
            link=self.link,
            signals=self.signals,
            now=self._now,
            hear_ends=self._leading.hear_ends,
            is_local=self.is_local,
        )

    @property
    def is_leading(self) -> bool:
        """Whether it dispatches now."""
        return self._term is not None and self._term.holds

    @property
    def token(self) -> Token | None:
        """What it leads with, or led with last; `None` before."""
        return None if self._term is None else self._term.token

    @property
    def dispatched(self) -> int:
        """How many messages it has published, and the broker confirmed."""
        return self._dispatching.dispatched

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow and lead, until cancelled; another one may then lead at once, or after the lease if nobody is reached.

        If cancelled while messages are on their way, whoever leads next publishes them again, with the same ids.
        """
        task_status.started()
        while True:
            try:
                await self.link.get()  # who cannot publish must not lead
                term = await self._leading.won()
                if term is not None:
                    self._term = term
                    await self._serve(term)
            except Exception as error:  # a defect of ours; jobs run in this process
                _log.exception("the scheduler failed and begins anew", exc_info=sole(error))
            await trio.sleep(beat_interval(self.lease))

    async def _serve(self, term: Term) -> None:
        """Lead for a term. If cancelled, the lease is given up, within `LETTING_GO` seconds."""
        agenda = Agenda()
        try:
            with term.scope:
                await self._lead(term, agenda)
        finally:
            _log.info("this scheduler (%s) follows: %s", self.holder, term.why_over)
            try:
                with trio.move_on_after(LETTING_GO, shield=True):
                    await self._leading.resign(term, agenda)
            finally:
                self.telling.follows()

    async def _lead(self, term: Term, agenda: Agenda) -> None:
        """Dispatch what is due until cancelled, also by the end of the term."""
        while True:
            if await self._leading.learn(term, agenda):
                break
            await trio.sleep(beat_interval(self.lease))
        _log.info("this scheduler (%s) leads; schedules: %d", self.holder, len(agenda))
        if not agenda.revision:
            self.blank.set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._leading.keep, term, agenda)
            nursery.start_soon(self._dispatching.dispatch, term, agenda)

    def _now(self) -> Millis:
        return self.clock_ns() // 1_000_000
