"""What a type checker says about jobs. `test_typing.py` runs mypy on it; it is never run itself.

A line marked as refused must be an error: strict mypy reports an ignore that nothing needs.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, assert_type

from attrs import frozen

from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.settings import JobSettings, WorkerSettings
from milvaion_trio.runtime.context import JobContext
from milvaion_trio.runtime.definition import Job, JobDefinition, job
from milvaion_trio.runtime.providers import Providers
from milvaion_trio.runtime.registry import Registry


@frozen
class Email:
    to: str


@job("SendEmailJob", max_retries=3, base_retry_delay=60, timeout=300, max_parallel=3)
async def send_email(ctx: JobContext, email: Email) -> str:
    return email.to


@job(run="thread", never_retry=[ValueError], routing_patterns=["reports.*"])
def report(ctx: JobContext, count: int = 1) -> int:
    return count


@job()
class CleanUp(Job):
    def __init__(self, days: int) -> None:
        self.days = days

    async def execute(self, ctx: JobContext, data: Email | None = None) -> None: ...


class Narrow(Job):
    """`execute` may take what it wants: its parameters follow the rules of functions."""

    def execute(self, email: Email) -> str:
        return email.to


async def calls(ctx: JobContext) -> None:
    assert_type(await send_email(ctx, Email("a")), str)
    await assert_type(send_email(ctx, email=Email("a")), Coroutine[Any, Any, str])
    assert_type(report(ctx), int)
    assert_type(report, JobDefinition[[JobContext, int], int])  # type: ignore[assert-type] # refused
    assert_type(CleanUp(days=3).days, int)
    assert_type(await send_email.enqueue(Email("a"), delay=5), OccurrenceId)
    await send_email(ctx, "a")  # type: ignore[arg-type] # refused
    await send_email(ctx)  # type: ignore[call-arg] # refused
    report(ctx, count="7")  # type: ignore[arg-type] # refused
    CleanUp()  # type: ignore[call-arg] # refused
    await send_email.enqueue(Email("a"), delay="5")  # type: ignore[arg-type] # refused


@job(timeot=5)  # type: ignore[call-arg] # refused
async def misspelled(ctx: JobContext) -> None: ...


@job(timeout="5")  # type: ignore[arg-type] # refused
async def wrong_type(ctx: JobContext) -> None: ...


@job(run="threads")  # type: ignore[arg-type] # refused
async def unknown_mode(ctx: JobContext) -> None: ...


def collects() -> None:
    registry = Registry()
    registry.add(send_email)
    registry.add(report)
    registry.add(job("Narrow")(Narrow))
    definitions: list[JobDefinition[..., object]] = [send_email, report]
    function: Callable[[JobContext, Email], object] = send_email
    assert_type(definitions[0].name, str)
    assert_type(function(JobContext.__new__(JobContext), Email("a")), object)


class Session: ...


@contextlib.asynccontextmanager
async def session() -> AsyncIterator[Session]:
    yield Session()


async def later() -> Session:
    return Session()


def provides() -> None:
    providers = Providers()
    providers.provide(Session, Session)
    providers.provide(Session, later, scope="worker")
    providers.provide(Session, session, "job")
    providers.provide(Session, lambda: Session())
    providers.provide(Session, session, "process")  # type: ignore[arg-type] # refused
    providers.provide(int, later)  # type: ignore[arg-type] # refused


def settings() -> None:
    assert_type(JobSettings(timeout=5).timeout, float | None)
    assert_type(JobSettings(routing_patterns=["a"]).routing_patterns, tuple[str, ...] | None)
    assert_type(WorkerSettings(jobs={"A": JobSettings()}).max_parallel_jobs, int)
    JobSettings(timeout="5")  # type: ignore[arg-type] # refused
    WorkerSettings(worker=1)  # type: ignore[call-arg] # refused
    WorkerSettings().worker_id = "a"  # type: ignore[misc] # refused
