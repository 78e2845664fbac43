"""Dispatch: from a delivery to a running job.

One intake per job queue takes deliveries in order, lets `policy.lifecycle.admit` decide, waits for a slot and starts
the task that owns the delivery from then on (`runs.py`). Deciding is synchronous; only waiting is not.
"""

import contextlib
import logging
from collections.abc import AsyncIterator
from functools import partial

import trio
from attrs import define, field

from milvaion_trio.model import headers
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.policy import lifecycle
from milvaion_trio.ports import Consumer, Delivery
from milvaion_trio.runtime.consuming import consumed_again
from milvaion_trio.runtime.consumptions import Consumption, Consumptions
from milvaion_trio.runtime.declaration import topology_of
from milvaion_trio.runtime.guarded_runs import GuardedRuns
from milvaion_trio.runtime.limits import Slots, Taken, take_both, try_take_both
from milvaion_trio.runtime.quota import Quota
from milvaion_trio.runtime.readiness import JOB_LIMIT, OUTBOX, Readiness
from milvaion_trio.runtime.registry import RegisteredJob, Registry
from milvaion_trio.runtime.runs import Runs
from milvaion_trio.runtime.supervisor import SupervisedLink

__all__ = ["SLOT_PATIENCE", "STARTS_PER_PASS", "Dispatcher"]

SLOT_PATIENCE = 30.0
"""Seconds a delivery may wait for a slot before it goes back for another worker to take (DESIGN.md 5, Limits).
With its slots, one that must run alone waits as long again for the jobs that run."""

STARTS_PER_PASS = 64
"""Jobs that one intake starts before others get their turn: about 2 ms of work, and 16 times fewer passes of Trio's
scheduler than one by one (benchmarks/embedded.py)."""

_log = logging.getLogger("milvaion_trio.runtime")


@define(eq=False, kw_only=True)
class Dispatcher:
    """The intakes of one worker."""

    registry: Registry
    runs: Runs
    guarded_runs: GuardedRuns
    worker_slots: Slots
    quota: Quota
    readiness: Readiness
    consumptions: Consumptions
    received: int = field(default=0, init=False)
    """How many deliveries were taken so far."""
    waiting: int = field(default=0, init=False)
    """How many of them wait for a slot."""

    @contextlib.asynccontextmanager
    async def intake(self, consuming: SupervisedLink[Consumer], jobs: trio.Nursery) -> AsyncIterator[None]:
        """Take deliveries of every job queue while the context is open and run them in the nursery `jobs`.

        It is entered once every queue is consumed. On leaving, deliveries without a slot are back in their queue.
        """
        async with trio.open_nursery() as nursery:
            for registered in self.registry.jobs:
                await nursery.start(self._consume, registered, consuming, jobs)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()

    async def _consume(
        self,
        registered: RegisteredJob,
        consuming: SupervisedLink[Consumer],
        jobs: trio.Nursery,
        task_status: trio.TaskStatus[None],
    ) -> None:
        slots = Slots(registered.effective.max_parallel)
        needed = topology_of((registered,))
        has_started = False
        lost: Consumer | None = None
        with self.readiness.only_without(JOB_LIMIT):
            while not self.quota.is_used_up:
                if self.readiness.has(OUTBOX):  # what is started must be written down, so others may have the messages
                    has_started = True
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    await self.readiness.wait_without(OUTBOX)
                consumer = await consuming.get(other_than=lost)
                try:
                    # What is wrong with a queue stops the start; later it stops nothing but this intake.
                    consume = consumer.consume if not has_started else partial(consumed_again, consumer, needed=needed)
                    async with consume(registered.queue, prefetch=slots.total) as deliveries:
                        has_started = True
                        task_status.started()
                        task_status = trio.TASK_STATUS_IGNORED
                        self.readiness.report(_part(registered), "")
                        with self.consumptions.noted(registered.queue, slots.total, deliveries) as consumption:
                            with self.readiness.only_without(OUTBOX):
                                await self._take(consumption, slots, jobs)
                except LinkLost:
                    lost = consumer
                    self.readiness.report(_part(registered), "it is not consumed")
                    continue
                # A delivery waited in vain, or the outbox is in trouble: consume nothing until there is room, so that
                # other workers get the messages.
                await take_both(slots, self.worker_slots)
                Taken(slots, self.worker_slots).give()
        task_status.started()  # in case that jobs of other queues used up the limit before this one was consumed

    async def _take(self, consumption: Consumption, slots: Slots, jobs: trio.Nursery) -> None:
        """Dispatch deliveries; returns when one got no slot in time, or no job may begin any more."""
        deliveries = consumption.deliveries
        in_a_row = 0
        while True:
            delivery = deliveries.receive_nowait() if in_a_row < STARTS_PER_PASS else None
            in_a_row += 1
            if delivery is None:
                delivery = await deliveries.receive()
                in_a_row = 0
            self.received += 1
            consumption.received += 1
            admission = self._admit(delivery)
            if not isinstance(admission, lifecycle.Run):
                self.runs.answer(admission, delivery, jobs)
                continue
            alone = admission.is_suspect
            if alone or not try_take_both(slots, self.worker_slots):
                if not await self._wait_for_slots(admission, delivery, slots):
                    return
                # While it waited, a cancel may have come, or the same message again over a new connection.
                admission = self._admit(delivery)
                if not isinstance(admission, lifecycle.Run):
                    Taken(slots, self.worker_slots, alone).give()
                    self.runs.answer(admission, delivery, jobs)
                    continue
            if self.quota.is_used_up:  # by others, while this one waited or in the same pass
                Taken(slots, self.worker_slots, alone).give()
                self._give_back(admission, delivery)
                return
            run = self.runs.begin(admission, delivery, self.registry.resolve(admission.job.job_name_in_worker))
            taken = Taken(slots, self.worker_slots, alone)
            name = f"job {run.registered.name}"
            if run.registered.exclusive is not None or not headers.GUARDED.isdisjoint(delivery.message.headers):
                run.wait_to_begin()
                jobs.start_soon(self.guarded_runs.live, run, taken, self.quota.try_take, name=name)
                continue
            self.quota.take()
            jobs.start_soon(self.runs.live, run, taken, name=name)

    async def _wait_for_slots(self, admission: lifecycle.Run, delivery: Delivery, slots: Slots) -> bool:
        self.waiting += 1
        try:
            with trio.move_on_after(SLOT_PATIENCE) as patience:
                await take_both(slots, self.worker_slots, alone=admission.is_suspect)
            has_slots = not patience.cancelled_caught
            if has_slots and admission.is_suspect:
                await self._wait_for_others(admission, slots)
        except BaseException:
            self._give_back(admission, delivery)
            raise
        finally:
            self.waiting -= 1
        if not has_slots:
            self._give_back(admission, delivery)
        return has_slots

    async def _wait_for_others(self, admission: lifecycle.Run, slots: Slots) -> None:
        """Wait until a suspect, which has its slots, is alone; not for ever, as jobs may run for days."""
        name, occurrence_id, deaths = admission.job.job_name_in_worker, admission.occurrence_id, admission.deaths
        _log.warning("job %s %s runs alone: %d worker processes died while it ran", name, occurrence_id, deaths)
        try:
            with trio.move_on_after(SLOT_PATIENCE):
                await self.worker_slots.until_alone()
        except BaseException:
            Taken(slots, self.worker_slots, alone=True).give()
            raise

    def _give_back(self, admission: lifecycle.Run, delivery: Delivery) -> None:
        self.runs.ledger.returned_unstarted(admission.attempt, redelivered=delivery.redelivered)
        delivery.requeue()

    def _admit(self, delivery: Delivery) -> lifecycle.Admission:
        try:
            return lifecycle.admit(
                delivery.message,
                redelivered=delivery.redelivered,
                ledger=self.runs.ledger,
                is_concluded=self.runs.outbox.is_concluded,
                deaths=self.runs.outbox.deaths,
                knows=self.registry.knows,
                known_names=self.registry.names,
            )
        except Exception as error:
            # A defect of ours, and one message must not stop the others.
            _log.exception("a message of queue %s could not be judged and is set aside", delivery.queue)
            return lifecycle.Quarantine(f"{type(error).__name__} while the message was judged: {error}")


def _part(registered: RegisteredJob) -> str:
    return f"queue {registered.queue}"
