"""`Client`: enqueue and cancel from any program.

It publishes what the Milvaion dispatcher publishes (WIRE.md 2), plus the header that tells workers that a Milvaion
API does not know the occurrence.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from os import PathLike
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Protocol, Self, Unpack

import trio

from milvaion_trio import configuration
from milvaion_trio.host import is_on_asyncio
from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import NotPublished, SettingsError
from milvaion_trio.model.events import Event, LinkDown
from milvaion_trio.model.exception_groups import sole
from milvaion_trio.model.ids import OccurrenceId, parse_guid
from milvaion_trio.model.jsonable import jsonable
from milvaion_trio.model.messages import Cancellation
from milvaion_trio.model.schedule import Entry, Schedule
from milvaion_trio.model.schedule_settings import ScheduleKeywords
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.policy.key_template import KeyTemplate, KeyUnknown
from milvaion_trio.ports import Broker, Publisher, Signals
from milvaion_trio.ports.coordination import Coordination
from milvaion_trio.runtime.claiming import NO_KEEPER, UniqueKey, key_headers
from milvaion_trio.runtime.definition import JobDefinition, OnDuplicate
from milvaion_trio.runtime.dispatching import Destination, dispatch_message, publish_dispatch
from milvaion_trio.runtime.observers import Observers
from milvaion_trio.runtime.supervisor import Startup, SupervisedLink
from milvaion_trio.scheduler.desk import ScheduleDesk, planned
from milvaion_trio.transports import broker_for, coordination_for, signals_for

_log = logging.getLogger("milvaion_trio.client")

__all__ = ["Client", "Destination", "Named"]

NO_BOOK = (
    "Schedules are kept in Redis, or by the worker whose broker is embedded, and this client knows neither: name a "
    "Redis in the settings (Worker:Redis:ConnectionString), or give the client a `coordination`."
)


class Client:
    """Dispatches jobs to the workers of one group: `async with Client(broker, worker_id="email-worker") as client:`.

    `destinations` are jobs whose routing pattern is not the one made from their name, `uniques` what the unique keys of
    jobs are made from, by job name; those of a job's definition need not be said. `coordination` is where keys are
    claimed and schedules are kept; `on_schedule` is called when one was written down, `on_delay` with the seconds that
    an enqueued job waits.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        worker_id: str,
        signals: Signals | None = None,
        coordination: Coordination | None = None,
        destinations: Iterable[Destination] = (),
        uniques: Mapping[str, str] = MappingProxyType({}),
        connect_timeout: float = 10.0,
        clock_ns: Callable[[], int] = time.time_ns,
        on_schedule: Callable[[], object] = lambda: None,
        on_delay: Callable[[float], object] = lambda _: None,
    ) -> None:
        self._clock_ns = clock_ns
        self._coordination = coordination
        self._on_schedule = on_schedule
        self._on_delay = on_delay
        self._uniques = {name.lower(): template for name, template in uniques.items()}
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
            coordination=coordination_for(settings),
            destinations=destinations,
            uniques={name: job.unique for name, job in settings.jobs.items() if job.unique},
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
            if self._coordination is not None:
                await self._stack.enter_async_context(self._coordination.open())
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

    async def enqueue(
        self,
        job: "str | Named",
        data: object = None,
        *,
        delay: float | None = None,
        exclusive: str | None = None,
        unique: str | None = None,
        on_duplicate: OnDuplicate = "refuse",
        unique_for: float | None = None,
    ) -> OccurrenceId:
        """Dispatch the job, to start at once or after `delay` seconds, and return its occurrence id once confirmed.

        `data` is anything JSON-able. While the connection is lost, it waits for the next one.

        Of all runs with the same `exclusive` key, one goes on at a time. Of all occurrences with the same `unique` key
        there is one that waits or runs: for a second one, `AlreadyDispatched` is raised, or with `on_duplicate="merge"`
        the id of the first is returned. The key is free when that has ended, and at the latest `unique_for` seconds, a
        day unless said, after it could have run. A job may bring a key of its own.

        Raises `NotPublished`; `TypeError` or `ValueError` for data without a JSON form, or without what a key is made
        from, and for what is no delay; or `LinkLost` when the connection died meanwhile: then nobody knows whether it
        was published. If cancelled, it may have been.
        """
        name = job if isinstance(job, str) else job.name
        to = self.destination(name)
        key = self._unique_key(job, data) if unique is None else unique
        wanted = None if key is None else UniqueKey.wanted(key, on_duplicate, unique_for)
        more = key_headers(exclusive, wanted)
        publication = dispatch_message(to, data, delay=delay, now_ns=self._clock_ns(), more=more)
        queue = topology.queue_name(to.pattern)
        if wanted is None:
            return await self.publish(publication, queue)
        return await self._publish_one(publication, queue, wanted)

    async def _publish_one(self, publication: Publication, queue: str, wanted: UniqueKey) -> OccurrenceId:
        if self._coordination is None:
            raise NotPublished(NO_KEEPER)
        link = await self._open_link().get()  # before the claim: one may wait long for it
        occurrence_id = OccurrenceId(str(publication.message.correlation_id))
        owner = await wanted.claim(self._coordination, occurrence_id, publication.delay)
        if owner != occurrence_id:
            return owner
        try:
            return await self._publish(link, publication, queue)
        except NotPublished:  # and not where it may have been
            await wanted.give_up(self._coordination, occurrence_id)  # noqa: ASYNC120  # not cancelled
            raise

    def _unique_key(self, job: "str | Named", data: object) -> str | None:
        """The job's own, as far as this client knows it. Raises `ValueError` where the data has not what it needs."""
        name = job if isinstance(job, str) else job.name
        template = self._uniques.get(name.lower())
        if template is None and isinstance(job, JobDefinition):
            template = job.policy.unique
        if template is None:
            return None
        try:
            return KeyTemplate.parse(template).fill(name, jsonable(data), OccurrenceId(""))
        except KeyUnknown as unknown:
            raise ValueError(str(unknown)) from None

    def destination(self, job_name: str) -> Destination:
        """Where the messages of this job go; whether there is such a job is known to nobody but its workers."""
        return self._destinations.get(job_name.lower()) or Destination(
            worker_id=self._worker_id, job_name=job_name, pattern=topology.routing_pattern(self._worker_id, job_name)
        )

    async def publish(self, publication: Publication, queue: str | None = None) -> OccurrenceId:
        """Publish a dispatch message that was made elsewhere, meant for that queue, and return its occurrence id.

        Raises and is cancelled as `enqueue`.
        """
        return await self._publish(await self._open_link().get(), publication, queue)

    async def _publish(self, link: Publisher, publication: Publication, queue: str | None) -> OccurrenceId:
        may_wait = True  # whatever else becomes of this call, it may have been published
        try:
            return await publish_dispatch(link, publication, queue)
        except NotPublished:
            may_wait = False
            raise
        finally:
            if may_wait:
                self._on_delay(publication.delay)

    def _open_link(self) -> SupervisedLink[Publisher]:
        if self._link is None:
            raise NotPublished("The client is not open. Use it as `async with Client(...) as client:`.")
        return self._link

    async def cancel(self, occurrence_id: OccurrenceId, reason: str = "Cancelled by user") -> int:
        """Ask every worker to cancel the occurrence, whether it runs, waits or is to come.

        Returns how many workers were asked. None of them answers, so this tells nothing of the occurrence: it is the
        same for one that has ended, and for one that never was.

        Raises `ValueError` for what is no occurrence id, `NotPublished` when the client has no way to send signals,
        and `LinkLost` when nobody takes them. If cancelled, it may have been sent.
        """
        if self._signals is None:
            raise NotPublished("This client was made without `signals`, so it cannot send a cancel signal.")
        parsed = parse_guid(occurrence_id)
        if parsed is None:
            raise ValueError(f"{occurrence_id!r} is no occurrence id; that is the 36 characters which enqueue returns.")
        return await self._signals.send(Cancellation(occurrence_id=OccurrenceId(parsed), reason=reason))

    # --- schedules: what they raise besides, `LinkLost`, means that nobody can reach where they are kept -------------

    async def schedule(self, job: "str | Named | Schedule", **keywords: Unpack[ScheduleKeywords]) -> Schedule:
        """Have a job run by itself: `client.schedule("SendReport", cron="0 9 * * MON", timezone="Europe/Istanbul")`.

        One of `cron`, `every` and `at` says when, as in the decorators of a worker; the other keywords are their
        options, with the job's name for `id` unless given. Or it is a whole `Schedule`. One of this id is replaced, and
        goes on where it was if its times are the same. Returns it as it is kept.
        Raises `SettingsError` with every mistake, and where the id is that of another group's. If cancelled, it may be
        kept.
        """
        if not isinstance(job, Schedule):
            job = planned(self.destination(job if isinstance(job, str) else job.name), keywords)
        elif keywords:
            raise SettingsError(
                ["A `Schedule` says all of it: change it with attrs.evolve, and leave the keywords out."]
            )
        await self._desk().put(job)
        self._on_schedule()
        return job

    async def schedules(self) -> tuple[Entry, ...]:
        """Every schedule that is kept there, also those of other groups of workers, and how far it has come; by id.

        If cancelled, nothing changes.
        """
        return tuple(await self._desk().entries())

    async def pause(self, schedule_id: str) -> None:
        """No tick of the schedule runs until it is resumed; raises `NoSuchSchedule`. If cancelled, it may be done."""
        await self._desk().pause(schedule_id)

    async def resume(self, schedule_id: str) -> None:
        """Its ticks run again, also where failures had stopped it; raises `NoSuchSchedule`.

        If cancelled, it may be done.
        """
        await self._desk().resume(schedule_id)

    async def unschedule(self, schedule_id: str) -> None:
        """Take the schedule out; raises `NoSuchSchedule`. If cancelled, it may be done.

        One that a worker declares comes back when it starts next, so pause that instead.
        """
        await self._desk().remove(schedule_id)

    async def trigger(self, schedule_id: str) -> OccurrenceId:
        """Run the schedule's job with its data now, besides its ticks, and return the occurrence id once confirmed.

        Also where it is paused. Raises `NoSuchSchedule`, and as `enqueue`. If cancelled, it may have been published.
        """
        publication = await self._desk().by_hand(schedule_id)
        return await self.publish(publication)

    def _desk(self) -> ScheduleDesk:
        self._open_link()
        if self._coordination is None:
            raise SettingsError([NO_BOOK])
        return ScheduleDesk(self._coordination, lambda: self._clock_ns() // 1_000_000)


def _log_loss(event: Event) -> None:
    if isinstance(event, LinkDown) and event.was_up:  # what was never up is told by what is raised
        _log.warning("the client lost %s (%s), connecting again", event.broker, event.why)


class Named(Protocol):
    """Anything with the name of a job, e.g. what the job decorator returns."""

    @property
    def name(self) -> str:
        """The job's name."""
