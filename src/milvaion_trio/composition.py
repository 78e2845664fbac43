"""A worker's parts put together: every port gets its adapter, every part what it needs."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

import trio

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.events import Observer
from milvaion_trio.model.identity import Identity
from milvaion_trio.model.ids import InstanceId, WorkerId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.schedule import Millis, Schedule
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.policy.guarding import shortest_lease
from milvaion_trio.policy.ledger import Ledger
from milvaion_trio.ports import Broker, Consumer, Publisher, Signals
from milvaion_trio.ports.coordination import Coordination
from milvaion_trio.runtime.asyncio_jobs import AsyncioJobs, AsyncioLoop
from milvaion_trio.runtime.cancellation import CancelListener
from milvaion_trio.runtime.consumptions import Consumptions
from milvaion_trio.runtime.context import LogSink
from milvaion_trio.runtime.declaration import registration_of, topology_of
from milvaion_trio.runtime.declared import Declared, DeclaringPublisher
from milvaion_trio.runtime.definition import RunMode
from milvaion_trio.runtime.dispatch import Dispatcher
from milvaion_trio.runtime.executor import Executor
from milvaion_trio.runtime.guarded_runs import GuardedRuns
from milvaion_trio.runtime.holds import Holds
from milvaion_trio.runtime.hops import Hops
from milvaion_trio.runtime.keeper import Keeper
from milvaion_trio.runtime.late_starts import LateStarts
from milvaion_trio.runtime.limits import Slots
from milvaion_trio.runtime.lookout import Lookout
from milvaion_trio.runtime.observers import Observers
from milvaion_trio.runtime.places import Places
from milvaion_trio.runtime.presence import JobHeartbeats, Presence
from milvaion_trio.runtime.processes import JobProcesses
from milvaion_trio.runtime.providers import Providers
from milvaion_trio.runtime.put_off import PutOff
from milvaion_trio.runtime.quota import Quota
from milvaion_trio.runtime.readers import Readers
from milvaion_trio.runtime.readiness import BLOCKED, OUTBOX, Readiness
from milvaion_trio.runtime.registrar import Registrar
from milvaion_trio.runtime.registry import RegisteredJob, Registry
from milvaion_trio.runtime.reporting import Reporter
from milvaion_trio.runtime.run import Run
from milvaion_trio.runtime.runs import Runs
from milvaion_trio.runtime.serve import House
from milvaion_trio.runtime.shutdown import Shutdown
from milvaion_trio.runtime.stalls import Stalls
from milvaion_trio.runtime.supervisor import Startup, SupervisedLink
from milvaion_trio.scheduler.participation import taking_part
from milvaion_trio.scheduler.scheduler import Scheduler
from milvaion_trio.scheduler.telling import Telling
from milvaion_trio.transports import lasting_outbox_for, outbox_for

__all__ = ["Plan", "compose", "places_for"]


class Plan(Protocol):
    """What a house is built after: a prepared `Worker`."""

    @property
    def settings(self) -> WorkerSettings:
        """What it was told, by all sources."""

    @property
    def instance_id(self) -> InstanceId:
        """The name of this process in the group."""

    @property
    def broker(self) -> Broker:
        """Where its jobs come from."""

    @property
    def signals(self) -> Signals:
        """Where its cancel signals come from."""

    @property
    def coordination(self) -> Coordination | None:
        """What keeps leases, claims and schedules; `None` where workers share nothing that could."""

    @property
    def schedules(self) -> Sequence[Schedule]:
        """Those that it brings along."""

    expects_schedules: trio.Event
    """Set where there are some besides, or may be."""

    put_off: PutOff
    """What it has put off, also through its clients."""
    registry: Registry
    providers: Providers
    observers: tuple[Observer, ...]
    clock_ns: Callable[[], int]


def places_for(max_parallel: int, sink: LogSink, cleanup_timeout: float) -> Places:
    """Where jobs run that are no tasks of Trio's; nothing is started or imported before one needs it."""
    return Places(
        threads=trio.CapacityLimiter(max_parallel),
        asyncio=AsyncioJobs(_open_loop, sink, cleanup_timeout),
        processes=JobProcesses(sink, cleanup_timeout),
    )


def _check_asyncio(jobs: Iterable[RegisteredJob]) -> None:
    """Import what asyncio jobs need, if there are any; raises `SettingsError` where that is not possible."""
    names = [job.name for job in jobs if job.definition.mode is RunMode.ASYNCIO]
    if names:
        try:
            import milvaion_trio.coroutines  # noqa: F401  # now, as it takes a while
        except ImportError as error:
            raise SettingsError([f'{name!r} has run="asyncio". {error}' for name in names]) from error


def _open_loop(on_error: Callable[[str], None]) -> contextlib.AbstractAsyncContextManager[AsyncioLoop]:
    from milvaion_trio.coroutines import open_loop  # imports asyncio and trio-asyncio

    return open_loop(on_error)


def compose(plan: Plan, shutdown: Shutdown, version: str, telling: Telling) -> House:
    """Build the house, ready to be served; nothing runs or connects yet. `telling` hears of schedules."""
    settings, registry, clock_ns = plan.settings, plan.registry, plan.clock_ns
    _check_asyncio(registry.jobs)
    identity = Identity(worker_id=WorkerId(settings.worker_id), instance_id=plan.instance_id, dialect=settings.wire)

    def now() -> Instant:
        return Instant.from_unix_ns(clock_ns())

    declared = Declared(topology_of(registry.jobs))

    @contextlib.asynccontextmanager
    async def consuming_declared() -> AsyncIterator[Consumer]:
        """A consuming connection over which all that the worker uses is declared. If cancelled, any part of it is."""
        async with plan.broker.consuming() as consumer:
            await declared.make(consumer)
            yield consumer

    @contextlib.asynccontextmanager
    async def publishing_heard() -> AsyncIterator[Publisher]:
        """A publishing connection whose alarms are heard as long as it lives. If cancelled, it is closed."""
        async with plan.broker.publishing() as publisher:
            readiness.report(BLOCKED, "")  # the one before may have been told of an alarm while it was closed
            publisher.on_blocked(readiness.reporter(BLOCKED))
            try:
                yield DeclaringPublisher(publisher, declared)
            finally:
                readiness.report(BLOCKED, "")

    observers = Observers(plan.observers)
    readiness, consumptions = Readiness(observers), Consumptions()
    is_kept = isinstance(plan.broker, EmbeddedBroker) and plan.broker.folder is not None
    outbox = lasting_outbox_for(settings) if is_kept else outbox_for(settings)
    outbox.on_trouble(readiness.reporter(OUTBOX))
    reporter = Reporter(identity, outbox, now)
    ledger = Ledger[Run]()
    startup = Startup(settings.startup_connection_timeout, trio.current_time())
    publishing = SupervisedLink(
        "publishing", plan.broker.name, publishing_heard, observers, startup, readiness.reporter("publishing")
    )
    consuming = SupervisedLink(
        "consuming", plan.broker.name, consuming_declared, observers, startup, readiness.reporter("consuming")
    )
    job_heartbeats = JobHeartbeats(reporter, settings.heartbeat.job_interval)
    listener = CancelListener(plan.signals, ledger, reporter, lambda: clock_ns() / 1e9)
    presence = Presence(
        identity=identity,
        registration=registration_of(identity, registry.jobs, settings, version),
        publishing=publishing,
        current_jobs=lambda: runs.running,
        now=now,
        interval=settings.heartbeat.interval if settings.heartbeat.enabled else 0.0,
    )

    def job_starts(run: Run) -> None:
        job_heartbeats.watch(run)
        presence.changed()

    def job_ends(run: Run) -> None:
        job_heartbeats.unwatch(run)
        presence.changed()
        listener.run_ended(run)

    cleanup_timeout = settings.shutdown.cleanup_timeout
    keeper = Keeper(plan.coordination)
    registrar = Registrar(keeper, clock_ns)
    places = places_for(settings.max_parallel_jobs, reporter, cleanup_timeout)
    runs = Runs(
        ledger=ledger,
        outbox=outbox,
        reporter=reporter,
        executor=Executor(plan.providers, reporter, places, cleanup_timeout),
        observers=observers,
        now=now,
        reported=settings.reporting,
        late_starts=LateStarts(settings.reporting.running_after, reporter),
        registrar=registrar,
        put_off=plan.put_off,
        on_start=job_starts,
        on_end=job_ends,
    )
    return House(
        identity=identity,
        outbox=outbox,
        publishing=publishing,
        consuming=consuming,
        presence=presence,
        job_heartbeats=job_heartbeats,
        reporter=reporter,
        listener=listener,
        runs=runs,
        places=places,
        dispatcher=Dispatcher(
            registry=registry,
            runs=runs,
            guarded_runs=GuardedRuns(
                runs=runs,
                keeper=keeper,
                holds=Holds(
                    keeper=keeper,
                    holder=plan.instance_id,
                    # Where no job has a key the settings are not checked for this, and a client may name one.
                    seconds=max(settings.exclusive_lease, shortest_lease(cleanup_timeout)),
                    grace=cleanup_timeout,
                    most_waiting=max(1, settings.max_parallel_jobs // 4),
                ),
                registrar=registrar,
            ),
            worker_slots=Slots(settings.max_parallel_jobs),
            quota=Quota(settings.max_jobs_per_process, readiness),
            readiness=readiness,
            consumptions=consumptions,
        ),
        hops=Hops(consuming=consuming, publishing=publishing, runs=runs, reporter=reporter, consumptions=consumptions),
        readers=Readers(consuming=consuming) if settings.rabbitmq is not None else None,
        scheduling=partial(_scheduling, plan, publishing, telling),
        declared=declared,
        stalls=Stalls(consuming=consuming, consumptions=consumptions, readiness=readiness),
        lookout=Lookout(registry=registry, runs=runs),
        readiness=readiness,
        shutdown=shutdown,
        observers=observers,
    )


def _scheduling(
    plan: Plan, publishing: SupervisedLink[Publisher], telling: Telling
) -> contextlib.AbstractAsyncContextManager[None]:
    """The worker's part in scheduling, while the context is open."""
    settings, coordination, clock_ns = plan.settings, plan.coordination, plan.clock_ns
    if coordination is None:
        return contextlib.nullcontext()
    if plan.schedules:
        plan.expects_schedules.set()

    def now() -> Millis:
        return clock_ns() // 1_000_000

    scheduler = Scheduler(
        coordination=coordination,
        link=publishing,
        signals=plan.signals,
        holder=plan.instance_id,
        lease=settings.scheduler.lease,
        clock_ns=clock_ns,
        telling=telling,
    )
    return taking_part(
        coordination.book,
        plan.schedules,
        now,
        scheduler if settings.scheduler.enabled else None,
        plan.expects_schedules,
    )
