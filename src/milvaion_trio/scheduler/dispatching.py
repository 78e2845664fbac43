"""The leader's work: at the moment a schedule is due, decide, publish, and note what was confirmed.

Messages of one queue go out together and are waited for apart from those of others: a queue that takes none holds up
its own schedules alone, and no timer has to guess what became of them. Until the broker has answered, nothing else is
decided about a schedule; when the link is lost instead, the tick is decided anew, and comes again with the same id.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import trio
from attrs import define, field, frozen

from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.messages import Cancellation
from milvaion_trio.model.schedule import Millis, Schedule, job_id_of
from milvaion_trio.ports import Confirmation, Publisher, Signals
from milvaion_trio.runtime.supervisor import SupervisedLink
from milvaion_trio.scheduler.agenda import Agenda, Planned
from milvaion_trio.scheduler.leading import Term
from milvaion_trio.scheduler.ticks import tick_message

__all__ = ["Dispatching"]

_log = logging.getLogger("milvaion_trio.scheduler")

LOOK: Final = 1.0
"""Seconds after which the wall clock is looked at again: somebody may have set it."""
CHUNK: Final = 100
"""Schedules that are decided on before the first of them is published; 0.1 ms each."""
AGAIN: Final = 1000
"""Milliseconds before the next try when the broker refused a message, or had no queue for it."""
SIGNAL_LIMIT: Final = 2.0
"""Seconds for the cancel signals of what was published together. They are advisory; that it was is to be noted."""

SUPERSEDED: Final = "The next run of its schedule is due (overlap: cancel-previous)"


@frozen(eq=False)
class _Made:
    """What is being carried out, and its messages, one for each tick."""

    planned: Planned
    publications: tuple[Publication, ...]


@define(eq=False, kw_only=True)
class Dispatching:
    """Dispatches over the link it is given, in one term after the other."""

    link: SupervisedLink[Publisher]
    signals: Signals
    now: Callable[[], Millis]
    hear_ends: Callable[[Term, Agenda], Awaitable[None]]
    """Asked before a tick is decided that meets an open run."""
    is_local: bool
    """Whether no Milvaion API knows the occurrences."""
    dispatched: int = field(default=0, init=False)
    """Messages that were confirmed."""
    _lost: Publisher | None = field(default=None, init=False)
    """The last connection that a publish failed on."""
    _unroutable: set[str] = field(factory=set, init=False)
    """Schedules of which that was told."""

    async def dispatch(self, term: Term, agenda: Agenda) -> None:
        """Dispatch what is due whenever it is, until the term is over; it ends the term when there is no link for long.

        If cancelled, messages may be published that are not noted; whoever leads next publishes them again.
        """
        async with trio.open_nursery() as sending:
            while True:
                agenda.news = trio.Event()
                publisher = await self._publisher(term)
                if agenda.meets_open_run(self.now()):
                    # News are up to a second old, and a tick must not be left out for a run that is over.
                    await self.hear_ends(term, agenda)
                if publisher is not None and term.holds:
                    for of_one_queue in self._by_queue(agenda.plan(self.now(), CHUNK)):
                        sending.start_soon(self._carry_out, term, agenda, publisher, of_one_queue)
                await self._next(agenda)

    async def _publisher(self, term: Term) -> Publisher | None:
        """The connection of the moment. Without one for a whole lease another may try, who has one maybe."""
        with trio.move_on_after(term.lease):
            return await self.link.get(other_than=self._lost)
        term.end("it has no connection to the broker")
        return None

    async def _next(self, agenda: Agenda) -> None:
        """Return when something is due, or may be. If cancelled, nothing changes."""
        due = agenda.next_due
        wait = LOOK if due is None else min(max(due - self.now(), 0) / 1000, LOOK)
        await trio.lowlevel.checkpoint()
        if wait > 0:
            with trio.move_on_after(wait):
                await agenda.news.wait()

    def _by_queue(self, plans: Iterable[Planned]) -> Iterable[list[_Made]]:
        queues: dict[str, list[_Made]] = {}
        for planned in plans:
            entry, ticks = planned.entry, planned.decision.dispatches
            messages = tuple(tick_message(entry, tick, is_local=self.is_local) for tick in ticks)
            queues.setdefault(entry.schedule.pattern, []).append(_Made(planned, messages))
        return queues.values()

    async def _carry_out(self, term: Term, agenda: Agenda, publisher: Publisher, of_one_queue: list[_Made]) -> None:
        """Publish, and note what the broker answered. If cancelled, nothing is noted."""
        if not term.holds:
            return
        publications = [publication for made in of_one_queue for publication in made.publications]
        try:
            answers = iter(await publisher.publish(publications))
        except LinkLost:
            self._lost = publisher
            for made in of_one_queue:
                agenda.put_off(made.planned, self.now())
            return
        answered = [(made.planned, [next(answers) for _ in made.publications]) for made in of_one_queue]
        await self._cancel(planned for planned, said in answered if _is_taken(said))
        for planned, said in answered:
            self._note(agenda, planned, said)

    def _note(self, agenda: Agenda, planned: Planned, answers: list[Confirmation]) -> None:
        schedule, decision, now = planned.entry.schedule, planned.decision, self.now()
        self.dispatched += answers.count(Confirmation.CONFIRMED)
        self._tell_unroutable(schedule, is_unroutable=Confirmation.UNROUTABLE in answers)
        if Confirmation.REFUSED in answers:
            _log.warning("schedule %s: the broker refused the message of a tick; tried again in 1 s", schedule.id)
        if _is_taken(answers):
            agenda.done(planned, decision.progress, now)
        else:
            # Its ticks get late meanwhile, and are then what the misfire rule makes of them.
            agenda.put_off(planned, now + AGAIN)

    async def _cancel(self, carried_out: Iterable[Planned]) -> None:
        """Send the cancel signals of these decisions, whose ticks will run. If cancelled, some may be sent."""
        with trio.move_on_after(SIGNAL_LIMIT) as limit:
            for planned in carried_out:
                job_id = job_id_of(planned.entry.schedule.id)
                for occurrence_id in planned.decision.cancels:
                    cancellation = Cancellation(occurrence_id=occurrence_id, job_id=job_id, reason=SUPERSEDED)
                    try:
                        await self.signals.send(cancellation)
                    except LinkLost as lost:
                        _log.warning("occurrence %s could not be told to stop: %s", occurrence_id, lost)
        if limit.cancelled_caught:
            _log.warning("not all runs that the next ones supersede could be told to stop within %g s", SIGNAL_LIMIT)

    def _tell_unroutable(self, schedule: Schedule, *, is_unroutable: bool) -> None:
        if not is_unroutable:
            self._unroutable.discard(schedule.id)
        elif schedule.id not in self._unroutable:
            self._unroutable.add(schedule.id)
            _log.error(
                "schedule %s: there is no queue %s, so its ticks wait, as if nobody had dispatched them: no worker of "
                "%r with the job %r has ever declared it; check worker id, job and routing pattern, start that worker, "
                "or remove the schedule if its job is gone",
                schedule.id,
                topology.queue_name(schedule.pattern),
                schedule.worker_id,
                schedule.job,
            )


def _is_taken(answers: Iterable[Confirmation]) -> bool:
    """Whether every message will run."""
    return all(answer is Confirmation.CONFIRMED for answer in answers)
