"""What a type checker says about workers, clients and what a job sees. Checked as `typed_jobs.py` is, never run."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import assert_type

import trio
from attrs import frozen

from milvaion_trio import (
    BrokerUnreachable,
    Client,
    InvalidJobData,
    Job,
    JobCancelled,
    JobContext,
    JobDefinition,
    JobNotRegistered,
    JobResult,
    JobSettings,
    LinkLost,
    MilvaionError,
    NoCurrentJob,
    NotPublished,
    PermanentFailure,
    RetryLater,
    SettingsError,
    Snooze,
    StopReason,
    Worker,
    WorkerSettings,
    current_job,
    job,
)
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model.events import Event
from milvaion_trio.model.ids import InstanceId, OccurrenceId
from milvaion_trio.model.messages import JobMessage


@frozen
class Email:
    to: str


class Session: ...


class Mailer(Worker):
    """A worker of somebody's own keeps its type."""


worker = Worker("email-worker", settings=WorkerSettings(jobs={"SendEmailJob": JobSettings(max_retries=3)}))
assert_type(Worker.from_file("appsettings.json"), Worker)
assert_type(Mailer.from_file(Path("appsettings.json")), Mailer)
Worker(5)  # type: ignore[arg-type] # refused
Worker("a", brokr=EmbeddedBroker())  # type: ignore[call-arg] # refused
Worker("a", broker="amqp://localhost")  # type: ignore[arg-type] # refused
Worker.from_file()  # type: ignore[call-arg] # refused


# --- jobs -----------------------------------------------------------------------------------------------------------


@worker.job("SendEmailJob", max_retries=3, base_retry_delay=60, timeout=300, max_parallel=3)
async def send_email(ctx: JobContext, email: Email, *, session: Session) -> str:
    return email.to


@worker.job(run="thread")
def report(count: int) -> JobResult:
    return JobResult.success({"count": count}) if count else JobResult.failure("nothing to count")


@worker.job()
class CleanUp(Job):
    async def execute(self, ctx: JobContext, data: Email | None = None) -> None: ...


@worker.job("a", "b")  # type: ignore[call-arg, arg-type] # refused
async def two_names() -> None: ...


@worker.job(max_retries="3")  # type: ignore[arg-type] # refused
async def wrong_policy() -> None: ...


@worker.job(retries=3)  # type: ignore[call-arg] # refused
async def unknown_policy() -> None: ...


worker.job(5)  # type: ignore[arg-type] # refused


async def a_definition_is_what_it_decorates() -> None:
    assert_type(await send_email(current_job(), Email("a"), session=Session()), str)
    assert_type(report(3), JobResult)
    await CleanUp().execute(current_job(), Email("a"))
    assert_type(send_email.name, str)
    assert_type(send_email.policy, JobSettings)
    assert_type(await send_email.enqueue({"to": "a"}), OccurrenceId)
    assert_type(await report.enqueue(3, delay=0.5), OccurrenceId)
    await send_email(current_job(), Email("a"))  # type: ignore[call-arg] # refused
    await send_email(current_job(), Email(5), session=Session())  # type: ignore[arg-type] # refused
    report(count=3.5)  # type: ignore[arg-type] # refused
    await send_email.enqueue(Email("a"), 5)  # type: ignore[call-arg] # refused


# --- context --------------------------------------------------------------------------------------------------------


async def what_a_job_sees(ctx: JobContext) -> None:
    assert_type(ctx.occurrence_id, OccurrenceId)
    assert_type(ctx.job, JobMessage)
    assert_type(ctx.attempt, int)
    assert_type(ctx.max_retries, int)
    assert_type(ctx.run_number, int)
    assert_type(ctx.deadline, float | None)
    assert_type(ctx.cancel_scope, trio.CancelScope)
    assert_type(ctx.cancel_reason, StopReason | None)
    assert_type(ctx.idempotency_key, str)
    assert_type(ctx.data, object)
    assert_type(ctx.get_data(Email), Email)
    assert_type(ctx.get_data("to"), object)
    assert_type(ctx.get_data("to", "nobody"), object)
    ctx.log.info("sending", to="a", attempt=ctx.attempt)
    ctx.progress(0.5, "half")
    ctx.check_cancelled()
    async with ctx.cleanup(2.5) as nothing:
        assert_type(nothing, None)
    ctx.get_data(Email, Email("a"))  # type: ignore[call-overload] # refused
    ctx.log.info(5)  # type: ignore[arg-type] # refused
    ctx.log.fatal("sending")  # type: ignore[attr-defined] # refused
    ctx.progress("half")  # type: ignore[arg-type] # refused
    ctx.attempt = 2  # type: ignore[misc] # refused
    with ctx.cleanup():  # type: ignore[attr-defined] # refused
        pass


def what_a_job_says() -> None:
    assert_type(JobResult.success(), JobResult)
    assert_type(JobResult.success([1, 2]).value, object)
    assert_type(RetryLater(5, "busy").delay, float)
    assert_type(Snooze(0.5).delay, float)
    JobResult.failure()  # type: ignore[call-arg] # refused
    RetryLater()  # type: ignore[call-arg] # refused
    Snooze("5")  # type: ignore[arg-type] # refused


# --- building and serving -------------------------------------------------------------------------------------------


@worker.lifespan
@contextlib.asynccontextmanager
async def lifespan(serving: Worker) -> AsyncIterator[None]:
    yield


@worker.lifespan  # type: ignore[arg-type] # refused
async def no_context(serving: Worker) -> None: ...


def watches(event: Event) -> None: ...


@job("Free")
async def free(ctx: JobContext) -> int:
    return ctx.attempt


def builds() -> None:
    worker.provide(Session, Session)
    worker.provide(Session, lambda: Session(), scope="worker")
    worker.add(free)
    worker.discover("package.jobs")
    worker.observe(watches)
    worker.provide(Session, Email)  # type: ignore[arg-type] # refused
    worker.provide(Session, Session, scope="process")  # type: ignore[arg-type] # refused
    worker.add(watches)  # type: ignore[arg-type] # refused
    worker.observe(print, watches)  # type: ignore[call-arg] # refused


async def serves() -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.serve)
        nursery.start_soon(worker.serve)
    await worker.serve(handle_signals=False)
    assert_type(worker.drain(), None)
    assert_type(worker.readiness.is_ready, bool)
    assert_type(worker.readiness.problems, Mapping[str, str])
    assert_type(worker.settings, WorkerSettings)
    assert_type(worker.instance_id, InstanceId)
    assert_type(worker.client(), Client)
    await worker.serve(handle_signals="no")  # type: ignore[arg-type] # refused
    await worker.drain()  # type: ignore[misc, func-returns-value] # refused


# --- dispatch -------------------------------------------------------------------------------------------------------


async def dispatches() -> None:
    async with Client.from_file("appsettings.json") as client:
        assert_type(client, Client)
        occurrence_id = await client.enqueue("SendEmailJob", Email("a"), delay=5)
        assert_type(occurrence_id, OccurrenceId)
        assert_type(await client.enqueue(send_email, Email("a")), OccurrenceId)
        assert_type(await client.cancel(occurrence_id, "by mistake"), int)
        await client.enqueue(5)  # type: ignore[arg-type] # refused
        await client.enqueue("SendEmailJob", None, 5)  # type: ignore[call-arg] # refused
        await client.cancel("not an id of an occurrence")  # type: ignore[arg-type] # refused
    Client(EmbeddedBroker())  # type: ignore[call-arg] # refused
    with worker.client():  # type: ignore[attr-defined] # refused
        pass


# --- errors ---------------------------------------------------------------------------------------------------------


def errors_are_one_tree(definition: JobDefinition[[], None]) -> None:
    try:
        definition()
    except (InvalidJobData, SettingsError) as error:
        assert_type(error.problems, tuple[str, ...])
    except JobNotRegistered as error:
        assert_type(error.known, tuple[str, ...])
    except (BrokerUnreachable, JobCancelled, LinkLost, NoCurrentJob, NotPublished, PermanentFailure) as error:
        family: MilvaionError = error
        raise family from None


async def serving_reports_to_a_task_status(worker: Worker) -> None:
    await worker.serve(task_status=5)  # type: ignore[arg-type] # refused
