"""`Client`: enqueue and cancel from any program.

It publishes what the Milvaion dispatcher publishes (WIRE.md 2), plus the header that tells workers that a Milvaion
API does not know the occurrence.
"""

import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Protocol, Self

from attrs import frozen

from milvaion_trio.model import headers, topology
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.errors import NotPublished
from milvaion_trio.model.ids import JobId, OccurrenceId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.json_text import write
from milvaion_trio.model.jsonable import jsonable
from milvaion_trio.model.messages import Cancellation, JobMessage
from milvaion_trio.model.wire import Casing, encode_job
from milvaion_trio.policy.backoff import LONGEST_DELAY
from milvaion_trio.ports import Broker, Confirmation, Publisher, Signals

__all__ = ["Client", "Destination", "Named", "dispatch_message", "publish_dispatch"]


@frozen(kw_only=True)
class Destination:
    """Which job of which worker group a message is for."""

    worker_id: str
    job_name: str
    pattern: str
    """The routing pattern of the job's queue."""


def dispatch_message(
    to: Destination, data: object, *, delay: float | None = None, now_ns: int | None = None
) -> Publication:
    """The message that makes the job run once, with a new occurrence id.

    Raises `TypeError` or `ValueError` when the data has no JSON form, or the delay is none.
    """
    if delay is not None and not 0 <= delay <= LONGEST_DELAY:  # also NaN
        raise ValueError(f"delay is {delay!r}; it must be a number of seconds from 0 to {LONGEST_DELAY:.0f} (30 days).")
    ns = time.time_ns() if now_ns is None else now_ns
    now = Instant.from_unix_ns(ns)
    execute_at = now.plus(delay or 0.0)
    occurrence_id = OccurrenceId(str(uuid.uuid4()))
    routing_key = topology.routing_key(to.pattern)
    job = JobMessage(
        id=JobId(str(uuid.uuid4())),
        display_name=to.job_name,
        job_name_in_worker=to.job_name,
        job_data=None if data is None else write(jsonable(data)),
        execute_at=execute_at,
        is_active=True,
        worker_id=to.worker_id,
        routing_pattern=to.pattern,
        version=1,
        creation_date=now,
    )
    message = Message(
        body=encode_job(job, Casing.CAMEL),
        headers={
            "JobType": to.job_name,
            "ExecuteAt": execute_at.round_trip,
            "IsRecurring": False,
            headers.OCCURRENCE_ID: occurrence_id,
            "RoutingKey": routing_key,
            "WorkerId": to.worker_id,
            headers.ORIGIN: "client",
        },
        message_id=job.id,
        correlation_id=occurrence_id,
        content_type="application/json",
        timestamp=ns // 1_000_000_000,
    )
    if delay:  # what waits is on its way to one queue: the one the exchange would have found
        return Publication(message, topology.queue_name(to.pattern), delay=delay)
    return Publication(message, routing_key, topology.JOBS_EXCHANGE)


async def publish_dispatch(publisher: Publisher, publication: Publication) -> OccurrenceId:
    """Publish a dispatch message and return its occurrence id once the broker has confirmed it.

    Raises `NotPublished` when no queue takes it or the broker refuses it. If cancelled, it may have been published.
    """
    answer = (await publisher.publish([publication]))[0]
    if answer is Confirmation.UNROUTABLE:
        raise NotPublished(
            f"No queue takes messages with the key {publication.routing_key!r} of exchange {publication.exchange!r}: "
            "no worker with this job has ever declared its queue. Nothing was enqueued. Check worker id and job name."
        )
    if answer is Confirmation.REFUSED:
        raise NotPublished(
            "The broker refused the message (a full queue or a failing disk). Nothing was enqueued; try again."
        )
    return OccurrenceId(str(publication.message.correlation_id))


class Client:
    """Dispatches jobs to the workers of one group: `async with Client(broker, worker_id="email-worker") as client:`.

    `destinations` are jobs whose routing pattern is not the one made from their name.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        worker_id: str,
        signals: Signals | None = None,
        destinations: Iterable[Destination] = (),
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._clock_ns = clock_ns
        self._broker = broker
        self._worker_id = worker_id
        self._signals = signals
        self._destinations = {destination.job_name.lower(): destination for destination in destinations}
        self._stack = AsyncExitStack()
        self._publisher: Publisher | None = None

    async def __aenter__(self) -> Self:
        """Open the connection; raises `LinkLost` when none can be had."""
        self._publisher = await self._stack.enter_async_context(self._broker.publishing())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._publisher = None
        await self._stack.aclose()

    async def enqueue(self, job: "str | Named", data: object = None, *, delay: float | None = None) -> OccurrenceId:
        """Dispatch the job, to start at once or after `delay` seconds, and return its occurrence id once confirmed.

        `data` is anything JSON-able. Raises `NotPublished`, `LinkLost`, or `TypeError`
        or `ValueError` for data without a JSON form.
        If cancelled, the message may have been published.
        """
        if self._publisher is None:
            raise NotPublished("The client is not open. Use it as `async with Client(...) as client:`.")
        name = job if isinstance(job, str) else job.name
        to = self._destinations.get(name.lower()) or Destination(
            worker_id=self._worker_id, job_name=name, pattern=topology.routing_pattern(self._worker_id, name)
        )
        publication = dispatch_message(to, data, delay=delay, now_ns=self._clock_ns())
        return await publish_dispatch(self._publisher, publication)

    async def cancel(self, occurrence_id: OccurrenceId, reason: str = "Cancelled by user") -> None:
        """Ask every worker to cancel the occurrence, whether it runs, waits or is still to come.

        Raises `NotPublished` when the client has no way to send signals.
        """
        if self._signals is None:
            raise NotPublished("This client was made without `signals`, so it cannot send a cancel signal.")
        await self._signals.send(Cancellation(occurrence_id=occurrence_id, reason=reason))


class Named(Protocol):
    """Anything with the name of a job, e.g. what the job decorator returns."""

    @property
    def name(self) -> str:
        """The job's name."""
