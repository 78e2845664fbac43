"""Dispatch: from a delivery to a running job, and from its outcome to the ack.

One intake per job queue takes deliveries in order, lets `policy.lifecycle.admit` decide, waits for a slot and starts
the job's task. That task owns the delivery until it is settled. Deciding is synchronous; only waiting is not.
"""

import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable

import trio
from attrs import define, field

from milvaion_trio.model import events, headers
from milvaion_trio.model.error_text import error_text, error_type
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.outcome import Failed, Outcome, StopReason
from milvaion_trio.policy import lifecycle
from milvaion_trio.policy.ledger import Ledger
from milvaion_trio.ports import Consumer, Deliveries, Delivery, Outbox
from milvaion_trio.runtime.executor import Executor
from milvaion_trio.runtime.limits import Slots, giver, take_both
from milvaion_trio.runtime.observers import Observers
from milvaion_trio.runtime.registry import RegisteredJob, Registry
from milvaion_trio.runtime.reporting import Reporter
from milvaion_trio.runtime.run import Phase, Run
from milvaion_trio.runtime.supervisor import SupervisedLink

__all__ = ["SLOT_PATIENCE", "STARTS_PER_PASS", "Dispatcher"]

STARTS_PER_PASS = 64
"""Jobs that one intake starts before others get their turn: about 2 ms of work, and 16 times fewer passes of Trio's
scheduler than one by one (benchmarks/embedded.py)."""

_log = logging.getLogger("milvaion_trio.runtime")

SLOT_PATIENCE = 30.0
"""Seconds a delivery may wait for a slot before it goes back for another worker to take (DESIGN.md 5, Limits)."""


@define(eq=False, kw_only=True)
class Dispatcher:
    """Intakes, admissions and job tasks of one worker."""

    registry: Registry
    ledger: Ledger[Run]
    outbox: Outbox
    reporter: Reporter
    executor: Executor
    observers: Observers
    now: Callable[[], Instant]
    wall_clock: Callable[[], float]
    worker_slots: Slots
    report_local: bool
    """Whether occurrences that our own client made are reported like Milvaion's."""
    on_start: Callable[[Run], None]
    """Called when a run's code is about to run."""
    on_end: Callable[[Run], None]
    """Called when a run's code has ended, however."""
    received: int = field(default=0, init=False)
    """How many deliveries were taken so far."""
    running: int = field(default=0, init=False)
    """How many jobs' code runs."""
    _unsettled: int = field(default=0, init=False)
    _fewer: trio.Event = field(factory=trio.Event, init=False)

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
        lost: Consumer | None = None
        while True:
            consumer = await consuming.get(other_than=lost)
            try:
                async with consumer.consume(registered.queue, prefetch=slots.total) as deliveries:
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
                self._settle_without_running(admission, delivery, jobs)
                continue
            if not (slots.total > slots.taken and self.worker_slots.total > self.worker_slots.taken):
                if not await self._wait_for_slots(delivery, slots):
                    return
                # While it waited, a cancel may have come, or the same message again over a new connection.
                admission = self._admit(delivery)
                if not isinstance(admission, lifecycle.Run):
                    giver(slots, self.worker_slots)()
                    self._settle_without_running(admission, delivery, jobs)
                    continue
            else:
                slots.try_take()
                self.worker_slots.try_take()
            run = self._begin(admission, delivery)
            jobs.start_soon(self._live, run, giver(slots, self.worker_slots), name=f"job {run.registered.name}")

    async def _wait_for_slots(self, delivery: Delivery, slots: Slots) -> bool:
        try:
            with trio.move_on_after(SLOT_PATIENCE):
                await take_both(slots, self.worker_slots)
                return True
        except BaseException:
            delivery.requeue()
            raise
        delivery.requeue()
        return False

    # --- decisions --------------------------------------------------------------------------------------------------

    def _admit(self, delivery: Delivery) -> lifecycle.Admission:
        try:
            return lifecycle.admit(
                delivery.message,
                redelivered=delivery.redelivered,
                ledger=self.ledger,
                is_concluded=self.outbox.is_concluded,
                knows=self.registry.knows,
                known_names=self.registry.names,
            )
        except Exception as error:
            # A defect of ours, and one message must not stop the others.
            _log.exception("a message of queue %s could not be judged and is set aside", delivery.queue)
            return lifecycle.Quarantine(f"{type(error).__name__} while the message was judged: {error}")

    def _begin(self, admission: lifecycle.Run, delivery: Delivery) -> Run:
        registered = self.registry.resolve(admission.job.job_name_in_worker)
        job, attempt = admission.job, admission.attempt
        limit = _time_limit(job.execution_timeout_seconds, registered)
        started = trio.current_time()
        run_number = self.ledger.started(attempt)
        run = Run(
            occurrence_id=admission.occurrence_id,
            attempt=attempt,
            job=job,
            registered=registered,
            delivery=delivery,
            run_number=max(run_number, 2) if delivery.redelivered else run_number,
            reported=self.report_local or not headers.has_local_origin(delivery.message.headers),
            started_at=self.now(),
            started_clock=started,
            time_limit=limit,
            scope=trio.CancelScope() if limit is None else trio.CancelScope(deadline=started + limit),
        )
        self.ledger.add(attempt, run)
        self.running += 1
        self._unsettled += 1
        return run

    def _settle_without_running(self, admission: lifecycle.Admission, delivery: Delivery, jobs: trio.Nursery) -> None:
        match admission:
            case lifecycle.Adopt(running=running):
                run = self.ledger.find_attempt(running)
                if run is None:
                    raise AssertionError(f"the ledger names {running} as running and does not have it")
                run.adopt(delivery)
                return
            case lifecycle.AlreadyConcluded(attempt=attempt):
                jobs.start_soon(self._ack_when_settled, attempt, delivery)
            case lifecycle.CancelledBeforeStart() | lifecycle.Refuse():
                jobs.start_soon(self._conclude_unstarted, admission, delivery)
            case lifecycle.Quarantine(problem=problem):
                jobs.start_soon(self._quarantine, problem, delivery)
        self._unsettled += 1

    # --- the life of a job ------------------------------------------------------------------------------------------

    async def _live(self, run: Run, give_slots: Callable[[], None]) -> None:
        """From Running to the ack. The delivery is settled here, or void, when this returns."""
        name = run.registered.name
        attempt_number = run.attempt.retry_count + 1
        try:
            if run.run_number > 1:
                self.reporter.redelivered(run)
            self.reporter.started(run)
            if self.observers:
                self.observers.tell(events.JobStarted(name, run.occurrence_id, attempt_number, run.run_number))
            self.on_start(run)
            outcome = await self.executor.execute(run)
            elapsed = trio.current_time() - run.started_clock
        finally:
            self.on_end(run)
            if run.abandoned_thread:
                run.thread_ended = give_slots
            else:
                give_slots()
            if run.phase is Phase.RUNNING:
                run.phase = Phase.CONCLUDING
                self._no_longer_running()
        if run.phase is Phase.DISOWNED:
            _log.error("job %s ended after its message was given back; its outcome is ignored", name)
            return
        conclusion = self._conclude(run, outcome)
        if conclusion.requeue:
            run.requeue()
            self._settled(run)
            self.observers.tell(events.JobReturned(name, run.occurrence_id, attempt_number, "the worker shuts down"))
            return
        try:
            await self._report(run, conclusion, elapsed)
        except Exception as error:
            # A defect of ours, and one job must not stop the others: it ends as a failure that says so.
            _log.exception("the outcome of job %s could not be reported, it is reported as failed instead", name)
            conclusion = self._conclude(run, Failed(error_text(error), error_type(error), permanent=True))
            await self._report(run, conclusion, elapsed)
        run.ack()
        self._settled(run)
        if self.observers:
            self._tell_conclusion(run, conclusion, elapsed)

    def _conclude(self, run: Run, outcome: Outcome) -> lifecycle.Conclusion:
        return lifecycle.conclude(
            outcome,
            job_name=run.registered.name,
            retry_count=run.attempt.retry_count,
            snoozes=run.attempt.snoozes,
            policy=run.registered.effective.retry,
            now=self.now(),
            draw=random.random(),
        )

    async def _report(self, run: Run, conclusion: lifecycle.Conclusion, elapsed: float) -> None:
        await self.reporter.conclude(
            run.delivery,
            run.attempt,
            run.job,
            conclusion,
            reported=run.reported,
            max_retries=run.registered.effective.retry.max_retries,
            started_at=run.started_at,
            elapsed=elapsed,
        )

    def _tell_conclusion(self, run: Run, conclusion: lifecycle.Conclusion, elapsed: float) -> None:
        name, attempt_number = run.registered.name, run.attempt.retry_count + 1
        text = conclusion.exception or conclusion.result
        if conclusion.status is not None:
            event = events.JobConcluded(name, run.occurrence_id, attempt_number, conclusion.status, elapsed, text)
            self.observers.tell(event)
        elif conclusion.retry is not None:
            retry = conclusion.retry
            self.observers.tell(
                events.JobRetried(name, run.occurrence_id, attempt_number, retry.delay, conclusion.event.value)
            )

    async def _ack_when_settled(self, attempt: headers.AttemptKey, delivery: Delivery) -> None:
        await self.outbox.settled(attempt)
        delivery.ack()
        self._settled(None)

    async def _conclude_unstarted(
        self, admission: lifecycle.CancelledBeforeStart | lifecycle.Refuse, delivery: Delivery
    ) -> None:
        if isinstance(admission, lifecycle.Refuse):
            conclusion = lifecycle.conclude_refusal(admission)
        else:
            conclusion = lifecycle.conclude_cancelled_before_start(admission)
        reported = self.report_local or not headers.has_local_origin(delivery.message.headers)
        await self.reporter.conclude(delivery, admission.attempt, admission.job, conclusion, reported=reported)
        delivery.ack()
        self._settled(None)
        if isinstance(admission, lifecycle.Refuse):
            self.observers.tell(events.DeliveryRefused(delivery.queue, admission.occurrence_id, admission.error))
        elif conclusion.status is not None:
            name, attempt_number = admission.job.job_name_in_worker, admission.attempt.retry_count + 1
            occurrence_id, text = admission.occurrence_id, conclusion.result
            self.observers.tell(events.JobConcluded(name, occurrence_id, attempt_number, conclusion.status, 0.0, text))

    async def _quarantine(self, problem: str, delivery: Delivery) -> None:
        await self.reporter.quarantine(delivery, problem)
        delivery.ack()
        self._settled(None)
        self.observers.tell(events.DeliveryRefused(delivery.queue, None, problem))

    @property
    def is_settled(self) -> bool:
        """Whether every delivery that was admitted is settled."""
        return not self._unsettled

    # --- for the shutdown -------------------------------------------------------------------------------------------

    async def until_none_runs(self) -> None:
        """Return when no job's code runs. If cancelled, nothing changes."""
        while self.running:
            await self._fewer.wait()

    async def until_all_settled(self) -> None:
        """Return when every delivery that was admitted is settled. If cancelled, nothing changes."""
        while self._unsettled:
            await self._fewer.wait()

    def stop_running(self, reason: StopReason, text: str) -> None:
        """Cancel every running job for this reason."""
        for run in self.ledger:
            run.stop(reason, text)

    def give_back_unstoppable(self) -> tuple[Run, ...]:
        """Return the messages of jobs that still run to their queues; returns those runs."""
        runs = tuple(run for run in self.ledger if run.phase is Phase.RUNNING)
        for run in runs:
            run.disown()
            self._no_longer_running()
            self._settled(run)
        return runs

    def _no_longer_running(self) -> None:
        self.running -= 1
        if not self.running:
            self._wake()

    def _settled(self, run: Run | None) -> None:
        if run is not None:
            self.ledger.remove(run.attempt, run)
        self._unsettled -= 1
        if not self._unsettled:
            self._wake()

    def _wake(self) -> None:
        self._fewer.set()
        self._fewer = trio.Event()


def _time_limit(from_message: int | None, registered: RegisteredJob) -> float | None:
    """Message, else job, else worker (WIRE.md 6); 0 or below means no limit."""
    if from_message is not None:
        return float(from_message) if from_message > 0 else None
    return registered.effective.timeout
