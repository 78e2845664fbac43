"""Hops: what a worker does with a message that comes by on a long delay.

A broker waits in legs of at most two minutes (RELIABILITY.md 3.3). Between two of them the message passes a worker,
which keeps the occurrence alive at the API and honours a cancel. No clock is read here: what is left to wait travels
with the message.
"""

from collections.abc import Callable
from typing import TypeAlias, TypeVar

from attrs import evolve, frozen

from milvaion_trio.model import headers, topology
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.messages import JobMessage
from milvaion_trio.policy.admission import AlreadyConcluded, CancelledBeforeStart, Quarantine, Run, admit
from milvaion_trio.policy.ledger import Ledger

__all__ = ["LONGEST_LEG", "AtHop", "SendOn", "at_hop", "hop", "later", "onward"]

LONGEST_LEG = 120
"""Seconds: with one missed hop the API still hears of the occurrence within its 5 minutes (RELIABILITY.md 3.4)."""

REFUSED_DELAY = 10.0
"""Seconds until a message is tried again whose queue does not exist: somebody has to make it first."""

R = TypeVar("R")


@frozen
class SendOn:
    """Publish it on; before that, tell that the occurrence lives, if it is known to be waiting."""

    publication: Publication
    alive: tuple[OccurrenceId, JobMessage] | None


AtHop: TypeAlias = SendOn | AlreadyConcluded | CancelledBeforeStart | Quarantine


def hop(message: Message, queue: str, left: int) -> Publication:
    """The message on its way to the hop queue, from where it has `left` more seconds to wait for its queue."""
    marks = {headers.DELAY_LEFT: left, headers.DELAY_TARGET: queue}
    return Publication(evolve(message, headers={**message.headers, **marks}), topology.HOP_QUEUE)


def onward(message: Message) -> Publication | None:
    """How a message goes on from the hop queue; `None` where it does not say to which queue."""
    marks = message.headers
    queue = headers.text(marks.get(headers.DELAY_TARGET))
    if not queue:
        return None
    left = marks.get(headers.DELAY_LEFT)
    delay = float(left) if isinstance(left, int) and not isinstance(left, bool) and left > 0 else 0.0
    kept = headers.passed_on(marks)
    for name in (headers.DELAY_LEFT, headers.DELAY_TARGET):
        kept.pop(name, None)
    return Publication(evolve(message, headers=kept), queue, delay=delay)


def later(message: Message) -> Publication:
    """A message that could not go on, on its way back to the hop queue.

    As a new message: one that is requeued again and again is dropped where queues have a delivery limit, as quorum
    queues have from RabbitMQ 4 on, and comes ahead of all that waits behind it.
    """
    kept = evolve(message, headers=headers.passed_on(message.headers))
    return Publication(kept, topology.HOP_QUEUE, delay=REFUSED_DELAY)


def at_hop(message: Message, *, ledger: Ledger[R], is_concluded: Callable[[AttemptKey], bool]) -> AtHop:
    """Decide on one message of the hop queue. Nothing is changed.

    It may be for a job of another worker group: every worker of ours consumes the hop queue. So whether the job exists
    is not asked here, nor what died of it, and a message that cannot run goes on to where it is refused.

    The occurrence is told alive only where nothing contradicts it: an attempt that runs here speaks for itself, and
    a Running behind a final status would erase it (RELIABILITY.md 0.6).
    """
    publication = onward(message)
    if publication is None:
        return Quarantine(f"A message in {topology.HOP_QUEUE} does not say in its headers for which queue it is.")
    admission = admit(
        publication.message,
        redelivered=False,
        ledger=ledger,
        is_concluded=is_concluded,
        deaths=lambda *_: 0,
        knows=lambda _: True,
        known_names=(),
    )
    match admission:
        case AlreadyConcluded() | CancelledBeforeStart():
            return admission
        case Run(occurrence_id, _, job):
            running = ledger.running(occurrence_id)
            speaks_for_itself = running is not None and not is_concluded(running)
            return SendOn(publication, None if speaks_for_itself else (occurrence_id, job))
    return SendOn(publication, None)
