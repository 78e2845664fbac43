"""The runs of a worker, and every other delivery it has taken: from admission to the ack.

Each delivery has one task that owns it until it is settled; what cannot run is answered for here too.
The counts tell the shutdown what is still going on.
"""

import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial

import trio
from attrs import define, field

from milvaion_trio.model import events, headers
from milvaion_trio.model.error_text import error_text, error_type
from milvaion_trio.model.errors import ReportsLost
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.outcome import Failed, Outcome, StopReason
from milvaion_trio.model.settings import ReportingSettings
from milvaion_trio.policy import lifecycle
from milvaion_trio.policy.ledger import Ledger
from milvaion_trio.ports import Delivery, Outbox
from milvaion_trio.runtime.executor import Executor
from milvaion_trio.runtime.late_starts import LateStarts
from milvaion_trio.runtime.limits import Taken
from milvaion_trio.runtime.observers import Observers
from milvaion_trio.runtime.put_off import PutOff
from milvaion_trio.runtime.registrar import Registrar
from milvaion_trio.runtime.registry import RegisteredJob
from milvaion_trio.runtime.reporting import Reporter
from milvaion_trio.runtime.run import Phase, Run

__all__ = ["Runs"]

DEFECT_PAUSE = 1.0
"""Seconds before a message that met a defect of ours is given back: it will come again, and may meet it again."""

_log = logging.getLogger("milvaion_trio.runtime")


@define(eq=False, kw_only=True)
class Runs:
    """Job tasks, and the tasks that settle what needs no run."""

    ledger: Ledger[Run]
    outbox: Outbox
    reporter: Reporter
    executor: Executor
    observers: Observers
    now: Callable[[], Instant]
    reported: ReportingSettings
    late_starts: LateStarts
    registrar: Registrar
    put_off: PutOff
    on_start: Callable[[Run], None]
    """Called when a run's code is about to run."""
    on_end: Callable[[Run], None]
    """Called when a run's code has ended, however."""
    running: int = field(default=0, init=False)
    """How many jobs' code runs."""
    _unsettled: int = field(default=0, init=False)
    _fewer: trio.Event = field(factory=trio.Event, init=False)

    def is_reported(self, delivery: Delivery) -> bool:
        """Whether the API is told about the occurrence of this message: those of our own clients it does not know."""
        if self.reported.mode == "none":
            return False
        return self.reported.local_occurrences or not headers.has_local_origin(delivery.message.headers)

    # --- taking a delivery on ---------------------------------------------------------------------------------------

    def begin(self, admission: lifecycle.Run, delivery: Delivery, registered: RegisteredJob) -> Run:
        """Record that the attempt runs here; `live` must be started for it."""
        job, attempt = admission.job, admission.attempt
        limit = _time_limit(job.execution_timeout_seconds, registered)
        started = trio.current_time()
        runs = self.ledger.redelivered(attempt) if delivery.redelivered else 0
        if headers.EARLIER_RUNS in delivery.message.headers:  # before it was sent away, under another key
            runs += headers.count(delivery.message.headers, headers.EARLIER_RUNS)
        run = Run(
            occurrence_id=admission.occurrence_id,
            attempt=attempt,
            job=job,
            registered=registered,
            delivery=delivery,
            run_number=1 + max(runs, admission.deaths),
            reported=self.is_reported(delivery),
            started_at=self.now(),
            started_clock=started,
            time_limit=limit,
            scope=trio.CancelScope() if limit is None else trio.CancelScope(deadline=started + limit),
            deaths=admission.deaths,
            is_suspect=admission.is_suspect,
        )
        self.ledger.add(attempt, run)
        self.running += 1
        self._unsettled += 1
        return run

    def answer(self, admission: lifecycle.Admission, delivery: Delivery, jobs: trio.Nursery) -> None:
        """Take on a delivery that needs no run of its own; a task in `jobs` settles it."""
        match admission:
            case lifecycle.Adopt(running=running):
                run = self.ledger.find_attempt(running)
                if run is None:
                    raise AssertionError(f"the ledger names {running} as running and does not have it")
                run.adopt(delivery)
                return
            case lifecycle.AlreadyConcluded(attempt=attempt):
                task = partial(self._ack_when_settled, attempt, delivery)
            case lifecycle.CancelledBeforeStart() | lifecycle.Refuse():
                task = partial(self.conclude_unstarted, admission, delivery, delivery.ack)
            case lifecycle.Quarantine(problem=problem):
                task = partial(self._quarantine, problem, delivery)
            case lifecycle.Run():
                raise AssertionError("a delivery that may run is begun, not answered")
        self._unsettled += 1
        jobs.start_soon(self._settle, task, delivery)

    # --- the life of a job ------------------------------------------------------------------------------------------

    async def live(self, run: Run, taken: Taken) -> None:
        """From Running to the ack. The delivery is settled here, or void, when this returns.

        If cancelled, which only the end of the whole tree does, the message returns to its queue with the connection.
        """
        try:
            await self._live(run, taken)
        except ReportsLost as lost:
            self._return(run, str(lost))
        except Exception:
            self.outbox.returned(run.attempt)
            await self._after_defect(run.registered.name, run.requeue)
            self._settled(run)
        except BaseException:
            self.outbox.returned(run.attempt)
            raise

    async def _live(self, run: Run, taken: Taken) -> None:
        name = run.registered.name
        attempt_number = run.attempt.retry_count + 1
        try:
            if run.run_number > 1:
                self.reporter.redelivered(run)
            self.late_starts.begun(run)
            if self.observers:
                self.observers.tell(events.JobStarted(name, run.occurrence_id, attempt_number, run.run_number))
            self.on_start(run)
            outcome = await self.executor.execute(run, self._on_record(run))
            elapsed = trio.current_time() - run.started_clock
            ended_at = self.now()
        finally:
            self.on_end(run)
            self.late_starts.ended(run)
            if run.left_behind:
                taken.no_longer_alone()  # nobody knows for how long
                run.code_ended = taken.give
            else:
                taken.give()
            if run.phase is Phase.RUNNING:
                run.phase = Phase.CONCLUDING
                self._no_longer_running()
        if run.phase is Phase.DISOWNED:
            how = "was left behind" if run.left_behind else "ended"
            _log.error("job %s %s after its message was given back; its outcome is ignored", name, how)
            return
        try:
            conclusion = self._conclude(run, outcome, ended_at)
        except Exception as error:
            _log.exception("the outcome of job %s cannot be concluded, it is reported as failed instead", name)
            conclusion = self._conclude(run, _defect(error), ended_at)
        if conclusion.requeue:
            self._return(run, run.stop_text)
            return
        try:
            await self._report(run, conclusion, ended_at, elapsed)
        except ReportsLost:
            raise
        except Exception as error:
            # A defect of ours, and one job must not stop the others: it ends as a failure that says so.
            _log.exception("the outcome of job %s could not be reported, it is reported as failed instead", name)
            conclusion = self._conclude(run, _defect(error), ended_at)
            await self._report(run, conclusion, ended_at, elapsed)
        if conclusion.retry is not None:
            self.put_off.note(conclusion.retry.delay)
        if run.on_concluded is not None:
            await run.on_concluded(conclusion)
        run.ack()
        self._settled(run)
        if self.observers:
            self._tell_conclusion(run, conclusion, elapsed)

    def _on_record(self, run: Run) -> Callable[[headers.AttemptKey], Awaitable[None]] | None:
        """What the job's code waits for: that a death from now on would be counted.

        Not where nobody is told of the job, and this is its first run: its start costs a commit, and of a death in the
        next moment only one is not counted, as the message then comes again.
        """
        if run.reported or run.run_number > 1 or run.delivery.redelivered:
            return self.outbox.started
        self.outbox.begun(run.attempt)
        return None

    def _conclude(self, run: Run, outcome: Outcome, ended_at: Instant) -> lifecycle.Conclusion:
        return lifecycle.conclude(
            outcome,
            job_name=run.registered.name,
            retry_count=run.attempt.retry_count,
            snoozes=run.attempt.snoozes,
            policy=run.registered.effective.retry,
            now=ended_at,
            draw=random.random(),
        )

    def _report(self, run: Run, conclusion: lifecycle.Conclusion, ended_at: Instant, elapsed: float) -> Awaitable[None]:
        return self.reporter.conclude(
            run.delivery,
            run.attempt,
            run.job,
            conclusion,
            ended_at,
            reported=run.reported,
            max_retries=run.registered.effective.retry.max_retries,
            started_at=run.started_at,
            elapsed=elapsed,
        )

    def _return(self, run: Run, why: str) -> None:
        """The message goes back to its queue by intent, and the run is over."""
        self.outbox.returned(run.attempt)  # first: once it is in its queue, the message may come and start again
        run.requeue()
        self._settled(run)
        attempt_number = run.attempt.retry_count + 1
        self.observers.tell(events.JobReturned(run.registered.name, run.occurrence_id, attempt_number, why))

    def _tell_conclusion(self, run: Run, conclusion: lifecycle.Conclusion, elapsed: float) -> None:
        name, attempt_number = run.registered.name, run.attempt.retry_count + 1
        text = conclusion.exception or conclusion.result
        if conclusion.status is not None:
            event = events.JobConcluded(name, run.occurrence_id, attempt_number, conclusion.status, elapsed, text)
            self.observers.tell(event)
        elif conclusion.retry is not None:
            retry = conclusion.retry
            why = _what_went_wrong(conclusion.logs[0]) if conclusion.logs else None
            self.observers.tell(
                events.JobRetried(name, run.occurrence_id, attempt_number, retry.delay, conclusion.event.value, why)
            )

    async def _settle(self, answer: Callable[[], Awaitable[None]], delivery: Delivery) -> None:
        """Settle a delivery that needs no run."""
        try:
            await answer()
        except ReportsLost as lost:
            _log.error("a message of %s goes back to its queue: %s", delivery.queue, lost)
            await trio.sleep(DEFECT_PAUSE)
            delivery.requeue()
        except Exception:
            await self._after_defect(f"a message of {delivery.queue}", delivery.requeue)
        self._settled(None)

    async def _after_defect(self, what: str, give_back: Callable[[], None]) -> None:
        """A defect of ours, and one message must not stop the others: it goes back, not faster than once a second."""
        _log.exception("%s could not be dealt with and goes back to its queue", what)
        await trio.sleep(DEFECT_PAUSE)
        give_back()

    async def _ack_when_settled(self, attempt: headers.AttemptKey, delivery: Delivery) -> None:
        await self.outbox.settled(attempt)
        if headers.TICK in delivery.message.headers:
            await self.registrar.found_concluded(delivery.message, attempt)
        delivery.ack()

    async def conclude_unstarted(
        self,
        admission: lifecycle.CancelledBeforeStart | lifecycle.Refuse,
        delivery: Delivery,
        ack: Callable[[], None],
    ) -> None:
        """Report what cannot run and ack it. Raises `ReportsLost`; if cancelled, it is not acked."""
        if isinstance(admission, lifecycle.Refuse):
            conclusion = lifecycle.conclude_refusal(admission)
        else:
            conclusion = lifecycle.conclude_cancelled_before_start(admission)
        await self.reporter.conclude(
            delivery, admission.attempt, admission.job, conclusion, self.now(), reported=self.is_reported(delivery)
        )
        if not headers.GUARDED.isdisjoint(delivery.message.headers):
            await self.registrar.concluded(delivery.message, admission.attempt, conclusion)
        ack()
        if isinstance(admission, lifecycle.Refuse):
            self.observers.tell(events.DeliveryRefused(delivery.queue, admission.occurrence_id, admission.error))
        elif conclusion.status is not None:
            name, attempt_number = admission.job.job_name_in_worker, admission.attempt.retry_count + 1
            occurrence_id, text = admission.occurrence_id, conclusion.result
            self.observers.tell(events.JobConcluded(name, occurrence_id, attempt_number, conclusion.status, 0.0, text))

    async def _quarantine(self, problem: str, delivery: Delivery) -> None:
        await self.reporter.quarantine(delivery, problem)
        delivery.ack()
        self.observers.tell(events.DeliveryRefused(delivery.queue, None, problem))

    # --- for runs whose code does not begin, see `guarded_runs` -------------------------------------------------------

    def withdraw(self, run: Run) -> bool:
        """Its code will not run; `False` when its message went back already, as the worker leaves."""
        if run.phase is not Phase.RUNNING:
            return False
        run.phase = Phase.CONCLUDING
        self._no_longer_running()
        return True

    def hand_back(self, run: Run, why: str) -> None:
        """Its message goes back to its queue; whoever gets it cannot tell that its code did not begin."""
        self._return(run, why)

    async def settle_unbegun(self, run: Run, settle: Callable[[], Awaitable[None]]) -> None:
        """Settle it in this way; its message goes back if that fails. If cancelled, it is not settled."""
        try:
            await settle()
        except ReportsLost as lost:
            self._return(run, str(lost))
        except Exception:
            await self.give_back_after_defect(run)
        else:
            self._settled(run)

    async def give_back_after_defect(self, run: Run) -> None:
        """Give its message back after an error of ours, and not at once. If cancelled, it is not settled."""
        await self._after_defect(run.registered.name, run.requeue)
        self._settled(run)

    async def report(self, run: Run, conclusion: lifecycle.Conclusion) -> None:
        """Publish this conclusion; returns when that is confirmed. Raises `ReportsLost`; if cancelled, ack nothing."""
        await self._report(run, conclusion, self.now(), 0.0)
        self.put_off.note(0.0 if conclusion.retry is None else conclusion.retry.delay)

    # --- for the shutdown -------------------------------------------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """Whether every delivery that was admitted is settled."""
        return not self._unsettled

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
            run.phase = Phase.DISOWNED
            self._no_longer_running()
            self._return(run, "it ignored its cancellation and the worker shuts down")
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


def _defect(error: Exception) -> Failed:
    return Failed(error_text(error), error_type(error), permanent=True)


def _what_went_wrong(line: lifecycle.SystemLog) -> str:
    kind = (line.exception_type or "").rpartition(".")[2]  # of a KeyError the message alone is no more than a key
    return line.message if kind in ("", line.message) else f"{kind}: {line.message}"


def _time_limit(from_message: int | None, registered: RegisteredJob) -> float | None:
    """Message, else job, else worker (WIRE.md 6); 0 or below means no limit."""
    if from_message is not None:
        return float(from_message) if from_message > 0 else None
    return registered.effective.timeout
