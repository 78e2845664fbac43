"""`Worker`: what a user builds. It collects jobs, providers and settings, and composes the tree when serving starts."""

import contextlib
import inspect
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from importlib.metadata import version
from os import PathLike
from typing import ParamSpec, Self, TypeAlias, TypeVar

import trio

from milvaion_trio import configuration
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.client import Client
from milvaion_trio.composition import compose
from milvaion_trio.configuration.contradictions import contradictions, doubts, keyless, refuse_if_made, unheard, unkept
from milvaion_trio.configuration.told import Told
from milvaion_trio.embed.asyncio_client import in_thread_of
from milvaion_trio.host import is_on_asyncio
from milvaion_trio.logs import log_event
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.events import Observer
from milvaion_trio.model.exception_groups import sole
from milvaion_trio.model.ids import InstanceId, OccurrenceId
from milvaion_trio.model.readiness import WorkerReadiness
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.ports import Broker, Signals
from milvaion_trio.ports.coordination import Coordination
from milvaion_trio.roster import Roster
from milvaion_trio.runtime import os_signals
from milvaion_trio.runtime.declaration import cut_schemas, topology_of
from milvaion_trio.runtime.definition import EnqueueOptions, JobDefinition
from milvaion_trio.runtime.dispatching import Destination
from milvaion_trio.runtime.idling import until_idle
from milvaion_trio.runtime.put_off import PutOff
from milvaion_trio.runtime.serve import House, serve
from milvaion_trio.runtime.shutdown import Shutdown
from milvaion_trio.scheduler.telling import UNHEARD, Telling
from milvaion_trio.transports import broker_for, coordination_for, missing_client, signals_for

__all__ = ["Worker"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

Lifespan: TypeAlias = Callable[["Worker"], AbstractAsyncContextManager[None]]

__version__ = version("milvaion-trio")

_log = logging.getLogger("milvaion_trio")

CLOSING_GRACE = 1.0
"""Seconds beyond the budgets for what stands around the tree: closing what was provided, leaving the lifespan."""


class Worker(Roster):
    """A worker of the group `worker_id`: its jobs, what they are provided with, and how to serve them.

    Building one only records; nothing is read, checked or connected before it is needed.
    Where neither a broker is given nor the settings name RabbitMQ, the jobs run on an embedded one, in this process.
    """

    def __init__(
        self,
        worker_id: str | None = None,
        *,
        settings: WorkerSettings | None = None,
        config: str | PathLike[str] | None = None,
        broker: Broker | None = None,
        signals: Signals | None = None,
        coordination: Coordination | None = None,
        observers: tuple[Observer, ...] = (log_event,),
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(self._enqueue)
        self._told = Told.by_code(worker_id, settings, config)
        given = {"broker": broker, "signals": signals, "coordination": coordination}
        self._given = {name for name, part in given.items() if part is not None}
        self._broker = broker
        self._signals = signals
        self._coordination = coordination
        self._instance = secrets.token_hex(4)
        self.observers: tuple[Observer, ...] = observers
        self._lifespan: Lifespan | None = None
        self._serving: tuple[trio.lowlevel.TrioToken, Shutdown] | None = None
        self._house: House | None = None
        self.expects_schedules: trio.Event = trio.Event()
        self.put_off: PutOff = PutOff()
        self.clock_ns = clock_ns

    @classmethod
    def from_file(cls, config: str | PathLike[str]) -> Self:
        """A worker whose settings stand in this file: TOML, or a .NET worker's `appsettings.json`.

        Like all settings it is read when they are first needed, at the latest when serving starts.
        """
        return cls(config=config)

    # --- settings ---------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> WorkerSettings:
        """What the worker was told: command line over environment over one settings file over what was given here.

        Read on first use, from the file that was named, else the first of `milvaion.toml`, `[tool.milvaion-trio]` in
        `pyproject.toml` and `appsettings.json` in the current folder. Raises `SettingsError` with every mistake.
        """
        return self._told.settings

    @settings.setter
    def settings(self, settings: WorkerSettings) -> None:
        self._told.settings = settings

    def read_settings(self) -> configuration.Resolved:
        """The settings with their sources and with what of them has no effect; raises as `settings` does."""
        return self._told.read()

    def configure(
        self, config: str | PathLike[str] | None = None, overrides: Iterable[configuration.Override] = ()
    ) -> None:
        """Take the settings from this file instead, and these over all others, before they are used.

        What the command line does with `--config` and `--set`. Without a file the one that was named before holds.
        Raises `SettingsError` where it is too late: a broker or signals were made by the settings of before.
        """
        overrides = tuple(overrides)
        if config is not None or overrides:
            refuse_if_made({"broker": self._broker, "signals": self._signals}, self._given)
            if "coordination" not in self._given:  # `prepare` makes one to look at; nothing is connected
                self._coordination = None
        self._told.configure(config, overrides)

    @property
    def instance_id(self) -> InstanceId:
        """The name of this process in its group."""
        return InstanceId(f"{self.settings.worker_id}-{self._instance}")

    @property
    def broker(self) -> Broker:
        """Where the jobs come from: the broker given here, else the one of the settings, else an embedded one."""
        if self._broker is None:
            self._broker = broker_for(self.settings, self.instance_id)
        return self._broker

    @broker.setter
    def broker(self, broker: Broker) -> None:
        self._broker = broker

    @property
    def signals(self) -> Signals:
        """Where cancel signals come from: those given here, else the Redis of the settings, else this process."""
        if self._signals is None:
            self._signals = signals_for(self.settings)
        return self._signals

    @signals.setter
    def signals(self, signals: Signals) -> None:
        self._signals = signals

    @property
    def coordination(self) -> Coordination | None:
        """What keeps leases, claims and schedules: what is given here, else the Redis of the settings.

        Memory where the broker is an embedded one; on RabbitMQ without Redis there is none.
        """
        if self._coordination is None:
            self._coordination = coordination_for(self.settings, is_embedded=self._is_embedded)
        return self._coordination

    @coordination.setter
    def coordination(self, coordination: Coordination | None) -> None:
        self._coordination = coordination

    @property
    def _is_embedded(self) -> bool:
        """Whether its queues are in this process; no broker is made by asking."""
        return self.settings.rabbitmq is None if self._broker is None else isinstance(self._broker, EmbeddedBroker)

    # --- building ---------------------------------------------------------------------------------------------------

    def lifespan(self, manager: Lifespan) -> Lifespan:
        """Decorate an async context manager function that is entered before serving and left after it."""
        if self._lifespan is not None:
            raise SettingsError(["This worker has a lifespan already; enter both in one async context manager."])
        if inspect.isasyncgenfunction(manager):
            name = getattr(manager, "__name__", "the lifespan")
            raise SettingsError([f"{name} has a `yield`; decorate it with contextlib.asynccontextmanager as well."])
        self._lifespan = manager
        return manager

    def observe(self, observer: Observer) -> None:
        """Call this with every event of the worker (`milvaion_trio.model.events`)."""
        self.observers = (*self.observers, observer)
        if self._house is not None:
            self._house.observers.add(observer)

    def client(self) -> Client:
        """A client for the jobs of this worker, on its broker: `async with worker.client() as client:`."""
        settings = self.settings
        destinations = [
            Destination(worker_id=settings.worker_id, job_name=name, pattern=patterns[0])
            for name, patterns in self.registry.patterns(settings).items()
        ]
        return Client(
            self.broker,
            worker_id=settings.worker_id,
            signals=self.signals,
            coordination=self.coordination,
            on_schedule=self.expects_schedules.set,
            on_delay=self.put_off.note,
            uniques=self.registry.uniques(settings),
            destinations=destinations,
            clock_ns=self.clock_ns,
        )

    async def _enqueue(
        self, definition: JobDefinition[..., object], data: object, options: EnqueueOptions
    ) -> OccurrenceId:
        if is_on_asyncio():
            return await in_thread_of(self, partial(self._enqueue, definition, data, options))
        link = self._house.publishing if self._house is not None else None
        if link is not None and link.current is not None:  # the connection that is open already
            return await self.client().over(link).enqueue(definition, data, **options)
        async with self.client() as client:
            return await client.enqueue(definition, data, **options)

    def prepare(self) -> None:
        """Look everything up that serving needs; raises `SettingsError` with every mistake in jobs and settings.

        Serving begins with it. Called alone, it fills `registry.jobs` and starts nothing.
        """
        settings = self.settings
        resolved = self._told.resolved
        try:
            is_kept = self.coordination is not None
        except SettingsError as error:  # its address cannot be read
            raise self._told.with_sources(error) from None
        problems = [
            *contradictions(resolved, settings, self._given),
            *(missing_client(settings) if self._broker is None else ()),
            *unkept(settings, {**self.timetable.declared, **settings.schedules}, is_kept=is_kept),
            *unheard(settings, is_embedded=self._is_embedded),
            *self.look_up(settings, resolved.jobs, resolved.schedules),
            *keyless(settings, self.registry.jobs, is_kept=is_kept),
        ]
        if problems:
            raise self._told.with_sources(SettingsError(problems))

    def warnings(self) -> list[str]:
        """What stops nothing and should be known before serving; a sentence each. `prepare` comes first."""
        return self._told.spelled([*cut_schemas(self.registry.jobs), *doubts(self.settings, self.registry.jobs)])

    # --- serving ----------------------------------------------------------------------------------------------------

    async def serve(
        self, *, handle_signals: bool | None = None, task_status: trio.TaskStatus[Self] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run jobs until the worker is asked to leave: by `drain()`, a signal, or cancellation.

        Awaited on asyncio, it runs Trio in a thread of its own, with all that follows carried over.
        `handle_signals=None` handles SIGINT and SIGTERM if this is the main task of `trio.run` in the main thread and
        nobody else has taken them. `task_status.started` gets the worker once it is registered and consumes.
        Raises `SettingsError` for contradictions in jobs or settings, `BrokerUnreachable` when there is no broker.
        If cancelled, running jobs are cancelled with reason *shutdown* and go back to their queues; that takes at most
        `cleanup_timeout + flush_timeout` seconds, unless a job ignores its own cancellation for longer. On asyncio
        the thread of such a job is left behind after two seconds more.
        """
        if is_on_asyncio():
            from milvaion_trio.embed.asyncio_host import serve_on_asyncio  # asyncio, for who has it

            await serve_on_asyncio(self, handle_signals, task_status)
            return
        shutdown = Shutdown(self.settings.shutdown)
        if self._serving is not None:
            raise SettingsError(["This worker serves already. Make a second Worker to serve twice in one process."])
        numbers = os_signals.to_handle(handle_signals)
        self._serving = (trio.lowlevel.current_trio_token(), shutdown)
        try:
            with os_signals.handled(shutdown, numbers):
                await self._serve(shutdown, lambda: task_status.started(self))
        except BaseExceptionGroup as group:
            _, errors = group.split(trio.Cancelled)  # an error while being cancelled is what the host has to see
            error = self._told.with_sources(sole(group if errors is None else errors))
            raise error from error.__cause__  # not from None: that would erase what caused it
        finally:
            self._serving = self._house = None

    @property
    def trio_token(self) -> trio.lowlevel.TrioToken | None:
        """The Trio run in which the worker serves, maybe in another thread; `None` while it does not."""
        serving = self._serving
        return None if serving is None else serving[0]

    @property
    def readiness(self) -> WorkerReadiness:
        """Whether it takes jobs now, and what keeps it from that. From any thread."""
        house = self._house  # once: another thread asks, and the worker may leave meanwhile
        return WorkerReadiness({"worker": "it does not serve"}) if house is None else house.readiness.now

    def drain(self) -> None:
        """Ask the worker to take no more jobs, let the running ones end, and leave. From any thread; twice is once.

        Without effect while the worker does not serve.
        """
        serving = self._serving  # once: another thread asks, and the worker may leave meanwhile
        if serving is not None:
            token, shutdown = serving
            with contextlib.suppress(trio.RunFinishedError):  # it has left already
                token.run_sync_soon(shutdown.drain)

    async def idle(self) -> None:
        """Return when the job queues are empty, nothing waits for a retry, nothing runs and all of it is reported.

        At this moment: others may enqueue in the next. On RabbitMQ, retries and other delays are those of this process;
        it does not say for whom the rest waits, so that is left there. Used by `run --burst`.
        Returns at once while the worker does not serve. If cancelled, nothing changes.
        """
        await until_idle(lambda: self._house)

    @contextlib.asynccontextmanager
    async def _telling(self) -> AsyncIterator[Telling]:
        """Who is told what the scheduler in this worker does, while the context is open."""
        if not (self.settings.scheduler.report and self.settings.scheduler.enabled):
            yield UNHEARD
            return
        from milvaion_trio.external.schedules import ScheduleReports  # for who wants it

        reports = ScheduleReports(self.broker, self.settings, self.clock_ns)
        async with reports.open():
            yield reports

    async def _serve(self, shutdown: Shutdown, started: Callable[[], None]) -> None:
        self.prepare()
        for sentence in self.warnings():
            _log.warning("%s", sentence)
        if isinstance(self.broker, EmbeddedBroker):  # a new one has no queues, and a lifespan may enqueue at once
            self.broker.declare_nowait(topology_of(self.registry.jobs))
        budgets = self.settings.shutdown
        is_working = has_started = False

        def working() -> None:
            nonlocal is_working
            is_working = not inside.cancel_called  # asked to leave a moment ago, it only gets that far

        def up() -> None:
            nonlocal has_started
            has_started = True
            started()

        def end_within(seconds: float) -> None:
            inside.deadline = min(inside.deadline, trio.current_time() + seconds + CLOSING_GRACE)

        async def heed_requests() -> None:
            try:
                await shutdown.requested()
                if is_working:
                    end_within(budgets.drain_timeout + budgets.cleanup_timeout + budgets.flush_timeout)
                    await shutdown.stop_requested()
                    end_within(budgets.cleanup_timeout + budgets.flush_timeout)
                    await trio.sleep_forever()  # a cancellation may still follow, and changes nothing any more
            except trio.Cancelled:
                shutdown.stop()
                end_within(budgets.cleanup_timeout + budgets.flush_timeout)
                raise
            finally:
                if not is_working:  # nothing has to be wound down yet, and a broker may be tried for ever
                    inside.cancel()

        async with trio.open_nursery() as nursery:
            with trio.CancelScope(shield=True) as inside:
                nursery.start_soon(heed_requests)
                async with self._lifespan(self) if self._lifespan is not None else contextlib.nullcontext():
                    async with self.providers.worker_scope(), self._telling() as telling:
                        self._house = compose(self, shutdown, __version__, telling)
                        await serve(self._house, working, up)
            nursery.cancel_scope.cancel()
        if is_working and inside.cancelled_caught:
            _log.error("the lifespan or what the worker was provided with took too long to close and was cancelled")
        if not has_started:
            started()  # told to leave before it was up; who waits for the start must not wait for ever
