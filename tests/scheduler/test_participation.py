"""A worker's part in scheduling: its schedules run, whether it leads or another one does."""

import logging
from itertools import pairwise

import pytest
import trio
from tests.support.scheduling import START, Ground, Reach, schedule
from trio.testing import MockClock

from milvaion_trio import JobContext, Worker, WorkerSettings
from milvaion_trio.coordination.sqlite import SqliteCoordination
from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.schedule import Every, Millis, Schedule, occurrence_id_of
from milvaion_trio.model.settings import RabbitMQSettings, RedisSettings, SchedulerSettings
from milvaion_trio.ports import Confirmation
from milvaion_trio.ports.coordination import LEADER
from milvaion_trio.scheduler.participation import announce
from milvaion_trio.testing import under_test
from milvaion_trio.testing.clock import clock_ns
from milvaion_trio.transports import coordination_for


def scheduled_worker(*, may_lead: bool = True) -> tuple[Worker, list[tuple[float, str]]]:
    """A worker with one job that runs every 10 seconds, and its runs."""
    settings = WorkerSettings(worker_id="tests", scheduler=SchedulerSettings(enabled=may_lead))
    worker = Worker(settings=settings, observers=())
    runs: list[tuple[float, str]] = []

    @worker.every(10)
    @worker.job("Tidy")
    async def tidy(ctx: JobContext) -> None:
        runs.append((trio.current_time(), ctx.occurrence_id))
        await trio.sleep(1)

    return worker, runs


async def test_a_workers_schedules_run_in_it(autojump_clock: MockClock) -> None:
    """Each tick once the one before has ended, which the worker tells the leader."""
    worker, runs = scheduled_worker()
    async with under_test(worker):
        await trio.sleep(45)

    assert [at for at, _ in runs] == [10, 20, 30, 40]
    assert [occurrence_id for _, occurrence_id in runs] == [
        occurrence_id_of("Tidy", START + at * 1000) for at in (10, 20, 30, 40)
    ]


async def test_a_second_message_of_a_tick_runs_nothing(autojump_clock: MockClock) -> None:
    """Whether it comes to the worker that ran the first or to another one."""
    ground = Ground()
    first, runs = scheduled_worker()
    second, others = scheduled_worker(may_lead=False)
    async with (
        under_test(first, broker=ground.broker, coordination=ground.coordination),
        under_test(second, broker=ground.broker, coordination=ground.coordination),
    ):
        await trio.sleep(15)
        (once,) = ground.sent
        again = Publication(once.message, str(once.message.headers["RoutingKey"]), topology.JOBS_EXCHANGE)
        for _ in range(4):
            assert ground.broker.publish_nowait(again) is Confirmation.CONFIRMED
        await trio.sleep(4)

    assert len(runs) + len(others) == 1


async def test_a_worker_that_leaves_dispatches_no_more(autojump_clock: MockClock) -> None:
    """At once, while its jobs may still end."""
    ground = Ground()
    worker, runs = scheduled_worker()

    @worker.job("Long")
    async def long() -> None:
        await trio.sleep(15)

    async with under_test(worker, broker=ground.broker, coordination=ground.coordination) as kit:
        await trio.sleep(15)
        kit.enqueue("Long")
        await trio.sleep(1)
        worker.drain()
        await trio.sleep(1)
        assert await ground.coordination.acquire(LEADER, "another", 60) is not None
        await kit.stopped()

    assert [at for at, _ in runs] == [10]


async def test_schedules_that_others_add_run_where_no_worker_has_any(autojump_clock: MockClock) -> None:
    """As with `schedule add` on a cluster whose workers declare none: one of them sees it within 15 s."""
    ground = Ground()
    worker = Worker("tests", observers=())
    runs: list[float] = []

    @worker.job("Other")
    async def other() -> None:
        runs.append(trio.current_time())

    async with under_test(worker, broker=ground.broker, coordination=ground.coordination):
        await trio.sleep(100)
        await ground.put("s", Every(10), pattern="tests.other.*", job="Other")
        await trio.sleep(35)

    assert runs == [110, 120, 130]


async def test_where_a_worker_may_not_lead_it_brings_its_schedules_all_the_same(autojump_clock: MockClock) -> None:
    worker, runs = scheduled_worker(may_lead=False)
    ground = Ground()
    async with under_test(worker, broker=ground.broker, coordination=ground.coordination):
        await trio.sleep(20.5)
        assert runs == []

        async with ground.scheduling("another"):
            await trio.sleep(20)

    assert len(runs) > 1


async def test_a_worker_starts_and_works_without_the_keeper(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It brings its schedules when it can."""
    worker, runs = scheduled_worker()
    ground = Ground()
    reach = Reach(ground.coordination, is_cut=True)

    @worker.job("Other")
    async def other() -> str:
        return "done"

    async with under_test(worker, coordination=reach) as kit:
        occurrence_id = kit.enqueue("Other")
        await trio.sleep(60.5)
        assert kit.occurrence(occurrence_id).status == OccurrenceStatus.COMPLETED
        assert runs == []
        reach.is_cut = False
        await trio.sleep(30)

    assert len(runs) >= 2
    assert sum("cannot be written down yet" in message for message in caplog.messages) == 1


async def test_a_book_that_was_lost_is_written_again_by_who_leads(autojump_clock: MockClock) -> None:
    """A Redis that lost its data, say: nobody would restart the workers, as nothing fails."""
    worker, runs = scheduled_worker()
    reach = Reach(Ground().coordination)
    async with under_test(worker, coordination=reach):
        for loss in (25, 70):
            await trio.sleep_until(loss)
            reach.shared = Ground().coordination
        await trio.sleep_until(105)

    began = [at for at, _ in runs]
    assert began[:2] == [10, 20]
    assert began[-1] > 90
    assert max(after - before for before, after in pairwise(began)) < 10 + 10


async def test_a_book_that_was_emptied_stays_empty(autojump_clock: MockClock) -> None:
    """What an operator removed does not come back with the next term, as it would with a lost book."""
    worker, runs = scheduled_worker()
    ground = Ground()
    async with under_test(worker, broker=ground.broker, coordination=ground.coordination):
        await trio.sleep(15)
        assert len(runs) == 1
        await ground.coordination.remove("Tidy")
        await trio.sleep(2)
        await ground.coordination.end_leases()
        await trio.sleep(30)

        assert (await ground.coordination.read())[1] == []
    assert len(runs) == 1


async def test_a_worker_that_never_leads_brings_its_schedules_when_the_keeper_is_back(
    autojump_clock: MockClock,
) -> None:
    worker, _ = scheduled_worker(may_lead=False)
    ground = Ground()
    reach = Reach(ground.coordination, is_cut=True)
    async with under_test(worker, broker=ground.broker, coordination=reach):
        await trio.sleep(10)
        reach.is_cut = False
        await trio.sleep(40)

    _, entries = await ground.coordination.read()
    assert [each.schedule.id for each in entries] == ["Tidy"]


async def test_a_worker_without_schedules_lives_through_an_outage_of_the_keeper(autojump_clock: MockClock) -> None:
    """It looks for the first schedule now and then, and may find nobody; it leads when somebody has added one."""
    ground = Ground()
    reach = Reach(ground.coordination, is_cut=True)
    worker = Worker("tests", observers=())
    runs: list[float] = []

    @worker.job("Other")
    async def other() -> None:
        runs.append(trio.current_time())

    async with under_test(worker, broker=ground.broker, coordination=reach):
        await trio.sleep(40)
        reach.is_cut = False
        await ground.put("s", Every(10), pattern="tests.other.*", job="Other")
        await trio.sleep(50)

    assert len(runs) >= 3


async def test_a_worker_without_schedules_wakes_for_none(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the embedded broker, where nobody else could have brought any."""
    asked: list[object] = []
    monkeypatch.setattr(SqliteCoordination, "acquire", lambda *args: asked.append(args))
    worker = Worker("tests", observers=())

    @worker.job("Other")
    async def other() -> None: ...

    async with under_test(worker):
        await trio.sleep(3600)

    assert asked == []


async def test_what_an_earlier_process_brought_runs(ground: Ground, autojump_clock: MockClock) -> None:
    """In a worker that has no schedules of its own, where the book outlives processes."""
    await ground.put("s", Every(10), pattern="tests.other.*", job="Other")
    worker = Worker("tests", observers=())
    runs: list[float] = []

    @worker.job("Other")
    async def other() -> None:
        runs.append(trio.current_time())

    async with under_test(worker, coordination=ground.coordination):
        await trio.sleep(25)

    assert runs == [10, 20]


async def test_what_is_in_the_book_already_is_not_told_again(
    ground: Ground, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            await announce(ground.coordination, [schedule("s", Every(1))], lambda: clock_ns() // 1_000_000)

    assert caplog.messages == ["schedule s: added or changed"]


async def test_a_schedule_that_goes_over_to_other_workers_is_told(
    ground: Ground, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Two groups with the same id would take it from each other at every start, and nobody would know why."""
    await ground.put("s", Every(1), worker_id="others")
    for _ in range(2):
        await announce(ground.coordination, [schedule("s", Every(1))], lambda: START)

    (warning,) = caplog.messages
    assert warning.startswith(
        "schedule s ran Work of the workers others, and runs Work of the workers tests from now on; if that is not"
    )


@pytest.mark.parametrize("may_lead", [True, False])
async def test_who_loses_a_schedule_to_others_says_so_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, may_lead: bool
) -> None:
    """Nothing else would tell why it does not run any more; told again when it is taken once more."""
    ground = Ground()
    worker, _ = scheduled_worker(may_lead=may_lead)
    reach = Reach(ground.coordination)
    async with under_test(worker, broker=ground.broker, coordination=reach):
        await trio.sleep(400)
        assert caplog.messages == []
        await ground.put("Tidy", Every(10), worker_id="thirds", job="TidyUp", pattern="thirds.tidyup.*")
        await trio.sleep(400)
        for _ in range(2):
            await ground.put("Tidy", Every(10), worker_id="others", job="TidyUp", pattern="others.tidyup.*")
            await trio.sleep(400)
            reach.is_cut = True
            await trio.sleep(400)
            reach.is_cut = False
            await trio.sleep(400)
            await announce(ground.coordination, worker.schedules, lambda: START)
            await trio.sleep(400)
        await ground.coordination.remove("Tidy")
        await trio.sleep(400)

    said = [message for message in caplog.messages if "taken it over" in message]
    warning = (
        "schedule Tidy does not run Tidy of the workers tests any more, as this worker declares it, but TidyUp of the "
        "workers {}: another worker or a client has taken it over; give one of the two another id, or each start "
        "takes it from the other"
    )
    assert said == [warning.format(whose) for whose in ("thirds", "others", "others")]


async def test_another_job_of_the_same_workers_is_another_schedule_too(
    ground: Ground, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Two programs may share the group and not the code; the case of a job's name makes no difference."""
    await ground.put("s", Every(1), job="work")
    await announce(ground.coordination, [schedule("s", Every(1), job="Work")], lambda: START)
    assert caplog.messages == []

    await announce(ground.coordination, [schedule("s", Every(1), job="Other")], lambda: START)
    (warning,) = caplog.messages
    assert warning.startswith("schedule s ran Work of the workers tests, and runs Other of the workers tests from now")


async def test_a_schedule_that_cannot_be_written_keeps_no_other_from_it(
    ground: Ground, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect of ours ends neither the worker nor what it does for the other schedules."""
    put = SqliteCoordination.put

    async def odd(keeper: SqliteCoordination, one: Schedule, now: Millis) -> bool:
        if one.id == "bad":
            raise RuntimeError("a defect")
        return await put(keeper, one, now)

    monkeypatch.setattr(SqliteCoordination, "put", odd)
    await announce(ground.coordination, [schedule("bad", Every(1)), schedule("good", Every(1))], lambda: START)

    _, entries = await ground.coordination.read()
    assert [each.schedule.id for each in entries] == ["good"]
    assert sum("schedule bad cannot be written down" in message for message in caplog.messages) == 1


def test_another_virtual_host_has_another_book() -> None:
    """Whoever leads could not reach its queues."""
    books = {
        getattr(coordination_for(WorkerSettings(rabbitmq=rabbitmq, redis=RedisSettings())), "prefix", None)
        for rabbitmq in (RabbitMQSettings(), RabbitMQSettings(virtual_host="other"))
    }

    assert None not in books
    assert len(books) == 2
