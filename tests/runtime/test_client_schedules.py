"""Schedules through a client: written down, looked at, paused and resumed, run by hand, and taken out."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from milvaion_trio import Client, JobContext, SettingsError, Worker
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.coordination.sqlite import SqliteCoordination
from milvaion_trio.model import headers
from milvaion_trio.model.errors import NoSuchSchedule, NotPublished
from milvaion_trio.model.events import JobStarted
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.schedule import Cron, Every, Once, job_id_of
from milvaion_trio.model.wire import decode_job
from milvaion_trio.testing import WorkerUnderTest, under_test
from milvaion_trio.testing.clock import clock_ns


@pytest.fixture
async def kit(worker: Worker, autojump_clock: MockClock) -> AsyncIterator[WorkerUnderTest]:
    """A worker that declares no schedule."""

    @worker.job("Look", routing_patterns=["looks.*"])
    async def look(ctx: JobContext, data: dict[str, int] | None = None) -> None: ...

    async with under_test(worker) as kit:
        yield kit


def dispatches(kit: WorkerUnderTest) -> list[OccurrenceId]:
    """The occurrences that were dispatched, oldest first."""
    return [event.occurrence_id for event in kit.events if isinstance(event, JobStarted)]


async def test_a_job_runs_from_then_on_also_where_the_worker_declares_no_schedule(
    kit: WorkerUnderTest, autojump_clock: MockClock
) -> None:
    async with kit.worker.client() as client:
        schedule = await client.schedule("look", every=10, data={"shop": 7})
        await trio.sleep(35)

    assert (schedule.id, schedule.job, schedule.pattern, schedule.worker_id) == ("Look", "Look", "looks.*", "tests")
    assert (schedule.when, schedule.data, schedule.origin) == (Every(10), '{"shop":7}', "client")
    assert len(dispatches(kit)) == 3


async def test_a_worker_without_schedules_pays_for_none(kit: WorkerUnderTest, autojump_clock: MockClock) -> None:
    """Nobody leads, and so nobody beats, until there is one."""
    await trio.sleep(60)

    assert await kit.coordination.leases.acquire("scheduler", "somebody", 1) is not None


async def test_what_is_kept_is_shown_with_how_far_it_has_come(kit: WorkerUnderTest, autojump_clock: MockClock) -> None:
    async with kit.worker.client() as client:
        await client.schedule("Look", cron="0 9 * * MON", timezone="Europe/Istanbul", id="mondays")
        await client.schedule("Look", every=10)
        await trio.sleep(25)
        first, second = await client.schedules()

    assert (first.schedule.id, first.progress.runs) == ("Look", 2)
    assert (second.schedule.id, second.progress.runs) == ("mondays", 0)
    assert second.schedule.when == Cron(expression="0 9 * * MON", timezone="Europe/Istanbul")


async def test_a_paused_schedule_does_not_run_until_it_is_resumed(
    kit: WorkerUnderTest, autojump_clock: MockClock
) -> None:
    async with kit.worker.client() as client:
        await client.schedule("Look", every=10)
        await trio.sleep(15)
        await client.pause("Look")
        await trio.sleep(40)
        paused = len(dispatches(kit))
        await client.resume("Look")
        await trio.sleep(20)

    assert (paused, len(dispatches(kit))) == (1, 3)


async def test_what_is_taken_out_runs_no_more(kit: WorkerUnderTest, autojump_clock: MockClock) -> None:
    async with kit.worker.client() as client:
        await client.schedule("Look", every=10)
        await trio.sleep(15)
        await client.unschedule("Look")
        await trio.sleep(40)
        assert await client.schedules() == ()

    assert len(dispatches(kit)) == 1


async def test_a_run_by_hand_is_an_occurrence_of_its_own(kit: WorkerUnderTest, autojump_clock: MockClock) -> None:
    """Also of a paused schedule, with the schedule's job id and data; it is no tick, and counts for none."""
    async with kit.worker.client() as client:
        await client.schedule("Look", every=3600, data={"shop": 7}, id="hourly")
        await client.pause("hourly")
        first, second = await client.trigger("hourly"), await client.trigger("hourly")
        await kit.run_until_idle()
        (entry,) = await client.schedules()

    assert first != second
    assert dispatches(kit) == [first, second]
    assert (entry.progress.runs, entry.progress.open_runs) == (0, ())
    message = next(each.message for each in kit.published if headers.occurrence_id(each.message) == first)
    job = decode_job(message.body)
    assert (job.id, job.job_data, job.display_name) == (job_id_of("hourly"), '{"shop":7}', "hourly")
    assert message.headers[headers.SCHEDULE] == "hourly"
    assert headers.TICK not in message.headers
    assert message.headers[headers.ORIGIN] == "client"
    assert json.loads(message.body)["jobNameInWorker"] == "Look"


async def test_a_whole_schedule_is_taken_as_it_is(kit: WorkerUnderTest, autojump_clock: MockClock) -> None:
    async with kit.worker.client() as client:
        made = await client.schedule("Look", every=10)
        other = evolve(made, id="other", jitter=2)
        assert await client.schedule(other) is other
        with pytest.raises(SettingsError, match="leave the keywords out"):
            await client.schedule(other, jitter=3)
        assert [entry.schedule for entry in await client.schedules()] == [made, other]


# --- what goes wrong ------------------------------------------------------------------------------------------------

ACTS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "pause": lambda client: client.pause("Lok"),
    "resume": lambda client: client.resume("Lok"),
    "unschedule": lambda client: client.unschedule("Lok"),
    "trigger": lambda client: client.trigger("Lok"),
}


@pytest.mark.parametrize("act", ACTS)
async def test_a_schedule_that_is_not_there_is_told_with_the_one_that_was_meant(
    kit: WorkerUnderTest, autojump_clock: MockClock, act: str
) -> None:
    async with kit.worker.client() as client:
        with pytest.raises(NoSuchSchedule, match=r"no schedule called 'Lok'\. There are none\."):
            await ACTS[act](client)
        await client.schedule("Look", every=10)
        with pytest.raises(NoSuchSchedule, match="Did you mean 'Look'") as caught:
            await ACTS[act](client)

    assert (caught.value.schedule_id, caught.value.known) == ("Lok", ("Look",))


async def test_every_mistake_is_told_at_once(kit: WorkerUnderTest, autojump_clock: MockClock) -> None:
    async with kit.worker.client() as client:
        with pytest.raises(SettingsError) as caught:
            await client.schedule("Look", cron="0 25 * * *", timezone="Europe/Istambul", every=0.01, id="x")

    assert [problem.partition(";")[0] for problem in caught.value.problems] == [
        "Schedule 'x': every is 0.01",
        "Schedule 'x': cron expression '0 0 25 * * *': hour is '25'",
        "Schedule 'x': time zone 'Europe/Istambul' is not known",
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"when": Cron(expression="0 25 * * *")}, "cron expression '0 0 25 * * *': hour is '25'"),
        (
            {"when": Cron(expression="0 9 * * *", timezone="Europe/Istambul")},
            "time zone 'Europe/Istambul' is not known",
        ),
        ({"when": Cron(expression="0 9 30 2 *")}, "cron expression '0 9 30 2 *' never ticks"),
        ({"when": Once(10**18)}, "at is 1000000000000000000"),
        ({"end": 10**18}, "end is 1000000000000000000"),
        ({"data": "{'shop': 7}"}, "its data cannot be read"),
    ],
    ids=["expression", "timezone", "never", "at", "end", "data"],
)
async def test_a_whole_schedule_that_means_nothing_is_refused(
    kit: WorkerUnderTest, autojump_clock: MockClock, change: dict[str, Any], told: str
) -> None:
    """Else everybody who lists the schedules would stumble over it."""
    async with kit.worker.client() as client:
        made = await client.schedule("Look", every=10)
        with pytest.raises(SettingsError) as caught:
            await client.schedule(evolve(made, id="x", **change))

        assert caught.value.problems[0].startswith(f"Schedule 'x': {told}")
        assert [entry.schedule for entry in await client.schedules()] == [made]


async def test_a_name_that_other_workers_have_is_not_taken(autojump_clock: MockClock) -> None:
    """Both would write over each other, with every start."""
    coordination, broker = SqliteCoordination(), EmbeddedBroker()
    async with (
        Client(broker, worker_id="a", coordination=coordination, clock_ns=clock_ns) as first,
        Client(broker, worker_id="b", coordination=coordination, clock_ns=clock_ns) as second,
    ):
        await first.schedule("Look", every=10)
        with pytest.raises(SettingsError, match="There is a schedule 'Look' for the workers 'a' in the memory"):
            await second.schedule("Look", every=10)
        await second.schedule("Look", every=10, id="b-look")


async def test_without_a_place_to_keep_them_it_is_said_what_to_do(autojump_clock: MockClock) -> None:
    async with Client(EmbeddedBroker(), worker_id="tests") as client:
        with pytest.raises(SettingsError, match="name a Redis in the settings"):
            await client.schedules()


async def test_a_client_that_is_not_open_says_so() -> None:
    client = Client(EmbeddedBroker(), worker_id="tests", coordination=SqliteCoordination())

    with pytest.raises(NotPublished, match="is not open"):
        await client.schedules()
