"""`run_job`: one attempt of one job, run as a worker would, and how it ended. No worker, no broker.

The data goes through JSON and the job's own reader, so a job is tested with what it gets in production.
"""

import uuid
from collections.abc import Mapping
from functools import partial

import trio
from attrs import evolve, field, frozen

from milvaion_trio.composition import places_for
from milvaion_trio.model.envelope import Message
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import JobId, OccurrenceId
from milvaion_trio.model.json_text import write
from milvaion_trio.model.jsonable import jsonable
from milvaion_trio.model.messages import JobMessage, LogEntry, LogLevel
from milvaion_trio.model.outcome import Completed, Outcome, StopReason
from milvaion_trio.model.settings import JobSettings, ShutdownSettings, WorkerSettings
from milvaion_trio.policy.lifecycle import Conclusion, conclude
from milvaion_trio.runtime.context import JobContext
from milvaion_trio.runtime.definition import Job, JobDefinition, define_job
from milvaion_trio.runtime.executor import Executor
from milvaion_trio.runtime.log_buffer import as_logged, in_trios_thread
from milvaion_trio.runtime.providers import Providers
from milvaion_trio.runtime.registry import RegisteredJob, Registry
from milvaion_trio.runtime.run import Run
from milvaion_trio.testing.clock import instant_now

__all__ = ["JobRun", "run_job"]


@frozen(kw_only=True)
class JobRun:
    """How one attempt ended."""

    outcome: Outcome
    """A value of `milvaion_trio.model.outcome`: `Completed`, `Failed`, `TimedOut`, …"""
    conclusion: Conclusion
    """What a worker would publish for it."""
    logs: tuple[LogEntry, ...]
    """What the job logged, in order."""
    duration: float
    """Seconds."""

    @property
    def succeeded(self) -> bool:
        """Whether the job completed."""
        return isinstance(self.outcome, Completed)

    @property
    def result(self) -> str | None:
        """The text that a worker would report as the result; `None` when nothing was returned or it failed."""
        return self.outcome.result if isinstance(self.outcome, Completed) else None

    @property
    def error(self) -> str | None:
        """The error text, with type, message and stack; `None` when nothing was raised."""
        return getattr(self.outcome, "error", None)

    @property
    def retry_delay(self) -> float | None:
        """Seconds until the next attempt, without jitter; `None` when there is none."""
        return None if self.conclusion.retry is None else self.conclusion.retry.delay


async def run_job(
    job: JobDefinition[..., object] | type[Job],
    data: object = None,
    *,
    attempt: int = 1,
    max_retries: int | None = None,
    timeout: float | None = None,
    provided: Mapping[type, object] | None = None,
    cancel_after: float | None = None,
    cancel_reason: StopReason = StopReason.CANCELLED,
    cleanup_timeout: float | None = None,
) -> JobRun:
    """Run the job once with this data (anything JSON-able) and return how it ended; whatever it raises is in there.

    `attempt` is 1 for the first try. `max_retries` and `timeout` (seconds, 0 for none) replace the job's own.
    `provided` holds the values that the job asks for by type, constructor parameters included.
    After `cancel_after` seconds the job is told to stop, for `cancel_reason`.
    Raises `SettingsError` for a job that no worker would serve. If cancelled, the job is cancelled with it.
    """
    definition = define_job(job) if isinstance(job, type) else job
    budgets = ShutdownSettings() if cleanup_timeout is None else ShutdownSettings(cleanup_timeout=cleanup_timeout)
    settings = WorkerSettings(shutdown=budgets)
    registered, providers = _prepared(definition, settings, provided or {})
    registered = _with_policy(registered, max_retries, timeout)
    log = _Log()
    run = _run(registered, data, attempt)
    places = places_for(1, log, budgets.cleanup_timeout)
    executor = Executor(providers, log, places, budgets.cleanup_timeout)
    async with places.open(), providers.worker_scope():
        outcome = await _executed(executor, run, cancel_after, cancel_reason)
    duration = trio.current_time() - run.started_clock
    conclusion = conclude(
        outcome,
        job_name=registered.name,
        retry_count=run.attempt.retry_count,
        snoozes=0,
        policy=registered.effective.retry,
        now=instant_now(),
    )
    return JobRun(outcome=outcome, conclusion=conclusion, logs=tuple(log.entries), duration=duration)


def _prepared(
    definition: JobDefinition[..., object], settings: WorkerSettings, provided: Mapping[type, object]
) -> tuple[RegisteredJob, Providers]:
    providers = Providers().replaced(provided)
    providers.check(JobContext)
    registry = Registry()
    registry.add(definition)
    registry.prepare(settings, context_type=JobContext, provided=providers.types)
    return registry.jobs[0], providers


def _with_policy(registered: RegisteredJob, max_retries: int | None, timeout: float | None) -> RegisteredJob:
    effective = registered.effective
    if max_retries is not None:
        effective = evolve(effective, retry=evolve(effective.retry, max_retries=max_retries))
    if timeout is not None:
        JobSettings(timeout=timeout)  # refuses what a decorator would refuse
        effective = evolve(effective, timeout=timeout or None)
    return evolve(registered, effective=effective)


def _run(registered: RegisteredJob, data: object, attempt: int) -> Run:
    if attempt < 1:
        raise ValueError(f"attempt is {attempt!r}; it must be 1 or more, 1 being the first try.")
    now = instant_now()
    occurrence_id = OccurrenceId(str(uuid.uuid4()))
    started = trio.current_time()
    limit = registered.effective.timeout
    message = JobMessage(
        id=JobId(str(uuid.uuid4())),
        display_name=registered.name,
        job_name_in_worker=registered.name,
        job_data=None if data is None else write(jsonable(data)),
        execute_at=now,
        is_active=True,
    )
    return Run(
        occurrence_id=occurrence_id,
        attempt=AttemptKey(occurrence_id, None, attempt - 1, 0),
        job=message,
        registered=registered,
        delivery=_NoDelivery(),
        run_number=1,
        reported=True,
        started_at=now,
        started_clock=started,
        time_limit=limit,
        scope=trio.CancelScope() if limit is None else trio.CancelScope(deadline=started + limit),
    )


async def _executed(executor: Executor, run: Run, cancel_after: float | None, reason: StopReason) -> Outcome:
    outcome: Outcome | None = None

    async def execute() -> None:
        # In a task of its own, as in a worker, so that `current_job()` ends with it.
        nonlocal outcome
        outcome = await executor.execute(run)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(execute, name=f"job {run.registered.name}")
        if cancel_after is not None:
            await trio.sleep(cancel_after)
            run.stop(reason, "cancelled by the test")
    if outcome is None:
        raise AssertionError("the job's task ended without an outcome")
    return outcome


@frozen
class _Log:
    """Keeps what the job logs, in the form in which it would be sent."""

    entries: list[LogEntry] = field(factory=list)
    token: trio.lowlevel.TrioToken = field(factory=trio.lowlevel.current_trio_token)

    def log(
        self, run: Run, level: LogLevel, message: str, data: dict[str, object] | None, *, category: str = "UserCode"
    ) -> None:
        text, facts = as_logged(message, data)

        def add() -> None:
            entry = LogEntry(timestamp=instant_now(), level=level, message=text, data=facts, category=category)
            self.entries.append(entry)

        in_trios_thread(self.token, add)


@frozen
class _NoDelivery:
    """Stands where a worker has the delivery; nobody settles it."""

    message: Message = field(factory=partial(Message, body=b""))
    queue: str = ""
    redelivered: bool = False

    def ack(self) -> None: ...

    def requeue(self) -> None: ...

    def reject(self) -> None: ...
