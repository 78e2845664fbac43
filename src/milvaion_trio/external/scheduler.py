"""`ExternalScheduler`: shows on a Milvaion server what other schedulers run, from any program.

The server neither starts nor cancels these jobs. Whatever the broker does, the code that is tracked runs as it would
without: what it did is kept in memory until it can be told.
"""

import logging
import os
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Final, Self, Unpack

import trio
from attrs import evolve

from milvaion_trio import configuration
from milvaion_trio.external.apscheduler import Watch, Watchable
from milvaion_trio.external.introductions import Jobs
from milvaion_trio.external.job import About, ExternalJob
from milvaion_trio.external.letters import Letters
from milvaion_trio.external.reporter import Reporter
from milvaion_trio.external.run import RunStart, TrackedRun, missed
from milvaion_trio.external.thread import ReportingThread
from milvaion_trio.external.tracking import Tracking
from milvaion_trio.external.unsent import Unsent
from milvaion_trio.host import is_on_asyncio
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.identity import Identity
from milvaion_trio.model.ids import InstanceId, OccurrenceId, WorkerId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.model.wire import Dialect
from milvaion_trio.ports import Broker
from milvaion_trio.transports import broker_for

__all__ = ["SOURCE", "ExternalScheduler"]

SOURCE: Final = "milvaion-trio"
"""What the jobs are from, where the settings do not say."""

NO_BROKER: Final = "The settings name no RabbitMQ, so there is no Milvaion server to tell: add Worker:RabbitMQ."

_log = logging.getLogger("milvaion_trio.external")


class ExternalScheduler:
    """Reports runs of other schedulers: `with milvaion:` around all of it, `with milvaion.track("etl"):` around a run.

    `with` in any program, which gives it a thread of its own; `async with` in one that runs Trio. What is tracked
    outside is told at the next entering.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        settings: WorkerSettings | None = None,
        worker_id: str | None = None,
        source: str | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        settings = WorkerSettings() if settings is None else settings
        if worker_id is not None:
            settings = evolve(settings, worker_id=worker_id)
        self._settings = settings
        self._broker = broker
        self._clock_ns = clock_ns
        self._jobs = Jobs()
        self._unsent = Unsent()
        worker = settings.worker_id
        identity = Identity(
            worker_id=WorkerId(worker),
            instance_id=InstanceId(f"{worker}-{secrets.token_hex(4)}"),
            dialect=Dialect.V1_1,
        )
        named = source or settings.external_scheduler.source or SOURCE
        self._letters = Letters(identity, named, settings, self._now)
        self._reporter: Reporter | None = None
        self._thread: ReportingThread | None = None
        self._stay: AbstractAsyncContextManager[None] | None = None

    @classmethod
    def from_file(cls, config: str | PathLike[str], *, worker_id: str | None = None) -> Self:
        """One that reports by this settings file, a worker's; the environment is over the file, as for workers.

        `worker_id` is the name under which it reports: not that of a worker that also runs jobs, as one of the two
        would hide the other. Raises `SettingsError` with every mistake, or when no RabbitMQ is named.
        """
        resolved = configuration.resolve(WorkerSettings(), config=Path(config), environ=os.environ)
        for warning in resolved.warnings:
            _log.warning("%s", warning)
        return cls.from_settings(resolved.settings, worker_id=worker_id)

    @classmethod
    def from_settings(cls, settings: WorkerSettings, *, worker_id: str | None = None) -> Self:
        """One that reports by these settings. Raises `SettingsError` when they name no RabbitMQ."""
        if settings.rabbitmq is None:
            raise SettingsError([NO_BROKER])
        name = worker_id or settings.worker_id
        return cls(broker_for(settings, f"external scheduler {name}"), settings=settings, worker_id=worker_id)

    # --- entering and leaving -----------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Report from now on, in a thread of its own. It never waits for the broker."""
        self._thread = ReportingThread(self._new_reporter())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Tell what is left, for at most `shutdown.flush_timeout` seconds; what is lost then is said in the log."""
        thread, self._thread = self._thread, None
        try:
            if thread is not None:
                thread.leave(self._settings.shutdown.flush_timeout)
        finally:
            self._reporter = None

    async def __aenter__(self) -> Self:
        """The same in a program that runs Trio, without a thread. If cancelled, nothing is open."""
        if is_on_asyncio():
            raise SettingsError(["`async with` is for programs that run Trio; elsewhere, asyncio too, write `with`."])
        self._stay = self._reporting(self._new_reporter())
        await self._stay.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """As `__exit__`. If cancelled, it takes that time all the same."""
        stay, self._stay = self._stay, None
        try:
            if stay is not None:
                await stay.__aexit__(kind, error, traceback)  # noqa: ASYNC102  # shielded there, with a deadline
        finally:
            self._reporter = None

    # --- jobs and runs ------------------------------------------------------------------------------------------------

    def register(self, job_id: str, **about: Unpack[About]) -> None:
        """Show a job before it runs. `cron` has six fields, seconds first, in UTC; from any thread.

        Raises `ValueError` for an id that is empty or longer than 500 characters.
        """
        self._hear(ExternalJob(id=job_id, **about))

    def unregister(self, job_id: str) -> None:
        """Its scheduler has the job no more: show it as inactive; from any thread."""
        if self._jobs.gone(job_id):
            self._look()

    def track(
        self,
        job_id: str,
        *,
        scheduled_for: datetime | None = None,
        run_id: str | None = None,
        **about: Unpack[About],
    ) -> Tracking:
        """A run of this job: `with milvaion.track("nightly-etl") as run:`, or a decorator; in any thread or task.

        What its code raises ends the run as failed and goes on; cancelled is what is ended by a cancellation or Ctrl-C.
        `scheduled_for` is when it should have begun, `run_id` its name in its own scheduler, at most 500 characters.
        Raises `ValueError` as `register`.
        """
        job = ExternalJob(id=job_id, **about)
        return Tracking(lambda: self.begin(job, scheduled_for=scheduled_for, run_id=run_id))

    def missed(self, job_id: str, *, scheduled_for: datetime | None = None, why: str = "Missed") -> None:
        """Its time came and it did not run: shown as a run that was cancelled, with the reason; from any thread."""
        self.begin(ExternalJob(id=job_id), scheduled_for=scheduled_for).end(missed(why))

    def watch(self, scheduler: Watchable) -> None:
        """Report the jobs and runs of an APScheduler 3, from now on; with its own names for jobs."""
        Watch(self, scheduler).begin()

    def begin(
        self, job: ExternalJob, *, scheduled_for: datetime | None = None, run_id: str | None = None
    ) -> TrackedRun:
        """A run that somebody else ends. `track` does both."""
        occurrence_id = OccurrenceId(str(uuid.uuid4()))
        start = RunStart(
            job=self._hear(job),
            occurrence_id=occurrence_id,
            external_id=run_id or occurrence_id,
            scheduled_for=scheduled_for,
            at=self._now(),
        )
        run = TrackedRun(start, self._unsent, self._now)
        self._unsent.began(run)
        return run

    def _hear(self, job: ExternalJob) -> ExternalJob:
        known = self._jobs.heard(job)
        self._look()
        return known

    def _look(self) -> None:
        if (reporter := self._reporter) is not None:
            reporter.look()

    def _now(self) -> Instant:
        return Instant.from_unix_ns(self._clock_ns())

    def _new_reporter(self) -> Reporter:
        if self._reporter is not None:
            raise SettingsError(["This external scheduler is open already. Open it once, around the whole program."])
        self._reporter = Reporter(
            broker=self._broker,
            letters=self._letters,
            jobs=self._jobs,
            unsent=self._unsent,
            settings=self._settings,
        )
        self._unsent.tell = self._look
        return self._reporter

    @asynccontextmanager
    async def _reporting(self, reporter: Reporter) -> AsyncIterator[None]:
        failure: BaseException | None = None

        async def serve(task_status: trio.TaskStatus[None]) -> None:
            # It ends by itself, within the time for leaving; what cancels the program must not cut it short.
            with trio.CancelScope(shield=True):
                await reporter.serve(task_status)

        async with trio.open_nursery() as nursery:
            await nursery.start(serve)
            try:
                yield
            except BaseException as error:  # noqa: ASYNC103  # raised again below, out of the nursery
                failure = error
            nursery.cancel_scope.shield = True  # what cancelled the block is in `failure` already
            reporter.leave()
        if failure is not None:
            raise failure
