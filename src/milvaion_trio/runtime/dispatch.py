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

from milvaion_trio.model.errors import LinkLost
from milvaion_trio.policy import lifecycle
from milvaion_trio.ports import Consumer, Deliveries, Delivery
from milvaion_trio.runtime.consuming import consumed_again
from milvaion_trio.runtime.declaration import topology_of
from milvaion_trio.runtime.limits import Slots, giver, take_both
from milvaion_trio.runtime.registry import RegisteredJob, Registry
from milvaion_trio.runtime.runs import Runs
from milvaion_trio.runtime.supervisor import SupervisedLink

__all__ = ["SLOT_PATIENCE", "STARTS_PER_PASS", "Dispatcher"]

SLOT_PATIENCE = 30.0
"""Seconds a delivery may wait for a slot before it goes back for another worker to take (DESIGN.md 5, Limits)."""

STARTS_PER_PASS = 64
"""Jobs that one intake starts before others get their turn: about 2 ms of work, and 16 times fewer passes of Trio's
scheduler than one by one (benchmarks/embedded.py)."""

_log = logging.getLogger("milvaion_trio.runtime")


@define(eq=False, kw_only=True)
class Dispatcher:
    """The intakes of one worker."""

    registry: Registry
    runs: Runs
    worker_slots: Slots
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
        while True:
            consumer = await consuming.get(other_than=lost)
            try:
                # What is wrong with a queue stops the start; later it stops nothing but this intake.
                consume = consumer.consume if not has_started else partial(consumed_again, consumer, needed=needed)
                async with consume(registered.queue, prefetch=slots.total) as deliveries:
                    has_started = True
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    await self._take(deliveries, slots, jobs)
            except LinkLost:
                lost = consumer
                continue
            # A delivery waited in vain: consume nothing until there is room, so that other workers get the messages.
            await take_both(slots, self.worker_slots)
            giver(slots, self.worker_slots)()

    async def _take(self, deliveries: Deliveries, slots: Slots, jobs: trio.Nursery) -> None:
        """Dispatch deliveries; returns when one got no slot in time."""
        in_a_row = 0
        while True:
            delivery = deliveries.receive_nowait() if in_a_row < STARTS_PER_PASS else None
            in_a_row += 1
            if delivery is None:
                delivery = await deliveries.receive()
                in_a_row = 0
            self.received += 1
            admission = self._admit(delivery)
            if not isinstance(admission, lifecycle.Run):
                self.runs.answer(admission, delivery, jobs)
                continue
            if not (slots.total > slots.taken and self.worker_slots.total > self.worker_slots.taken):
                if not await self._wait_for_slots(admission, delivery, slots):
                    return
                # While it waited, a cancel may have come, or the same message again over a new connection.
                admission = self._admit(delivery)
                if not isinstance(admission, lifecycle.Run):
                    giver(slots, self.worker_slots)()
                    self.runs.answer(admission, delivery, jobs)
                    continue
            else:
                slots.try_take()
                self.worker_slots.try_take()
            run = self.runs.begin(admission, delivery, self.registry.resolve(admission.job.job_name_in_worker))
            jobs.start_soon(self.runs.live, run, giver(slots, self.worker_slots), name=f"job {run.registered.name}")

    async def _wait_for_slots(self, admission: lifecycle.Run, delivery: Delivery, slots: Slots) -> bool:
        self.waiting += 1
        try:
            with trio.move_on_after(SLOT_PATIENCE):
                await take_both(slots, self.worker_slots)
                return True
        except BaseException:
            self._give_back(admission, delivery)
            raise
        finally:
            self.waiting -= 1
        self._give_back(admission, delivery)
        return False

    def _give_back(self, admission: lifecycle.Run, delivery: Delivery) -> None:
        self.runs.ledger.returned_unstarted(admission.attempt)
        delivery.requeue()

    def _admit(self, delivery: Delivery) -> lifecycle.Admission:
        try:
            return lifecycle.admit(
                delivery.message,
                redelivered=delivery.redelivered,
                ledger=self.runs.ledger,
                is_concluded=self.runs.outbox.is_concluded,
                knows=self.registry.knows,
                known_names=self.registry.names,
            )
        except Exception as error:
            # A defect of ours, and one message must not stop the others.
            _log.exception("a message of queue %s could not be judged and is set aside", delivery.queue)
            return lifecycle.Quarantine(f"{type(error).__name__} while the message was judged: {error}")
