"""A Milvaion cluster as commands without a worker reach it: by settings that name RabbitMQ.

Jobs are enqueued over RabbitMQ and cancelled over Redis, as Milvaion itself does it. Whether they run is known to their
workers and to the Milvaion server; no answer comes back here.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import trio
from attrs import field, frozen

from milvaion_trio import configuration
from milvaion_trio.cli import message_file
from milvaion_trio.cli.control import Cancel, Done, Enqueue, Publish
from milvaion_trio.cli.failures import CommandFailed
from milvaion_trio.client import Client
from milvaion_trio.configuration import Override, Resolved
from milvaion_trio.configuration.spelling import respelled
from milvaion_trio.model import headers, topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import BrokerUnreachable, LinkLost, MilvaionError, NotPublished, SettingsError
from milvaion_trio.model.exception_groups import sole
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.messages import Cancellation, JobMessage
from milvaion_trio.model.redis_address import parse_redis_address
from milvaion_trio.model.settings import RabbitMQSettings, WorkerSettings
from milvaion_trio.runtime.definition import nearest
from milvaion_trio.runtime.dispatching import Destination
from milvaion_trio.transports import broker_for, signals_for
from milvaion_trio.worker import Worker

__all__ = ["Cluster", "cluster_of", "find_cluster", "the_cluster"]

T = TypeVar("T")

CONNECT_TIMEOUT = 5.0
"""Seconds to try for RabbitMQ: enough for a lost packet or two, and little for a typing mistake."""
PATIENCE = 10.0
"""Seconds for a confirm: a broker that takes longer has stopped reading publishes, by a memory or disk alarm."""

UNKNOWN_THERE = (
    "Milvaion's server does not know this occurrence: milvaion-trio monitor shows it, the dashboard does not."
)
UNTOLD = (
    "Milvaion's server does not know this occurrence, and how it ends stands in the log of its worker alone. For "
    "milvaion-trio monitor to show it, the workers must report it: reporting.local_occurrences = true."
)
AS_IT_IS = "It was published as it stands in the file; Milvaion's server shows it only if it knows the occurrence."


@frozen(kw_only=True)
class Cluster:
    """Where the settings lead."""

    settings: WorkerSettings
    rabbitmq: RabbitMQSettings
    sources: tuple[str, ...]
    """What the settings were read from."""
    resolved: Resolved = field(default=Resolved(WorkerSettings()), repr=False)
    """How they are called there."""

    @property
    def name(self) -> str:
        """The broker, and who says that it is this one; without secrets."""
        return f"{broker_for(self.settings, '').name} ({', '.join(self.sources) or 'defaults'})"

    @property
    def redis_name(self) -> str:
        """The same of the Redis, for what only that is asked; of the broker where the settings name none."""
        redis = self.settings.redis
        if redis is None:
            return self.name
        return f"Redis at {parse_redis_address(redis.connection_string)} ({', '.join(self.sources) or 'defaults'})"

    @contextmanager
    def own_words(self) -> Iterator[None]:
        """What is raised in it calls settings as they are called here."""
        try:
            yield
        except MilvaionError as error:
            raise respelled(error, self.resolved) from error.__cause__

    @asynccontextmanager
    async def client(self, group: str | None = None) -> AsyncIterator[Client]:
        """A client of it, for the jobs of a group, the one of the settings unless given.

        Raises `CommandFailed` where the broker cannot be used. If cancelled, what goes on in it is.
        """
        try:
            # Which has a limit of its own for connecting.
            async with Client.from_settings(self.settings, worker_id=group, connect_timeout=CONNECT_TIMEOUT) as client:
                yield client
        except BrokerUnreachable as error:
            reason = error.last_error.removesuffix(".")
            reason += "" if reason.endswith("?") else "."
            raise CommandFailed(
                f"{self.name} cannot be {'used' if error.is_refusal else 'reached'}: {reason} Nothing was enqueued."
            ) from error
        except BaseExceptionGroup as group_of_errors:
            raise sole(group_of_errors) from None

    async def confirmed(self, publishing: Callable[[], Awaitable[T]], what: str = "it was enqueued") -> T:
        """What it returns; raises `CommandFailed` where no confirm comes in time, or ever. If cancelled, so is it."""
        try:
            with trio.move_on_after(PATIENCE):
                return await publishing()
        except LinkLost as lost:
            raise CommandFailed(f"{lost}; nobody knows whether {what}.") from lost
        raise CommandFailed(
            f"{self.name} did not confirm the message within {PATIENCE:g} s; is there a memory or disk alarm? Nobody "
            f"knows whether {what}."
        )

    async def enqueue(self, request: Enqueue | Publish, group: str | None) -> Done:
        """Publish a job for a group of workers, the one of the settings unless given, and return when it is confirmed.

        Raises `CommandFailed` or `NotPublished`. If cancelled, it may have been published.
        """
        job = None
        if isinstance(request, Publish) and request.exchange is None:
            job = message_file.job_message(request)
        async with self.client(group or (job.worker_id if job is not None else None)) as client:
            return await self.confirmed(partial(self._published, client, request, job, group))

    async def publish(self, publication: Publication) -> OccurrenceId:
        """Publish a dispatch message that was made elsewhere, and return its occurrence id when it is confirmed.

        Raises and is cancelled as `enqueue`.
        """
        async with self.client() as client:
            return await self.confirmed(partial(client.publish, publication))

    async def _published(
        self, client: Client, request: Enqueue | Publish, job: JobMessage | None, group: str | None
    ) -> Done:
        if isinstance(request, Enqueue):
            try:
                occurrence_id = await client.enqueue(request.job, request.data, delay=request.delay)
            except NotPublished as error:
                raise NotPublished(f"{error}{self._nearest(request.job)}") from error
            return Done(occurrence_id=occurrence_id, note=self._unknown_there)
        if job is None:
            publication = message_file.publication(request)
            await client.publish(publication, None if publication.exchange else publication.routing_key)
            return Done(occurrence_id=headers.occurrence_id(publication.message), note=AS_IT_IS)
        to = client.destination(job.job_name_in_worker)
        if group is None and job.routing_pattern:
            to = Destination(worker_id=to.worker_id, job_name=to.job_name, pattern=job.routing_pattern)
        publication = message_file.dispatched(request, job, to, origin="client")
        occurrence_id = await client.publish(publication, topology.queue_name(to.pattern))
        return Done(occurrence_id=occurrence_id, note=self._unknown_there)

    @property
    def _unknown_there(self) -> str:
        """Who knows the occurrence, as far as these settings are those of the workers."""
        reporting = self.settings.reporting
        return UNKNOWN_THERE if reporting.local_occurrences and reporting.mode != "none" else UNTOLD

    def _nearest(self, job: str) -> str:
        """The job of the settings that may have been meant; only they are known here, and not all of them."""
        near = nearest(job, self.settings.jobs)
        is_another = near is not None and near.lower() != job.lower()
        return f" Did you mean {near}, which the settings name?" if is_another else ""

    async def cancel(self, request: Cancel) -> Done:
        """Send the signal to every worker; raises `CommandFailed`. If cancelled, it may have been sent."""
        if self.settings.redis is None:
            raise CommandFailed(
                "The settings name no Redis (Worker:Redis:ConnectionString is empty), and cancel signals go over Redis."
            )
        occurrence_id = OccurrenceId(request.occurrence_id)
        cancellation = Cancellation(occurrence_id=occurrence_id)
        if request.reason is not None:
            cancellation = Cancellation(occurrence_id=occurrence_id, reason=request.reason)
        try:
            heard = await signals_for(self.settings).send(cancellation)
        except LinkLost as lost:
            raise CommandFailed(f"The cancel signal could not be sent: {lost}.") from lost
        if not heard:
            raise CommandFailed(
                f"Nobody listens on {self.settings.redis.cancellation_channel!r} of that Redis, so nobody was told: no "
                "worker is connected to it (Worker:Redis:ConnectionString, Worker:Redis:CancellationChannel)."
            )
        workers = "1 worker" if heard == 1 else f"{heard} workers"
        return Done(occurrence_id=occurrence_id, note=f"{occurrence_id}: {workers} told")


def find_cluster(config: Path | None, overrides: Sequence[Override] = ()) -> Cluster | None:
    """The cluster of the settings that hold here; `None` when they name no RabbitMQ.

    Raises `SettingsError` with every mistake in them.
    """
    resolved = configuration.resolve(WorkerSettings(), config=config, environ=os.environ, overrides=overrides)
    settings = resolved.settings
    if settings.rabbitmq is None:
        return None
    return Cluster(settings=settings, rabbitmq=settings.rabbitmq, sources=resolved.sources, resolved=resolved)


def the_cluster(config: Path | None, overrides: Sequence[Override] = ()) -> Cluster:
    """The cluster of the settings; raises `SettingsError`, also when they name no RabbitMQ."""
    cluster = find_cluster(config, overrides)
    if cluster is None:
        raise SettingsError(
            ["No settings here name RabbitMQ, so there is no cluster to go to: say which with --config FILE."]
        )
    return cluster


def cluster_of(target: str, worker: Worker) -> Cluster:
    """The cluster of this worker's settings; raises `SettingsError`, also when they name no RabbitMQ."""
    settings = worker.settings
    if settings.rabbitmq is None:
        raise SettingsError([f"The settings of {target} name no RabbitMQ: say which with --config FILE."])
    return Cluster(settings=settings, rabbitmq=settings.rabbitmq, sources=(target,), resolved=worker.read_settings())
