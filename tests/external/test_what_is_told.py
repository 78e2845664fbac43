"""What a Milvaion server knows of the runs of another scheduler: jobs, beginnings, logs, ends, and that they live."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from tests.support.api_model.database import OccurrenceStatus as S
from tests.support.external import played_api
from tests.support.workers import at
from trio.testing import MockClock

from milvaion_trio import ExternalScheduler, JobCancelled, WorkerSettings
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model import topology
from milvaion_trio.model.messages import ExternalEvent
from milvaion_trio.model.wire import decode_external_occurrence, decode_heartbeat, decode_registration
from milvaion_trio.testing.clock import clock_ns


async def test_the_first_run_of_a_new_job_is_kept_from_its_beginning(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    """Though the server stores late, and loses a job whose worker, and a run whose job it does not know yet."""
    due = datetime(2030, 1, 1, tzinfo=UTC)
    async with played_api(broker) as api, milvaion:
        about = {"name": "Nightly", "description": "All of it", "cron": "0 0 3 * * *", "tags": ["etl", "big"]}
        with milvaion.track("nightly-etl", scheduled_for=due, **about) as run:  # type: ignore[arg-type]
            run.log("info", "read", rows=7)
            run.log("warning", "slow")
            await trio.sleep(90)
            run.result({"rows": 7})
        await api.settled()

    job = api.job("nightly-etl")
    [kept] = api.runs("nightly-etl")
    assert (job.display_name, job.description, job.cron) == ("Nightly", "All of it", "0 0 3 * * *")
    assert (job.tags, job.worker_id, job.is_active) == ("source:cron,etl,big", "nightly", True)
    assert kept.id == run.occurrence_id
    assert (kept.history, kept.duration_ms, kept.result) == ([S.RUNNING, S.COMPLETED], 90_000, '{"rows":7}')
    assert [(line.level, line.message, line.data) for line in kept.logs] == [
        ("Information", "read", {"rows": 7}),
        ("Warning", "slow", None),
    ]


async def test_a_run_that_goes_on_is_not_taken_for_lost(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    """Its heartbeats come every job interval; the server looks for five minutes of silence."""
    async with played_api(broker) as api, milvaion:
        with milvaion.track("long"):
            await trio.sleep(900)
            [kept] = api.runs("long")
            alive = kept.last_heartbeat
        await api.settled()

    assert alive is not None
    assert kept.history == [S.RUNNING, S.COMPLETED]


async def test_the_scheduler_stays_registered_and_says_good_bye(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    """Also while nothing runs: the server forgets who is silent."""
    async with played_api(broker) as api:
        async with milvaion:
            milvaion.register("rare")
            await trio.sleep(900)
            worker = api.model.registry.read("nightly")
        await api.settled()
        left = api.model.registry.read("nightly")

    assert worker is not None
    assert worker.registration.job_types == ("rare",)
    assert left is None


async def test_a_new_job_is_registered_beside_the_old_ones(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    published: list[Any] = []
    broker.on_publish.append(published.append)
    async with played_api(broker) as api, milvaion:
        for name in ("first", "second"):
            with milvaion.track(name):
                await trio.sleep(10)
        await api.settled()

    registered = [p for p in published if p.routing_key == topology.REGISTRATION_QUEUE]
    listed = [decode_registration(p.message.body) for p in registered]
    assert [each.job_types for each in listed] == [("first",), ("first", "second")]
    assert all(each.metadata.is_external and each.metadata.external_scheduler == "cron" for each in listed)
    assert set(listed[-1].routing_patterns.values()) == {"external.job.*"}


async def test_an_error_ends_the_run_as_failed_and_goes_on(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    async with played_api(broker) as api, milvaion:
        with pytest.raises(ValueError, match="no rows"), milvaion.track("etl"):
            raise ValueError("no rows")
        await api.settled()

    [kept] = api.runs("etl")
    assert kept.history == [S.RUNNING, S.FAILED]
    assert kept.exception is not None
    assert kept.exception.startswith("Type: ValueError\nMessage: no rows\nStackTrace: ")
    assert "in test_an_error_ends_the_run_as_failed_and_goes_on" in kept.exception


@pytest.mark.parametrize(
    "stop",
    [KeyboardInterrupt(), JobCancelled("enough"), asyncio.CancelledError(), BaseExceptionGroup("", [GeneratorExit()])],
    ids=lambda stop: type(stop).__name__,
)
async def test_what_is_stopped_is_cancelled(
    stop: BaseException, milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    async with played_api(broker) as api, milvaion:
        with pytest.raises(type(stop)), milvaion.track("etl"):
            raise stop
        await api.settled()

    [kept] = api.runs("etl")
    assert kept.history == [S.RUNNING, S.CANCELLED]
    assert kept.result is not None
    assert kept.result.startswith("Stopped by ")


async def test_a_failure_among_cancellations_is_a_failure(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    """It is why the others were stopped."""
    async with played_api(broker) as api, milvaion:
        stops = [JobCancelled("enough"), ValueError("no rows"), JobCancelled("enough")]
        with pytest.raises(BaseExceptionGroup), milvaion.track("etl"):
            raise BaseExceptionGroup("", stops)
        await api.settled()

    [kept] = api.runs("etl")
    assert kept.history == [S.RUNNING, S.FAILED]
    assert "no rows" in (kept.exception or "")


async def test_a_clock_that_is_set_back_makes_no_negative_duration(
    broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    """A run that ends before it began took no time."""
    back = 0
    settings = WorkerSettings(worker_id="nightly")
    milvaion = ExternalScheduler(broker, settings=settings, clock_ns=lambda: clock_ns() - back * 1_000_000_000)
    async with played_api(broker) as api, milvaion:
        with milvaion.track("etl"):
            await trio.sleep(5)
            back = 60
        await api.settled()

    [kept] = api.runs("etl")
    assert (kept.status, kept.duration_ms) == (S.COMPLETED, 0)


async def test_a_cancelled_scope_of_trio_cancels_the_run(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    async with played_api(broker) as api, milvaion:
        with trio.move_on_after(5), milvaion.track("etl"):
            await trio.sleep_forever()
        await api.settled()

    [kept] = api.runs("etl")
    assert (kept.history, kept.duration_ms) == ([S.RUNNING, S.CANCELLED], 5000)


@pytest.mark.parametrize(("code", "status"), [(None, S.COMPLETED), (0, S.COMPLETED), (3, S.FAILED)])
async def test_leaving_by_sys_exit_counts_by_its_code(
    code: int | None, status: S, milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    async with played_api(broker) as api, milvaion:
        with pytest.raises(SystemExit), milvaion.track("etl"):
            raise SystemExit(code)
        await api.settled()

    assert [kept.status for kept in api.runs("etl")] == [status]


async def test_decorated_functions_report_each_call(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    """Plain and async ones; what they return is the result."""

    @milvaion.track("add")
    def add(a: int, b: int) -> int:
        return a + b

    @milvaion.track("wait")
    async def wait(seconds: float) -> str:
        await trio.sleep(seconds)
        return "waited"

    async with played_api(broker) as api, milvaion:
        assert add(1, b=2) == 3
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, 2)
            nursery.start_soon(wait, 3)
        await api.settled()

    assert [run.result for run in api.runs("add")] == ["3"]
    waits = sorted((run.duration_ms, run.result) for run in api.runs("wait"))
    assert waits == [(2000, "waited"), (3000, "waited")]


def test_a_generator_cannot_be_tracked(milvaion: ExternalScheduler) -> None:
    """Its call ends before its code begins."""
    with pytest.raises(TypeError, match="yield"):

        @milvaion.track("numbers")
        def numbers() -> object:
            yield 1


async def test_a_missed_time_is_shown_with_its_reason(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    published: list[Any] = []
    broker.on_publish.append(published.append)
    async with played_api(broker) as api, milvaion:
        milvaion.missed("etl", scheduled_for=datetime(2029, 12, 31, tzinfo=UTC), why="The machine slept")
        await api.settled()

    [kept] = api.runs("etl")
    told = [p for p in published if p.routing_key == topology.EXTERNAL_OCCURRENCE_QUEUE]
    events = [decode_external_occurrence(p.message.body) for p in told]
    assert (kept.history, kept.result) == ([S.RUNNING, S.CANCELLED], "The machine slept")
    assert [event.event_type for event in events] == [ExternalEvent.STARTING, ExternalEvent.VETOED]
    assert events[-1].scheduled_fire_time == at(-86_400)


async def test_a_job_that_is_gone_is_inactive_and_later_forgotten(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    async with played_api(broker) as api, milvaion:
        milvaion.register("once")
        milvaion.register("always")
        await trio.sleep(10)
        milvaion.unregister("once")
        await api.settled()
        was_active = api.job("once").is_active
        await trio.sleep(300)
        worker = api.model.registry.read("nightly")

    assert not was_active
    assert worker is not None
    assert worker.registration.job_types == ("always",)


async def test_worker_heartbeats_count_the_runs(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    beats: list[Any] = []
    broker.on_publish.append(lambda p: beats.append(p) if p.routing_key == topology.HEARTBEAT_QUEUE else None)
    async with played_api(broker), milvaion:
        with milvaion.track("a"), milvaion.track("b"):
            await trio.sleep(100)
        await trio.sleep(40)

    jobs = [decode_heartbeat(p.message.body).current_jobs for p in beats]
    assert jobs[:4] == [2, 2, 2, 2]
    assert jobs[-2:] == [0, 0]
    assert decode_heartbeat(beats[-1].message.body).is_stopping


async def test_jobs_are_told_again_once_an_hour_and_the_scheduler_every_two_minutes(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    """The server may have lost a job; but each registration of one is an entry in its log of activities."""
    told: list[str] = []
    broker.on_publish.append(lambda p: told.append(p.routing_key))
    async with milvaion:
        async with played_api(broker):
            milvaion.register("etl")
            await trio.sleep(30)
            milvaion.register("etl")
            await trio.sleep(7300)

    assert told.count(topology.EXTERNAL_REGISTRATION_QUEUE) == 1 + 3
    assert told.count(topology.REGISTRATION_QUEUE) == 1 + 61
