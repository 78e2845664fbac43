"""`Client`: enqueue and cancel from any program.

It publishes what the Milvaion dispatcher publishes (WIRE.md 2), plus the header that tells workers that a Milvaion
API does not know the occurrence.
"""

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import trio
from attrs import frozen

from milvaion_trio import configuration
from milvaion_trio.host import is_on_asyncio
from milvaion_trio.model import headers, topology
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.errors import NotPublished, SettingsError
from milvaion_trio.model.events import Event, LinkDown
from milvaion_trio.model.exception_groups import sole
from milvaion_trio.model.ids import JobId, OccurrenceId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.json_text import write
from milvaion_trio.model.jsonable import jsonable
from milvaion_trio.model.messages import Cancellation, JobMessage
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.model.wire import Casing, encode_job
from milvaion_trio.policy.backoff import LONGEST_DELAY
from milvaion_trio.ports import Broker, Confirmation, Publisher, Signals
from milvaion_trio.runtime.observers import Observers
from milvaion_trio.runtime.supervisor import Startup, SupervisedLink
from milvaion_trio.transports import broker_for, signals_for

_log = logging.getLogger("milvaion_trio.client")

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


async def publish_dispatch(publisher: Publisher, publication: Publication, queue: str | None = None) -> OccurrenceId:
    """Publish a dispatch message, meant for that queue, and return its occurrence id once the broker has confirmed it.

    Raises `NotPublished` when no queue takes it or the broker refuses it. If cancelled, it may have been published.
    """
    answer = (await publisher.publish([publication]))[0]
    if answer is Confirmation.UNROUTABLE:
        key, exchange = publication.routing_key, publication.exchange or "the default exchange"
        missing = f"There is no queue {queue!r}, so none" if queue else "No queue"
        raise NotPublished(
            f"{missing} takes messages with the key {key!r} of {exchange}: no worker with this job has ever declared "
            "it. Nothing was enqueued. Check worker id, job name and routing pattern, and start that worker once."
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
        connect_timeout: float = 10.0,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._clock_ns = clock_ns
        self._broker = broker
        self._connect_timeout = connect_timeout
        self._worker_id = worker_id
        self._signals = signals
        self._destinations = {destination.job_name.lower(): destination for destination in destinations}
        self._stack = AsyncExitStack()
        self._link: SupervisedLink[Publisher] | None = None
        self._is_entered = False

    @classmethod
    def from_file(cls, config: str | PathLike[str], *, worker_id: str | None = None) -> Self:
        """A client for the workers that run with this settings file; the environment is over the file, as for them.

        The file is TOML or JSON, by its name. What has no effect in it is logged.

        `worker_id` names another group of workers on the same servers.
        Raises `SettingsError` with every mistake in the settings, or when they name no RabbitMQ.
        """
        resolved = configuration.resolve(WorkerSettings(), config=Path(config), environ=os.environ)
        for warning in resolved.warnings:
            _log.warning("%s", warning)
        return cls.from_settings(resolved.settings, worker_id=worker_id)

    @classmethod
    def from_settings(
        cls, settings: WorkerSettings, *, worker_id: str | None = None, connect_timeout: float = 10.0
    ) -> Self:
        """A client for the workers that run with these settings, or for another group of them on the same servers.

        Raises `SettingsError` when they name no RabbitMQ.
        """
        if settings.rabbitmq is None:
            raise SettingsError(["The settings name no RabbitMQ, so there is nowhere to enqueue: add Worker:RabbitMQ."])
        group = worker_id or settings.worker_id
        destinations = [
            Destination(worker_id=group, job_name=name, pattern=job.routing_patterns[0])
            for name, job in settings.jobs.items()
            if job.routing_patterns and group == settings.worker_id
        ]
        return cls(
            broker_for(settings, f"client of {group}", connect_timeout),
            worker_id=group,
            signals=signals_for(settings),
            destinations=destinations,
            connect_timeout=connect_timeout,
        )

    @property
    def broker(self) -> Broker:
        """Where it publishes."""
        return self._broker

    def over(self, link: SupervisedLink[Publisher]) -> Self:
        """Use this connection, which somebody else keeps up, instead of one of its own; needs no `async with`."""
        self._link = link
        return self

    async def __aenter__(self) -> Self:
        """Connect; a connection that is lost later is made again.

        Raises `BrokerUnreachable` when none can be had within `connect_timeout` seconds, and `NotPublished` in asyncio
        code. If cancelled, nothing is open.
        """
        if is_on_asyncio():
            raise NotPublished(
                "`Client` is for Trio code. On asyncio use `async with milvaion_trio.AsyncioClient(...) as client:`; "
                "for the jobs of a worker, `AsyncioClient.of(worker)`."
            )
        if self._is_entered:
            raise NotPublished("This client is open already. Every task may use it: open it once, around them all.")
        self._is_entered = True
        # Who enqueues has somebody who waits: a refusal is told at once.
        startup = Startup(self._connect_timeout, trio.current_time(), "The client's connect_timeout", 0.0)
        link = SupervisedLink("client", self._broker.name, self._broker.publishing, Observers([_log_loss]), startup)
        try:
            await self._stack.enter_async_context(link.kept_up())
            self._link = link
        except BaseExceptionGroup as group:
            raise sole(group) from None
        finally:
            self._is_entered = self._link is not None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._link = None
        try:
            await self._stack.aclose()
        finally:
            self._is_entered = False

    async def enqueue(self, job: "str | Named", data: object = None, *, delay: float | None = None) -> OccurrenceId:
        """Dispatch the job, to start at once or after `delay` seconds, and return its occurrence id once confirmed.

        `data` is anything JSON-able. While the connection is lost, it waits for the next one.
        Raises `NotPublished`; `TypeError` or `ValueError` for data without a JSON form; or `LinkLost` when the
        connection died meanwhile: then nobody knows whether it was published. If cancelled, it may have been.
        """
        to = self.destination(job if isinstance(job, str) else job.name)
        publication = dispatch_message(to, data, delay=delay, now_ns=self._clock_ns())
        return await self.publish(publication, topology.queue_name(to.pattern))

    def destination(self, job_name: str) -> Destination:
        """Where the messages of this job go; whether there is such a job is known to nobody but its workers."""
        return self._destinations.get(job_name.lower()) or Destination(
            worker_id=self._worker_id, job_name=job_name, pattern=topology.routing_pattern(self._worker_id, job_name)
        )

    async def publish(self, publication: Publication, queue: str | None = None) -> OccurrenceId:
        """Publish a dispatch message that was made elsewhere, meant for that queue, and return its occurrence id.

        Raises and is cancelled as `enqueue`.
        """
        if self._link is None:
            raise NotPublished("The client is not open. Use it as `async with Client(...) as client:`.")
        return await publish_dispatch(await self._link.get(), publication, queue)

    async def cancel(self, occurrence_id: OccurrenceId, reason: str = "Cancelled by user") -> int:
        """Ask every worker to cancel the occurrence, whether it runs, waits or is to come; returns how many heard it.

        Raises `NotPublished` when the client has no way to send signals.
        """
        if self._signals is None:
            raise NotPublished("This client was made without `signals`, so it cannot send a cancel signal.")
        return await self._signals.send(Cancellation(occurrence_id=occurrence_id, reason=reason))


def _log_loss(event: Event) -> None:
    if isinstance(event, LinkDown) and event.was_up:  # what was never up is told by what is raised
        _log.warning("the client lost %s (%s), connecting again", event.broker, event.why)


class Named(Protocol):
    """Anything with the name of a job, e.g. what the job decorator returns."""

    @property
    def name(self) -> str:
        """The job's name."""
