"""Our own schedules beside a Milvaion server, in virtual time: who leads tells, each run once, whoever it is."""

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from tests.support.api_model.database import Occurrence
from tests.support.api_model.database import OccurrenceStatus as S
from tests.support.external import PlayedApi, played_api
from tests.support.scheduling import LEASE, START, Ground, Reach
from trio.testing import MockClock

from milvaion_trio.external import schedule_words, schedules
from milvaion_trio.external.job import ExternalJob
from milvaion_trio.external.schedules import ScheduleReports
from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.messages import ExternalEvent, ExternalOccurrence
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.schedule import Cron, Entry, Every, Once, Overlap, Progress, RunEnd, occurrence_id_of
from milvaion_trio.model.settings import HeartbeatSettings, ShutdownSettings, WorkerSettings
from milvaion_trio.model.wire import decode_external_occurrence
from milvaion_trio.ports.coordination import Token
from milvaion_trio.scheduler.scheduler import Scheduler

BEATS = 5.0


@pytest.fixture
def ground() -> Ground:
    return Ground()


@pytest.fixture
def told(ground: Ground) -> list[Publication]:
    """All that was published to Milvaion's queues."""
    told: list[Publication] = []
    ours = (topology.EXTERNAL_OCCURRENCE_QUEUE, topology.EXTERNAL_REGISTRATION_QUEUE, topology.REGISTRATION_QUEUE)
    ground.broker.on_publish.append(lambda each: told.append(each) if each.routing_key in ours else None)
    return told


def events(told: list[Publication]) -> Iterator[ExternalOccurrence]:
    for each in told:
        if each.routing_key == topology.EXTERNAL_OCCURRENCE_QUEUE:
            yield decode_external_occurrence(each.message.body)


def starts(told: list[Publication]) -> Counter[str]:
    """How often each run was told to begin."""
    return Counter(str(each.correlation_id) for each in events(told) if each.event_type is ExternalEvent.STARTING)


def run_of(api: PlayedApi, name: str, tick: float) -> Occurrence:
    return api.model.occurrence(occurrence_id_of(name, START + round(tick * 1000)))


@asynccontextmanager
async def reporting(
    ground: Ground, holder: str = "a", *, reach: Reach | None = None, flush: float = 3.0
) -> AsyncIterator[Scheduler]:
    """A scheduler that reports, as a process has it."""
    settings = WorkerSettings(
        worker_id="tests",
        heartbeat=HeartbeatSettings(job_interval=BEATS),
        shutdown=ShutdownSettings(flush_timeout=flush),
    )
    reports = ScheduleReports(ground.broker, settings, ground.clock_ns)
    async with reports.open(), ground.scheduling(holder, reach=reach, telling=reports) as scheduler:
        yield scheduler


async def test_a_schedule_is_shown_with_its_runs(
    ground: Ground, told: list[Publication], autojump_clock: MockClock
) -> None:
    """One ends well, one fails, one is stopped, one takes too long; with their times, and the ids of their ticks."""
    await trio.sleep(1)
    await ground.put("nightly", Cron(expression="* * * * *"), job="Report", disable_after=0)
    async with played_api(ground.broker) as api, reporting(ground):
        await trio.sleep(64)
        await ground.ended("nightly", 60, OccurrenceStatus.COMPLETED)
        await trio.sleep(60)
        await ground.ended("nightly", 120, OccurrenceStatus.FAILED, "no such table")
        await trio.sleep(60)
        await ground.ended("nightly", 180, OccurrenceStatus.CANCELLED, "by Ada")
        await trio.sleep(60)
        await ground.ended("nightly", 240, OccurrenceStatus.TIMED_OUT, "limit of 60 s")
        await api.settled()

    job = api.job("nightly")
    assert (job.display_name, job.cron, job.tags, job.is_active) == (
        "nightly",
        "0 * * * * *",
        "source:milvaion-trio,tests",
        True,
    )
    assert job.description == "Report of the workers tests, cron * * * * * in UTC."
    assert job.worker_id == "tests-schedules"
    runs = [run_of(api, "nightly", tick) for tick in (60, 120, 180, 240)]
    assert [(run.history[0], run.status, run.result, run.exception) for run in runs] == [
        (S.RUNNING, S.COMPLETED, None, None),
        (S.RUNNING, S.FAILED, None, "no such table"),
        (S.RUNNING, S.CANCELLED, "by Ada", None),
        (S.RUNNING, S.TIMED_OUT, None, "limit of 60 s"),
    ]
    assert [run.duration_ms for run in runs] == [5000] * 4
    failed = [each for each in events(told) if each.status is OccurrenceStatus.FAILED]
    assert [each.event_type for each in failed] == [ExternalEvent.COMPLETED]
    assert {each.external_job_id for each in events(told)} == {"nightly"}
    scheduled = [each.scheduled_fire_time for each in events(told) if each.event_type is ExternalEvent.STARTING]
    assert [None if at is None else at.text[11:16] for at in scheduled] == ["00:01", "00:02", "00:03", "00:04"]


async def test_what_six_fields_in_utc_do_not_say_is_said_in_words(ground: Ground, autojump_clock: MockClock) -> None:
    await ground.put("istanbul", Cron(expression="0 3 * * *", timezone="Europe/Istanbul"))
    await ground.put("every", Every(90))
    await ground.put("once", Once(START + 5000))
    async with played_api(ground.broker) as api, reporting(ground):
        await trio.sleep(4)
        was_active = api.job("once").is_active
        await trio.sleep(3)
        await ground.ended("once", 5)
        await api.settled()

    assert [api.job(name).cron for name in ("istanbul", "every", "once")] == [None] * 3
    assert api.job("istanbul").description == "Work of the workers tests, cron 0 3 * * * in Europe/Istanbul."
    assert api.job("every").description == "Work of the workers tests, every 90 s."
    assert (was_active, api.job("once").is_active) == (True, False)
    assert run_of(api, "once", 5).status is S.COMPLETED


async def test_a_run_that_goes_on_is_alive_as_long_as_it_does(ground: Ground, autojump_clock: MockClock) -> None:
    """And no longer than its schedule waits for it."""
    await ground.put("s", Every(100), lost_after=60)
    beats: list[tuple[float, str]] = []
    ground.broker.on_publish.append(
        lambda each: (
            beats.append((trio.current_time(), each.message.correlation_id or ""))
            if each.routing_key == topology.STATUS_QUEUE
            else None
        )
    )
    async with played_api(ground.broker) as api, reporting(ground):
        await trio.sleep(190)
        assert run_of(api, "s", 100).last_heartbeat is not None
        assert beats[0][0] <= 100 + 2 * BEATS
        assert all(each[0] - before[0] <= BEATS for before, each in itertools.pairwise(beats))
        assert beats[-1][0] >= 190 - BEATS
        await trio.sleep(40)  # the next tick looked at what is open
        later = {occurrence_id for at, occurrence_id in beats if at > 200 + BEATS}
        await ground.ended("s", 100)
        await ground.ended("s", 200)
        await api.settled()

    assert later == {occurrence_id_of("s", START + 200_000)}
    assert [run_of(api, "s", tick).status for tick in (100, 200)] == [S.COMPLETED] * 2


async def test_a_new_leader_goes_on_where_the_old_one_left(
    ground: Ground, told: list[Publication], autojump_clock: MockClock
) -> None:
    """It tells no start a second time, keeps the open run alive, and tells its end."""
    await ground.put("s", Every(20))
    async with played_api(ground.broker) as api:
        async with reporting(ground, "a"):
            await trio.sleep(27)
        await trio.sleep(1)
        beaten = run_of(api, "s", 20).last_heartbeat
        async with reporting(ground, "b"):
            await trio.sleep(30)
            still = run_of(api, "s", 20)
            assert still.status is S.RUNNING
            assert still.last_heartbeat is not None
            assert beaten is not None
            assert still.last_heartbeat > beaten + BEATS
            await ground.ended("s", 20)
            await ground.ended("s", 40, OccurrenceStatus.FAILED, "no such table")
            await api.settled()

    assert set(starts(told).values()) == {1}
    assert run_of(api, "s", 20).history == [S.RUNNING, S.COMPLETED]
    assert run_of(api, "s", 20).duration_ms == 38_000
    assert run_of(api, "s", 40).history == [S.RUNNING, S.FAILED]


async def test_what_is_dispatched_a_second_time_is_told_once(
    ground: Ground, told: list[Publication], autojump_clock: MockClock
) -> None:
    """Its leader died before it could write down that it had dispatched, and so before it told."""
    await ground.put("s", Every(10))
    first = Reach(ground.coordination)
    async with played_api(ground.broker) as api, trio.open_nursery() as nursery:
        with trio.CancelScope() as life:
            async with reporting(ground, "a", reach=first, flush=0):
                await trio.sleep(25)
                first.is_cut = True
                await trio.sleep(6)  # tick 30 is dispatched
                assert starts(told)[occurrence_id_of("s", START + 30_000)] == 0
                life.cancel()
        async with reporting(ground, "b"):
            await trio.sleep(LEASE + 5)
            for tick in (10, 20, 30, 40):
                await ground.ended("s", tick)
            await api.settled()
        nursery.cancel_scope.cancel()

    assert ground.ticks("s").count(30) == 2
    assert set(starts(told).values()) == {1}
    assert [run_of(api, "s", tick).history for tick in (10, 20, 30, 40)] == [[S.RUNNING, S.COMPLETED]] * 4


async def test_an_end_that_came_before_its_tick_was_written_is_told_with_its_start(
    ground: Ground, told: list[Publication], autojump_clock: MockClock
) -> None:
    """The leader who dispatched it is dead; the next one hears of the end, and never dispatches it."""
    await ground.put("s", Every(10), overlap=Overlap.SKIP)
    first = Reach(ground.coordination)
    async with played_api(ground.broker) as api:
        with trio.CancelScope() as life:
            async with reporting(ground, "a", reach=first, flush=0):
                await trio.sleep(5)
                first.is_cut = True
                await trio.sleep(6)
                life.cancel()
        await ground.ended("s", 10)
        async with reporting(ground, "b"):
            await trio.sleep(LEASE)
            await api.settled()

    assert ground.ticks("s").count(10) == 1
    assert starts(told)[occurrence_id_of("s", START + 10_000)] == 1
    assert run_of(api, "s", 10).history == [S.RUNNING, S.COMPLETED]


async def test_a_run_that_ends_while_its_dispatch_is_being_written_is_told_in_order(
    ground: Ground, told: list[Publication], autojump_clock: MockClock
) -> None:
    await ground.put("s", Every(10))
    reach = Reach(ground.coordination)
    async with played_api(ground.broker) as api, reporting(ground, reach=reach):
        await trio.sleep(9.9)
        reach.is_cut = True
        await trio.sleep(0.5)
        await ground.ended("s", 10)
        reach.is_cut = False
        await api.settled()

    assert [each.event_type for each in events(told)][:2] == [ExternalEvent.STARTING, ExternalEvent.COMPLETED]
    assert run_of(api, "s", 10).history == [S.RUNNING, S.COMPLETED]


async def test_who_follows_is_silent(ground: Ground, told: list[Publication], autojump_clock: MockClock) -> None:
    await ground.put("s", Every(10))
    async with reporting(ground, "a", reach=Reach(ground.coordination, is_cut=True)):
        await trio.sleep(60)

    assert told == []


async def test_who_leads_no_more_falls_silent_and_goes_on_when_it_leads_again(
    ground: Ground, told: list[Publication], autojump_clock: MockClock
) -> None:
    """The keeper of the schedules is away for longer than the lease."""
    await ground.put("s", Every(10))
    beats: list[float] = []
    ground.broker.on_publish.append(
        lambda each: beats.append(trio.current_time()) if each.routing_key == topology.STATUS_QUEUE else None
    )
    reach = Reach(ground.coordination)
    async with played_api(ground.broker) as api, reporting(ground, reach=reach):
        await trio.sleep(15)
        reach.is_cut = True
        await trio.sleep(45)
        worker = api.model.registry.read("tests-schedules")
        silent_from = beats[-1]
        reach.is_cut = False
        await trio.sleep(15)
        for tick in range(10, 80, 10):
            if tick in ground.ticks("s"):
                await ground.ended("s", tick)
        await api.settled()

    assert silent_from <= 15 + LEASE
    assert worker is None or not worker.instances
    assert beats[-1] > 65
    assert set(starts(told).values()) == {1}
    assert run_of(api, "s", 10).history == [S.RUNNING, S.COMPLETED]


async def test_what_is_paused_stopped_or_gone_is_inactive(ground: Ground, autojump_clock: MockClock) -> None:
    """And active again when it is resumed."""
    for name in ("paused", "gone", "stopped"):
        await ground.put(name, Every(10), disable_after=1)
    async with played_api(ground.broker) as api, reporting(ground):
        await trio.sleep(15)
        await ground.coordination.pause("paused")
        await ground.coordination.remove("gone")
        for name in ("gone", "paused"):
            await ground.ended(name, 10)
        await ground.ended("stopped", 10, OccurrenceStatus.FAILED, "no such table")
        await api.settled()
        inactive = [api.job(name).is_active for name in ("paused", "gone", "stopped")]
        why = api.job("stopped").description
        for name in ("paused", "stopped"):
            await ground.coordination.resume(name, ground.now)
        await api.settled()

    assert inactive == [False] * 3
    assert why is not None
    assert why.endswith("Stopped: Failures in a row: 1. The last one: no such table")
    assert [api.job(name).is_active for name in ("paused", "gone", "stopped")] == [True, False, True]
    assert run_of(api, "gone", 10).status is S.COMPLETED


async def test_what_happened_last_is_told_on_leaving(ground: Ground, autojump_clock: MockClock) -> None:
    """Also when it is cancelled, which is how it leaves mostly."""
    life = trio.CancelScope()

    class LastWrite(Reach):
        async def advance(self, token: Token, progress: Mapping[str, Progress], taken: Sequence[RunEnd]) -> bool:
            said = await super().advance(token, progress, taken)
            if taken:
                life.cancel()
            return said

    await ground.put("s", Every(10))
    async with played_api(ground.broker) as api:
        with life:
            async with reporting(ground, reach=LastWrite(ground.coordination)):
                await trio.sleep(20.5)
                await ground.ended("s", 10)
                await trio.sleep_forever()
        await api.settled()

    assert run_of(api, "s", 10).status is S.COMPLETED
    assert run_of(api, "s", 20).status is S.RUNNING


async def test_ticks_wait_for_no_report(ground: Ground, autojump_clock: MockClock) -> None:
    """No server reads, so nothing can be told; and leaving takes the time for the last reports, no more."""
    await ground.put("s", Every(1))
    async with reporting(ground):
        await trio.sleep(100.5)
        assert ground.ticks("s") == list(range(1, 101))

        left_at = trio.current_time()

    assert max(sent.at - sent.tick for sent in ground.sent) <= 0.01
    assert trio.current_time() <= left_at + 3


async def test_a_defect_in_the_reports_stops_no_tick(
    ground: Ground, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(ScheduleReports):
        def has(self, entries: object) -> None:
            raise LookupError("has")

        def wrote(self, written: object) -> None:
            raise LookupError("wrote")

        def follows(self) -> None:
            raise LookupError("follows")

    await ground.put("s", Every(1))
    async with ground.scheduling(telling=Broken(ground.broker, WorkerSettings(), ground.clock_ns)):
        await trio.sleep(10.5)

    assert ground.ticks("s") == list(range(1, 11))
    assert (await ground.progress("s")).runs == 10
    assert "a defect in the reports about schedules; the schedules go on" in caplog.messages


async def test_many_schedules_are_told_while_ticks_go_on(ground: Ground, autojump_clock: MockClock) -> None:
    """Each once, and not again with each tick: every telling is noted in the server's log of activities."""
    for number in range(120):
        await ground.put(f"s{number}", Every(10))
    jobs: list[str] = []
    ground.broker.on_publish.append(
        lambda each: jobs.append("") if each.routing_key == topology.EXTERNAL_REGISTRATION_QUEUE else None
    )
    async with played_api(ground.broker) as api, reporting(ground):
        await trio.sleep(25)
        for number in range(120):
            for tick in (10, 20):
                await ground.ended(f"s{number}", tick)
        await api.settled()

    assert len(api.model.database.jobs) == 120
    assert len(jobs) == 120
    assert len(ground.sent) == 3 * 120


async def test_a_schedule_that_cannot_be_put_into_words_hides_no_other(
    ground: Ground, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is shown by its name."""
    words = schedule_words.job_of

    def broken(entry: Entry, now: int) -> ExternalJob:
        if entry.schedule.id == "broken":
            raise ValueError(entry)
        return words(entry, now)

    monkeypatch.setattr(schedules, "job_of", broken)
    for name in ("broken", "sound"):
        await ground.put(name, Every(10))
    async with played_api(ground.broker) as api, reporting(ground):
        await trio.sleep(15)
        for name in ("broken", "sound"):
            await ground.ended(name, 10)
        await api.settled()

    assert [api.job(name).description is None for name in ("broken", "sound")] == [True, False]
    assert [run_of(api, name, 10).status for name in ("broken", "sound")] == [S.COMPLETED] * 2
