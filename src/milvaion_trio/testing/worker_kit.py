"""`under_test`: a whole worker inside a test, on a broker and cancel signals of its own.

Nothing of the worker is replaced but what it stands on: its queues, its clock, and what it is told to be provided with.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import trio
from attrs import define, evolve, field

from milvaion_trio.broker.embedded import EmbeddedBroker, QueueView
from milvaion_trio.client import Named
from milvaion_trio.coordination.sqlite import SqliteCoordination
from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.errors import NotPublished
from milvaion_trio.model.events import Event
from milvaion_trio.model.exception_groups import sole
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.messages import Cancellation
from milvaion_trio.ports import Confirmation
from milvaion_trio.ports.coordination import Coordination
from milvaion_trio.runtime.dispatching import Destination, dispatch_message
from milvaion_trio.signals.local import LocalSignals
from milvaion_trio.testing.clock import clock_ns
from milvaion_trio.testing.recorder import Recorder
from milvaion_trio.testing.vectors import Vector, publication_from
from milvaion_trio.worker import Worker

__all__ = ["WorkerUnderTest", "under_test"]

LOOK_AGAIN = 1.0
"""Seconds after which `run_until_idle` looks even if no event told it to: an ack of a repeated message tells none."""

A_DAY = 24 * 3600.0


@asynccontextmanager
async def under_test(
    worker: Worker,
    *,
    broker: EmbeddedBroker | None = None,
    signals: LocalSignals | None = None,
    coordination: Coordination | None = None,
    provided: Mapping[type, object] | None = None,
    local_occurrences: bool = True,
) -> "AsyncIterator[WorkerUnderTest]":
    """Serve the worker while the context is open, in real time or in virtual time (`virtual`, `autojump_clock`).

    It runs on a new embedded broker, or on the one given, and afterwards stands on its own broker again. Leases, claims
    and schedules are kept in memory, or where `coordination` says.
    `provided` replaces what jobs are given by type. Occurrences of this test are reported as a Milvaion API's would
    be, unless `local_occurrences` is false. In virtual time all dates of the worker count from `VIRTUAL_START`.

    Leaving the context drains the worker; an error in it cancels the jobs. Either way the worker has left afterwards.
    Raises what `Worker.serve` raises. If cancelled, the worker is cancelled and leaves within its budgets.
    """
    keeper = coordination or SqliteCoordination(clock=lambda: clock_ns() / 1e9)
    kit = WorkerUnderTest(worker, broker or EmbeddedBroker(), signals or LocalSignals(), keeper)
    failure: BaseException | None = None
    with _standing_on(kit, provided or {}, local_occurrences):
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(kit.serve)
                try:
                    yield kit
                except BaseException:
                    kit.stop()
                    raise
                kit.drain()
        except BaseExceptionGroup as group:
            failure = sole(group)
    if failure is not None:  # raised out here, so that it keeps its own context
        raise failure


@define(eq=False)
class WorkerUnderTest(Recorder):
    """A worker that serves, the means to give it work, and everything it has told so far."""

    worker: Worker
    broker: EmbeddedBroker
    """Its `drop_connection`, `unreachable`, `refuse_next`, `hold_confirms` and `blocking` are faults on demand."""
    signals: LocalSignals
    coordination: Coordination
    events: list[Event] = field(factory=list, init=False)
    """What happened, as observers see it."""
    _scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)
    _news: trio.Event = field(factory=trio.Event, init=False)
    _ended: trio.Event = field(factory=trio.Event, init=False)

    # --- giving work ------------------------------------------------------------------------------------------------

    def enqueue(self, job: str | Named, data: object = None, *, delay: float | None = None) -> OccurrenceId:
        """Dispatch a job of this worker, as its client would, and return the occurrence's id.

        Raises `NotPublished` when the broker does not take it, or `TypeError` for data without a JSON form.
        """
        name = _name(job)
        to = Destination(worker_id=self.worker.settings.worker_id, job_name=name, pattern=self._pattern(name))
        publication = dispatch_message(to, data, delay=delay, now_ns=clock_ns())
        self._publish(publication)
        return OccurrenceId(str(publication.message.correlation_id))

    def dispatch(self, message: Message | Vector, *, to: str | Named | None = None, delay: float = 0.0) -> None:
        """Put a message, byte for byte, into the queue of the job `to`, or of the worker's only job.

        A vector is the JSON form of a message: `properties`, `body_raw` or `body`. Without `to` it goes where its
        `exchange` and `routing_key` lead.
        """
        if not isinstance(message, Message):
            publication = publication_from(message)
            message = publication.message
            if to is None:
                self._publish(evolve(publication, delay=delay))
                return
        self._publish(Publication(message, self._queue(to), delay=delay))

    def cancel(self, occurrence_id: OccurrenceId, reason: str = "Cancelled by user") -> None:
        """Send a cancel signal for the occurrence, whether it runs, waits or is still to come."""
        self.signals.cancel(Cancellation(occurrence_id=occurrence_id, reason=reason))

    async def run_until_idle(self, within: float = A_DAY) -> None:
        """Return when all queues of jobs are empty, nothing is delayed, nothing runs and all of it is reported.

        Raises `trio.TooSlowError` after `within` seconds, and says what is left. If cancelled, nothing changes.
        """
        with trio.move_on_after(within) as patience:
            while not self.is_idle:
                self._news = trio.Event()
                with trio.move_on_after(LOOK_AGAIN):
                    await self._news.wait()
        if patience.cancelled_caught:
            raise trio.TooSlowError(f"After {within:g} s the worker is not idle: {self._what_is_left()}.")

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do. A message stays in its queue until its conclusion is confirmed."""
        return not self.broker.delayed and not any(queue.depth for queue in self._queues())

    def queue(self, job: str | Named | None = None) -> QueueView:
        """The queue of this job, or of the worker's only job, as it is now."""
        return self.broker.queue(self._queue(job))

    # --- leaving ----------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """The first signal: no more jobs, and running ones may end."""
        self.worker.drain()

    def stop(self) -> None:
        """The second signal: running jobs are cancelled, and their messages go back to their queues."""
        self._scope.cancel()

    async def stopped(self) -> None:
        """Return when the worker has left. If cancelled, nothing changes."""
        await self._ended.wait()

    async def serve(self, *, task_status: trio.TaskStatus[Worker]) -> None:
        """Serve the worker; `under_test` does it. If cancelled, the worker leaves within its budgets."""
        try:
            with self._scope:
                await self.worker.serve(handle_signals=False, task_status=task_status)
        finally:
            self._ended.set()

    def observe(self, event: Event) -> None:
        """Take note of an event; `under_test` makes the worker tell them."""
        self.events.append(event)
        self._news.set()

    # --- finding queues ---------------------------------------------------------------------------------------------

    def _publish(self, publication: Publication) -> None:
        answer = self.broker.publish_nowait(publication)
        if answer is not Confirmation.CONFIRMED:
            known = ", ".join(self.worker.registry.names) or "none"
            raise NotPublished(
                f"The embedded broker answered {answer.value!r} to a message with the key "
                f"{publication.routing_key!r} of exchange {publication.exchange!r}. This worker's jobs: {known}."
            )

    def _pattern(self, name: str) -> str:
        registry = self.worker.registry
        if registry.knows(name):
            return registry.resolve(name).patterns[0]
        return topology.routing_pattern(self.worker.settings.worker_id, name)

    def _queue(self, job: str | Named | None) -> str:
        jobs = self.worker.registry.jobs
        if job is not None:
            return self.worker.registry.resolve(_name(job)).queue
        if len(jobs) != 1:
            names = ", ".join(self.worker.registry.names)
            raise ValueError(f"Say for which job it is; this worker has {len(jobs)}: {names}.")
        return jobs[0].queue

    def _queues(self) -> Iterator[QueueView]:
        names = (*(job.queue for job in self.worker.registry.jobs), topology.HOP_QUEUE)
        return (self.broker.queue(name) for name in names)

    def _what_is_left(self) -> str:
        left = [f"{queue.depth} in {queue.name} ({queue.unacked} unsettled)" for queue in self._queues() if queue.depth]
        return ", ".join([*left, f"{self.broker.delayed} delayed"])


@contextmanager
def _standing_on(kit: WorkerUnderTest, provided: Mapping[type, object], local_occurrences: bool) -> Iterator[None]:
    """While inside, the worker stands on the kit's ground; the worker itself, as job code may hold on to it."""
    worker = kit.worker
    before = (
        worker.settings,
        worker.broker,
        worker.signals,
        worker.coordination,
        worker.providers,
        worker.observers,
        worker.clock_ns,
    )
    reporting = evolve(worker.settings.reporting, local_occurrences=local_occurrences)
    scheduler = evolve(worker.settings.scheduler, report=False)
    worker.settings = evolve(worker.settings, rabbitmq=None, redis=None, reporting=reporting, scheduler=scheduler)
    worker.broker, worker.signals, worker.clock_ns = kit.broker, kit.signals, clock_ns
    worker.coordination = kit.coordination
    worker.providers = worker.providers.replaced(provided)
    worker.observers = (*worker.observers, kit.observe)
    kit.broker.on_publish.append(kit.record)
    try:
        yield
    finally:
        kit.broker.on_publish.remove(kit.record)
        (
            worker.settings,
            worker.broker,
            worker.signals,
            worker.coordination,
            worker.providers,
            worker.observers,
            worker.clock_ns,
        ) = before


def _name(job: str | Named) -> str:
    return job if isinstance(job, str) else job.name
