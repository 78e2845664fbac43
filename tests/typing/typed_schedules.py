"""What a type checker says about schedules. Checked as `typed_jobs.py` is, never run."""

from datetime import UTC, datetime
from typing import assert_type

from milvaion_trio import AsyncioClient, Client, JobContext, JobDefinition, NoSuchSchedule, Worker
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.schedule import Entry, Misfire, Overlap, Schedule

worker = Worker("reports")


@worker.cron("0 9 * * MON", timezone="Europe/Istanbul", overlap="queue", misfire=Misfire.ALL, misfire_limit=3)
@worker.every(60, id="often", data={"pages": 3}, jitter=1, max_runs=5)
@worker.job("Report", max_retries=3)
async def report(ctx: JobContext, pages: int = 1) -> str:
    return ctx.occurrence_id


@worker.at(datetime(2027, 5, 4, tzinfo=UTC), start="2027-05-04T09:00:00+03:00", overlap=Overlap.ALLOW)
def once() -> int:
    return 5


@worker.every(5)
class Poll:
    async def execute(self, ctx: JobContext) -> None: ...


def what_is_decorated_stays_a_job() -> None:
    assert_type(once, JobDefinition[[], int])
    assert_type(once(), int)
    assert_type(report.name, str)
    assert_type(worker.schedules, tuple[Schedule, ...])
    report(5)  # type: ignore[arg-type, unused-coroutine] # refused


def mistakes() -> None:
    worker.cron(5)  # type: ignore[arg-type] # refused
    worker.cron("* * * * *", overlap="sometimes")  # type: ignore[arg-type] # refused
    worker.every("5")  # type: ignore[arg-type] # refused
    worker.every(5, timezone="UTC")  # type: ignore[call-arg] # refused
    worker.at(5)  # type: ignore[arg-type] # refused
    worker.every(5, graze=1)  # type: ignore[call-arg] # refused
    worker.every(5)(5)  # type: ignore[arg-type] # refused


async def clients(client: Client, other: AsyncioClient) -> None:
    for each in (client, other):
        assert_type(await each.schedule("Report", cron="@daily", timezone="UTC", id="daily"), Schedule)
        assert_type(await each.schedule(report, every=5, data={"pages": 3}), Schedule)
        assert_type(await each.schedules(), tuple[Entry, ...])
        assert_type(await each.trigger("daily"), OccurrenceId)
        await each.pause("daily")
        await each.resume("daily")
        try:
            await each.unschedule("daily")
        except NoSuchSchedule as missing:
            assert_type(missing.known, tuple[str, ...])
    await client.schedule("Report", evry=5)  # type: ignore[call-arg] # refused
    await client.schedule(5, every=5)  # type: ignore[arg-type] # refused
    await client.pause(5)  # type: ignore[arg-type] # refused
