"""A job that the worker's process may have died of runs alone, and after three deaths not at all."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import trio
from attrs import define, evolve, field
from tests.support.outboxes import RememberingOutbox, given_to_workers
from tests.support.steps import cancelled_after, play_with_every_step
from tests.support.workers import OCCURRENCE, job_message, story
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio import JobContext, Worker
from milvaion_trio.model import events, headers, topology
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.runtime.dispatch import SLOT_PATIENCE
from milvaion_trio.runtime.limits import Slots, Taken, take_both
from milvaion_trio.testing import WorkerUnderTest, under_test


@define
class Plant:
    """A worker with three queues whose jobs take as long as they are told, and what they did when."""

    worker: Worker
    outbox: RememberingOutbox
    kit: WorkerUnderTest = field(init=False)
    begun: dict[OccurrenceId, float] = field(factory=dict)
    ended: dict[OccurrenceId, float] = field(factory=dict)
    beside: dict[OccurrenceId, int] = field(factory=dict)
    """How many others ran when it began."""

    def __attrs_post_init__(self) -> None:
        for name in ("red", "green", "blue"):
            self.worker.job(name, max_parallel=3, timeout=0)(self.work)

    async def work(self, ctx: JobContext, seconds: float) -> int:
        occurrence = ctx.occurrence_id
        self.beside[occurrence] = len(self.begun) - len(self.ended)
        self.begun[occurrence] = trio.current_time()
        try:
            await trio.sleep(seconds)
        finally:
            self.ended[occurrence] = trio.current_time()
        return ctx.run_number

    @asynccontextmanager
    async def working(self, max_parallel_jobs: int = 10) -> AsyncIterator[None]:
        self.worker.settings = evolve(self.worker.settings, max_parallel_jobs=max_parallel_jobs)
        async with under_test(self.worker) as self.kit:
            yield

    def add(self, name: str, seconds: float, deaths: int = 0) -> OccurrenceId:
        """Dispatch one that runs for so long, of which so many processes died."""
        occurrence = self.kit.enqueue(name, seconds)
        self.outbox.died[occurrence] = deaths
        return occurrence

    async def added(self, name: str, seconds: float, deaths: int = 0) -> OccurrenceId:
        """The same, and wait until the worker has it."""
        occurrence = self.add(name, seconds, deaths)
        await wait_all_tasks_blocked()
        return occurrence


@pytest.fixture
def plant(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Plant:
    return Plant(worker, given_to_workers(monkeypatch))


# --- alone ----------------------------------------------------------------------------------------------------------


async def test_a_suspect_waits_for_what_runs_and_nothing_starts_beside_it(
    plant: Plant, autojump_clock: MockClock
) -> None:
    """In whatever queue; afterwards all go on. Sabotage: treat it like any other job."""
    async with plant.working():
        before = [await plant.added(name, 10) for name in ("red", "green", "blue")]
        suspect = await plant.added("green", 7, deaths=2)
        after = [plant.add(name, 1) for name in ("red", "green", "blue") * 2]
        await plant.kit.run_until_idle()

    assert [plant.begun[each] for each in before] == [0, 0, 0]
    assert (plant.begun[suspect], plant.beside[suspect]) == (10, 0)
    assert {plant.begun[each] for each in after} == {17}
    assert all(plant.kit.occurrence(each).status is OccurrenceStatus.COMPLETED for each in [*before, suspect, *after])


async def test_one_death_makes_no_suspect(plant: Plant, autojump_clock: MockClock) -> None:
    """It could be that of any neighbour, and after each kill all of them would run one by one."""
    async with plant.working():
        await plant.added("red", 10)
        died_once = await plant.added("green", 1, deaths=1)
        await plant.kit.run_until_idle()

    assert (plant.begun[died_once], plant.beside[died_once]) == (0, 1)


async def test_a_suspect_waits_30_seconds_for_what_runs_and_then_runs_with_it(
    plant: Plant, autojump_clock: MockClock
) -> None:
    """And still nothing is started beside it. Sabotage: wait without a limit, or let the others start then."""
    async with plant.working():
        long = await plant.added("red", 100)
        suspect = await plant.added("green", 10, deaths=2)
        waiting = [plant.add(name, 1) for name in ("red", "blue")]
        await plant.kit.run_until_idle()

    assert (plant.begun[suspect], plant.beside[suspect]) == (SLOT_PATIENCE, 1)
    assert plant.ended[suspect] == SLOT_PATIENCE + 10
    assert {plant.begun[each] for each in waiting} == {SLOT_PATIENCE + 10}
    assert plant.ended[long] == 100


async def test_several_suspects_run_one_at_a_time(plant: Plant, autojump_clock: MockClock) -> None:
    """And those that came between them get their turn between them. Sabotage: let suspects run beside each other."""
    async with plant.working():
        suspects = [await plant.added(name, 5, deaths=2) for name in ("red", "green")]
        other = await plant.added("blue", 1)
        suspects += [plant.add("red", 5, deaths=2), plant.add("green", 5, deaths=2)]
        await plant.kit.run_until_idle()

    assert [plant.beside[each] for each in suspects] == [0, 0, 0, 0]
    spans = sorted((plant.begun[each], plant.ended[each]) for each in suspects)
    assert all(begun >= ended for (_, ended), (begun, _) in pairwise(spans))
    assert plant.begun[other] <= spans[2][0]


async def test_a_suspect_without_a_turn_goes_back_like_any_delivery(plant: Plant, autojump_clock: MockClock) -> None:
    """Another worker may have room. Here it gets its turn as soon as the first one has ended."""
    async with plant.working():
        await plant.added("red", 50, deaths=2)
        second = await plant.added("green", 1, deaths=2)
        await trio.sleep(SLOT_PATIENCE + 1)
        assert (plant.kit.queue("green").unacked, len(plant.kit.queue("green").ready)) == (0, 1)
        await plant.kit.run_until_idle()

    assert plant.begun[second] == 50


async def test_a_worker_for_one_job_at_a_time_runs_suspects_too(plant: Plant, autojump_clock: MockClock) -> None:
    """One waits for the slot like everybody, and is alone with it."""
    async with plant.working(max_parallel_jobs=1):
        first = await plant.added("red", 5)
        suspect = await plant.added("green", 5, deaths=2)
        last = await plant.added("blue", 5)
        await plant.kit.run_until_idle()

    assert [plant.begun[each] for each in (first, suspect, last)] == [0, 5, 10]


async def test_a_drain_while_a_suspect_waits_gives_it_back(plant: Plant, autojump_clock: MockClock) -> None:
    """It has not started, so nothing is noted of it. Sabotage: keep its slots, or its delivery."""
    async with plant.working():
        running = await plant.added("red", 15)
        suspect = await plant.added("green", 5, deaths=2)
        behind = await plant.added("blue", 5)
        await trio.sleep(1)
        plant.kit.drain()
        await plant.kit.stopped()

    assert plant.kit.occurrence(running).status is OccurrenceStatus.COMPLETED
    assert list(plant.begun) == [running]
    for name, occurrence in (("green", suspect), ("blue", behind)):
        assert [headers.occurrence_id(message) for message in plant.kit.queue(name).ready] == [occurrence]
    assert plant.outbox.of(suspect) == []
    assert trio.current_time() == 15


async def test_an_outbox_in_trouble_while_a_suspect_waits_leaves_nothing_taken(
    plant: Plant, autojump_clock: MockClock, outbox_trouble: Callable[[str], None]
) -> None:
    """It goes back, and all are taken when the trouble is over. Sabotage: keep its slots, or its turn."""
    async with plant.working():
        running = await plant.added("red", 10)
        suspect = await plant.added("green", 5, deaths=2)
        await trio.sleep(1)
        outbox_trouble("the disk is full")
        await trio.sleep(1)
        assert len(plant.kit.queue("green").ready) == 1
        outbox_trouble("")
        await wait_all_tasks_blocked()
        others = [plant.add(name, 1) for name in ("red", "blue")]
        await plant.kit.run_until_idle()

    assert (plant.begun[suspect], plant.beside[suspect]) == (plant.ended[running], 0)
    assert {plant.begun[each] for each in others} == {plant.ended[suspect]}


async def test_a_suspect_that_is_cancelled_while_it_waits_holds_nobody_up(
    plant: Plant, autojump_clock: MockClock
) -> None:
    """Sabotage: keep the turn when the second admission says no."""
    async with plant.working():
        await plant.added("red", 10)
        suspect = await plant.added("green", 5, deaths=2)
        behind = await plant.added("blue", 5)
        plant.kit.cancel(suspect)
        await plant.kit.run_until_idle()

    assert plant.kit.occurrence(suspect).status is OccurrenceStatus.CANCELLED
    assert plant.begun[behind] == 10


async def test_a_suspect_that_fails_lets_the_others_go_on(plant: Plant, autojump_clock: MockClock) -> None:
    """However it ends, and its retry is a new attempt, of which nobody has died."""

    @plant.worker.job("odd", max_retries=1, base_retry_delay=1)
    async def odd() -> None:
        raise ValueError

    async with plant.working():
        suspect = plant.kit.enqueue("odd")
        plant.outbox.died[suspect] = 2
        behind = plant.add("red", 1)
        await plant.kit.run_until_idle()

    assert plant.kit.occurrence(suspect).status is OccurrenceStatus.FAILED
    assert plant.kit.occurrence(behind).status is OccurrenceStatus.COMPLETED


async def test_the_log_of_a_suspect_says_that_it_runs_alone_and_why(plant: Plant, autojump_clock: MockClock) -> None:
    """Form and category are the redelivery's (WIRE.md 3.3); the job sees the number of its run too."""
    async with plant.working():
        plant.outbox.died[OCCURRENCE] = 2
        plant.kit.dispatch(job_message("red", job_data="1"), to="red")
        await plant.kit.run_until_idle()
        logs = [record.log for record in plant.kit.occurrence(OCCURRENCE).logs]

    assert {(log.level, log.category) for log in logs} == {("Warning", "Redelivery")}
    assert "Runs alone: the worker process died 2 times while this job ran" in logs[1].message
    assert logs[1].data == {
        "Reason": "worker process died",
        "Deaths": 2,
        "WorkerId": plant.kit.worker.instance_id,
    }
    assert plant.kit.occurrence(OCCURRENCE).result == "3"


# --- set aside ------------------------------------------------------------------------------------------------------


async def test_after_three_deaths_a_job_is_set_aside_and_both_texts_say_why(
    plant: Plant, autojump_clock: MockClock
) -> None:
    """Failed and one dead letter, nothing is run, and the others go on. Sabotage: allow a fourth death."""
    async with plant.working():
        plant.outbox.died[OCCURRENCE] = 3
        plant.kit.dispatch(job_message("red", job_data="1", x_retry_count=1), to="red")
        neighbours = [plant.add(name, 1) for name in ("red", "green", "blue")]
        await plant.kit.run_until_idle()

    assert OCCURRENCE not in plant.begun
    assert story(plant.kit, OCCURRENCE) == ["logs", "FAILED", "dead letter"]
    view = plant.kit.occurrence(OCCURRENCE)
    (letter,) = view.dead_letters
    for text in (view.exception, letter.exception, view.messages[0]):
        assert "The worker process died 3 times while red ran for this occurrence" in str(text)
        assert 'run="process"' in str(text)
    assert str(letter.exception).startswith("[PERMANENT FAILURE] ")
    assert letter.job_data == "1"
    (sent,) = plant.kit.sent_to(topology.DEAD_LETTER_EXCHANGE)
    assert sent.message.headers[headers.RETRY_COUNT] == 1
    assert plant.outbox.of(OCCURRENCE) == ["concluded"]
    assert [plant.begun[each] for each in neighbours] == [0, 0, 0]
    assert [event for event in plant.kit.events if isinstance(event, events.DeliveryRefused)] != []


# --- slots taken alone ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of_the_job", [2, 3])
@pytest.mark.parametrize("others", [0, 1, 2])
def test_a_wait_to_be_alone_that_is_cancelled_leaves_nothing_taken(others: int, of_the_job: int) -> None:
    """At each of its steps. Sabotage: keep the job's slot, or the turn, or the place in the line."""

    async def case(steps: int) -> bool:
        job, worker = Slots(of_the_job), Slots(2)
        for _ in range(others):
            await take_both(job, worker)
        is_taken = False

        async def wait() -> None:
            nonlocal is_taken
            with trio.fail_after(60):
                await take_both(job, worker, alone=True)
                is_taken = True
                await worker.until_alone()

        async def ends() -> None:
            for _ in range(others):
                await trio.lowlevel.checkpoint()
                Taken(job, worker).give()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends)
            ended = await cancelled_after(steps, wait)
        if is_taken:
            assert (job.taken, worker.taken, worker.is_alone) == (1, 1, True)
            Taken(job, worker, alone=True).give()
        assert (job.taken, worker.taken, worker.is_alone) == (0, 0, False)
        assert worker.has_room
        with trio.fail_after(1):
            await take_both(job, worker)
            await take_both(job, worker)
        return ended

    play_with_every_step(case)


async def test_slots_are_handed_out_in_the_order_of_those_who_wait_alone_or_not(autojump_clock: MockClock) -> None:
    """Nobody overtakes one who waits to be alone, and one who waits to be alone overtakes nobody."""
    slots = Slots(2)
    order: list[str] = []
    running: set[str] = set()

    async def use(name: str, *, alone: bool) -> None:
        await slots.take(alone=alone)
        if alone:
            with trio.fail_after(60):
                await slots.until_alone()
        order.append(f"{name} beside {len(running)}")
        running.add(name)
        await trio.sleep(1.5 if name == "b" else 1)
        running.remove(name)
        slots.give(alone=alone)

    async with trio.open_nursery() as nursery:
        for name in ("a", "b", "c", "D", "e", "F", "g"):
            nursery.start_soon(lambda each: use(each, alone=each.isupper()), name)
            await wait_all_tasks_blocked()

    assert order == [
        *("a beside 0", "b beside 1", "c beside 1"),
        *("D beside 0", "e beside 0", "F beside 0", "g beside 0"),
    ]


def test_a_suspect_that_is_left_behind_keeps_its_slot_and_lets_others_run() -> None:
    """Nobody knows how long a thread goes on that ignores its cancellation."""
    job, worker = Slots(1), Slots(2)
    assert job.try_take()
    assert worker.try_take(alone=True)
    taken = Taken(job, worker, alone=True)

    taken.no_longer_alone()

    assert worker.try_take()
    assert not worker.has_room
    taken.give()
    assert (job.taken, worker.taken, worker.is_alone) == (0, 1, False)
