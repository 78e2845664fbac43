"""Reports for outbox tests, and the embedded broker to send them to, with a record of what arrived."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from attrs import define, field
from tests.support.steps import passes

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.ports import Outbox, Queue, Report, ReportKind, Topology

__all__ = ["FINAL", "HEARTBEAT", "LOG", "RUNNING", "A", "B", "Reception", "attempt", "report"]

RUNNING, HEARTBEAT, LOG, FINAL = ReportKind.RUNNING, ReportKind.HEARTBEAT, ReportKind.LOG, ReportKind.FINAL

A = OccurrenceId("019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193")
B = OccurrenceId("019d4d92-04ab-72c1-9d3e-51f0a6b7c8d2")


def report(kind: ReportKind, name: str, occurrence_id: OccurrenceId | None = A, *, to: str = "reports") -> Report:
    """A report that is recognised by its name: body and message id."""
    return Report(kind, Publication(Message(body=name.encode(), message_id=name), to), occurrence_id)


def attempt(occurrence_id: OccurrenceId = A, retry_count: int = 0) -> AttemptKey:
    """The identity of one attempt of the occurrence."""
    return AttemptKey(occurrence_id, "1775121301", retry_count, 0)


@define(eq=False)
class Reception:
    """A broker with a queue `reports`, and the names of the reports it confirmed, in order."""

    broker: EmbeddedBroker = field(factory=EmbeddedBroker)
    publications: list[Publication] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.declare("reports")
        self.broker.on_publish.append(self.publications.append)

    @property
    def names(self) -> list[str]:
        """What arrived so far."""
        return [publication.message.body.decode() for publication in self.publications]

    def declare(self, queue: str) -> None:
        """Make a queue, so that what is sent to it is no longer unroutable."""
        self.broker.declare_nowait(Topology(queues=[Queue(queue)]))

    @asynccontextmanager
    async def delivering(self, outbox: Outbox) -> AsyncIterator[None]:
        """While inside, the outbox sends over a link of its own; a lost link ends that."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._deliver, outbox)
            await passes(10)  # enough to connect and to send what is there
            yield
            nursery.cancel_scope.cancel()

    async def _deliver(self, outbox: Outbox) -> None:
        try:
            async with self.broker.publishing() as publisher:
                await outbox.deliver(publisher)
        except LinkLost:
            return
