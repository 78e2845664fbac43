"""The nursery tree. Nesting is the shutdown order: what is inside ends first."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import trio
from attrs import define

from milvaion_trio.model.events import WorkerReady, WorkerStopped
from milvaion_trio.model.identity import Identity
from milvaion_trio.ports import Consumer, Outbox, Publisher
from milvaion_trio.runtime.cancellation import CancelListener
from milvaion_trio.runtime.declared import Declared
from milvaion_trio.runtime.dispatch import Dispatcher
from milvaion_trio.runtime.hops import Hops
from milvaion_trio.runtime.lookout import Lookout
from milvaion_trio.runtime.observers import Observers
from milvaion_trio.runtime.places import Places
from milvaion_trio.runtime.presence import JobHeartbeats, Presence
from milvaion_trio.runtime.readers import Readers
from milvaion_trio.runtime.readiness import WORKER, Readiness
from milvaion_trio.runtime.reporting import Reporter
from milvaion_trio.runtime.runs import Runs
from milvaion_trio.runtime.shutdown import Shutdown, wind_down
from milvaion_trio.runtime.stalls import Stalls
from milvaion_trio.runtime.supervisor import SupervisedLink

__all__ = ["House", "serve"]


@define(eq=False, kw_only=True)
class House:
    """Everything one serving worker consists of, built and not yet running."""

    identity: Identity
    outbox: Outbox
    publishing: SupervisedLink[Publisher]
    consuming: SupervisedLink[Consumer]
    presence: Presence
    job_heartbeats: JobHeartbeats
    reporter: Reporter
    listener: CancelListener
    runs: Runs
    places: Places
    dispatcher: Dispatcher
    hops: Hops
    readers: Readers | None
    """`None` where the broker is in this process, so that a Milvaion API cannot read anything."""
    scheduling: Callable[[], AbstractAsyncContextManager[None]]
    """The worker's part in scheduling, while it takes jobs."""
    declared: Declared
    stalls: Stalls
    lookout: Lookout
    readiness: Readiness
    shutdown: Shutdown
    observers: Observers


async def serve(house: House, working: Callable[[], None], started: Callable[[], None]) -> None:
    """Run the tree until the shutdown is requested, then leave in order.

    `working` is called just before the first job can run, `started` once the worker is registered and consumes every
    queue.
    Not to be cancelled while jobs run: the caller shields it and requests the shutdown instead.
    If it is cancelled all the same, unsettled messages return to their queues with the connection.
    """
    shutdown, dispatcher = house.shutdown, house.dispatcher
    # The outermost nursery, so that a job that cannot be stopped keeps nobody from reporting, flushing and closing.
    async with house.places.open(), trio.open_nursery() as jobs:
        async with house.outbox.open():
            async with house.publishing.kept_up(), house.consuming.kept_up(), _shared(house):
                async with house.presence.announced(shutdown):
                    async with _courier(house):
                        async with house.listener.listening():
                            async with _heartbeats_and_logs(house):
                                working()
                                async with house.hops.sent_on(jobs), dispatcher.intake(house.consuming, jobs):
                                    queues = tuple(job.queue for job in dispatcher.registry.jobs)
                                    house.observers.tell(WorkerReady(house.identity.instance_id, queues))
                                    house.readiness.report(WORKER, "")
                                    started()
                                    async with house.scheduling():
                                        await shutdown.requested()
                                    house.readiness.report(WORKER, "it is leaving")
                                unstoppable = await wind_down(house.runs, shutdown, house.observers)
        names = tuple(run.registered.name for run in unstoppable)
        house.observers.tell(WorkerStopped(house.identity.instance_id, names))
        jobs.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def _shared(house: House) -> AsyncIterator[None]:
    """Leases are kept and ends are told while the context is open; on leaving, what is left is, within the budget."""
    runs = house.dispatcher.guarded_runs
    coordination = runs.keeper.coordination
    async with coordination.open() if coordination is not None else contextlib.nullcontext():
        async with runs.holds.open(), runs.registrar.open(house.shutdown.flush_scope):
            yield


@contextlib.asynccontextmanager
async def _courier(house: House) -> AsyncIterator[None]:
    """Send the outbox's rows while the context is open; on leaving, what is left, within the flush budget."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.publishing.use, house.outbox.deliver)
        yield
        house.reporter.logs.close()
        with house.shutdown.flush_scope():
            await house.outbox.drained()
            await house.runs.until_all_settled()
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def _heartbeats_and_logs(house: House) -> AsyncIterator[None]:
    with house.lookout.watching():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(house.job_heartbeats.beat)
            nursery.start_soon(house.reporter.logs.flush_regularly)
            nursery.start_soon(house.runs.late_starts.tell)
            nursery.start_soon(house.stalls.watch)
            nursery.start_soon(house.declared.keep, house.consuming)
            nursery.start_soon(house.dispatcher.quota.leave, house.runs, house.shutdown, house.observers)
            if house.readers is not None:
                nursery.start_soon(house.readers.watch)
            yield
            nursery.cancel_scope.cancel()
