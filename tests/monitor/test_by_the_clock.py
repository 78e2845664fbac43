"""What a monitor does without being told: finds what is lost, deletes what is old, tells ends to the scheduler."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field
from tests.support.monitored import FailingHistory, Wire, registered, watched
from trio.testing import MockClock

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model.errors import LinkLost, SettingsError
from milvaion_trio.model.exception_groups import leaves
from milvaion_trio.model.occurrence import OccurrenceStatus as S
from milvaion_trio.model.schedule import RunEnd
from milvaion_trio.model.topology import DISPATCHES_QUEUE, STATUS_QUEUE
from milvaion_trio.monitor import rounds
from milvaion_trio.monitor.queues import TOPOLOGY
from milvaion_trio.ports.coordination import Coordination


@define(eq=False)
class Book:
    """A book of schedules that remembers what it was told, where it is not away."""

    name: str = "the book"
    told: list[RunEnd] = field(factory=list)
    is_away: bool = False
    hangs: bool = False

    @property
    def book(self) -> "Book":
        return self

    async def ended(self, end: RunEnd) -> None:
        await trio.lowlevel.checkpoint()
        if self.hangs:
            await trio.sleep_forever()
        if self.is_away:
            raise LinkLost("away")
        self.told.append(end)


def as_coordination(book: Book) -> Coordination:
    found: Any = book  # of all that a coordination is, the monitor uses this
    coordination: Coordination = found
    return coordination


async def test_what_is_silent_for_too_long_is_lost_and_heals(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """Queued or running: Unknown after the time, not before, until it is heard of again (WIRE.md 4.8)."""
    queued, running, beating = (Wire(broker, number) for number in (1, 2, 3))
    ids = [queued.id, running.id, beating.id]
    async with watched(broker, store, zombie_timeout=100, check_interval=5) as history:
        for wire in (queued, running, beating):
            wire.dispatched()
        for wire in (running, beating):
            wire.told(S.RUNNING, start=0)
        for _ in range(2):
            await trio.sleep(45)
            beating.told(S.RUNNING)
        early = store.load(ids)
        await trio.sleep(20)
        late = store.load(ids)
        running.told(S.COMPLETED, start=0, end=110, result="after all")
        await history.settled()
        healed = store.load(ids)[running.id]

    assert [early[each].status for each in ids] == [S.QUEUED, S.RUNNING, S.RUNNING]
    assert [late[each].status for each in ids] == [S.UNKNOWN, S.UNKNOWN, S.RUNNING]
    assert "Zombie" in (late[queued.id].exception or "")
    assert (healed.status, healed.result, healed.exception) == (S.COMPLETED, "after all", None)


async def test_a_job_that_says_a_shorter_time_is_lost_by_that(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """Shorter than that of all others, for which nobody waits here."""
    hasty, patient = Wire(broker, 1), Wire(broker, 2)
    async with watched(broker, store, zombie_timeout=600, check_interval=5):
        hasty.dispatched(zombie_minutes=1)
        patient.dispatched()
        await trio.sleep(55)
        early = store.counts()
        await trio.sleep(15)
        late = store.load([hasty.id, patient.id])

    assert early == {S.QUEUED: 2}
    assert [late[wire.id].status for wire in (hasty, patient)] == [S.UNKNOWN, S.QUEUED]


@pytest.mark.parametrize("deaf", ["stopped", "unreachable", "store"])
async def test_nothing_is_lost_for_a_silence_in_which_nobody_listened(
    deaf: str, broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """The monitor was stopped, or had no connection or no store: what was said meanwhile is still to be read."""
    wires = [Wire(broker, number) for number in (1, 2)]
    options = {"zombie_timeout": 100, "check_interval": 5}

    def states() -> list[S | int]:
        found = store.load([wire.id for wire in wires])
        workers = [S.UNKNOWN if one.lost_at is not None else S.RUNNING for one in store.instances()]
        return [*(found[wire.id].status for wire in wires), *workers]

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(watched(broker, store, **options))
        registered(broker, interval=30)
        for wire in wires:
            wire.dispatched()
        wires[1].told(S.RUNNING, start=0)
        await trio.sleep(20)
        match deaf:
            case "stopped":
                await stack.aclose()
                await trio.sleep(1000)
                await stack.enter_async_context(watched(broker, store, **options))
            case "unreachable":
                with broker.unreachable():
                    await trio.sleep(1000)
            case _:
                store.trouble = "away"
                wires[1].told(S.RUNNING)
                await trio.sleep(1000)
                store.trouble = ""
        await trio.sleep(70)
        early = states()
        await trio.sleep(50)
        late = states()

    assert early == [S.QUEUED, S.RUNNING, S.RUNNING]
    assert late == [S.UNKNOWN, S.UNKNOWN, S.UNKNOWN]


async def test_a_lost_one_is_found_behind_any_number_that_wait_rightly(
    broker: EmbeddedBroker, store: FailingHistory, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Those that were heard of before it would fill what one look sees; each is lost in its own time."""
    monkeypatch.setattr(rounds, "LOOKED_AT", 1)
    async with watched(broker, store, zombie_timeout=100, check_interval=10):
        patient = [Wire(broker, number) for number in range(1, 100)]
        for wire in patient:
            wire.dispatched(zombie_minutes=60)
        await trio.sleep(1)
        late = Wire(broker, 100)
        late.dispatched()
        await trio.sleep(120)
        early = store.counts()
        row = store.load([late.id])[late.id]
        await trio.sleep(3600 + 10 * len(patient))
        counts = store.counts()

    assert row.status is S.UNKNOWN
    assert early == {S.QUEUED: 99, S.UNKNOWN: 1}
    assert counts == {S.UNKNOWN: 100}


async def test_ended_occurrences_are_deleted_when_they_are_old_enough(
    broker: EmbeddedBroker, store: FailingHistory, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """With their logs and dead letters, a part at a time; what still runs stays."""
    monkeypatch.setattr(rounds, "DELETED", 2)
    ended = [Wire(broker, number) for number in range(1, 6)]
    running = Wire(broker, 9)
    day = 86_400
    async with watched(broker, store, retention_days=2, check_interval=600, zombie_timeout=10 * day):
        for wire in (*ended, running):
            wire.told(S.RUNNING, start=0)
            wire.logged("line")
        for wire in ended:
            wire.told(S.FAILED, start=0, end=1, exception="x")
            wire.dead()
        await trio.sleep(2 * day - 1000)
        before = store.counts()
        await trio.sleep(2000)
        after, lines, letters = store.counts(), store.lines(ended[0].id), store.failures()

    assert before == {S.FAILED: 5, S.RUNNING: 1}
    assert (after, lines, letters) == ({S.RUNNING: 1}, [], [])


async def test_without_an_age_nothing_is_deleted(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    async with watched(broker, store, retention_days=0, check_interval=86_400 * 20):
        Wire(broker).told(S.COMPLETED, start=0, end=1)
        await trio.sleep(400 * 86_400)
        counts = store.counts()

    assert counts == {S.COMPLETED: 1}


async def test_a_failing_round_is_said_and_the_next_one_is_made(
    broker: EmbeddedBroker,
    store: FailingHistory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
) -> None:
    """A defect there must not stop the history."""
    wire = Wire(broker)
    unfinished = store.history.unfinished
    faults = iter([RuntimeError("a defect")])

    def failing(*arguments: Any) -> Any:
        for fault in faults:
            raise fault
        return unfinished(*arguments)

    monkeypatch.setattr(store.history, "unfinished", failing)
    async with watched(broker, store, zombie_timeout=15, check_interval=10):
        wire.dispatched()
        await trio.sleep(25)
        row = store.load([wire.id])[wire.id]

    assert row.status is S.UNKNOWN
    assert "a round of the monitor was left out" in caplog.text


# --- ends of scheduled runs -----------------------------------------------------------------------------------------


def scheduled(broker: EmbeddedBroker, number: int = 1) -> Wire:
    wire = Wire(broker, number)
    wire.dispatched(x_mtrio_schedule="nightly", x_mtrio_tick=str(1_893_456_000_000 + number))
    return wire


async def test_the_ends_of_scheduled_runs_are_told(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """Completed, failed or lost; not that they run, and not those of anybody else."""
    book = Book()
    options = {"zombie_timeout": 60, "check_interval": 5, "coordination": as_coordination(book)}
    async with watched(broker, store, **options) as history:
        completed, failed, lost = (scheduled(broker, number) for number in (1, 2, 3))
        other = Wire(broker, 4)
        other.dispatched()
        completed.told(S.RUNNING, start=0)
        await history.settled()
        before = list(book.told)
        for wire in (completed, other):
            wire.told(S.COMPLETED, start=0, end=2)
        failed.told(S.FAILED, start=0, end=3, exception="it broke")
        await history.settled()
        ended = list(book.told)
        await trio.sleep(100)
        assert lost.id in store.load([lost.id])

    start = 1_893_456_000_000
    assert before == []
    assert [(end.tick - start, end.status, end.at - start, end.error) for end in ended] == [
        (1, S.COMPLETED, 2000, ""),
        (2, S.FAILED, 3000, "it broke"),
    ]
    assert [(end.schedule_id, end.tick - start, end.status) for end in book.told[2:]] == [("nightly", 3, S.UNKNOWN)]


async def test_the_ends_around_a_message_that_cannot_be_kept_are_told(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """A schedule would wait a day for each of them."""
    book = Book()
    wires = [scheduled(broker, number) for number in range(1, 10)]
    poison = wires[4].id
    store.refuses = lambda rows: (
        OverflowError("no") if any(row.id == poison and row.end_time for row in rows.occurrences) else None
    )
    for wire in wires:
        wire.told(S.COMPLETED, start=0, end=2)
    async with watched(broker, store, coordination=as_coordination(book)) as history:
        await history.settled()

    assert sorted(end.tick - 1_893_456_000_000 for end in book.told) == [1, 2, 3, 4, 6, 7, 8, 9]


async def test_an_end_is_told_when_the_dispatch_is_read_after_it(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """Only the dispatch says of which schedule it was."""
    book = Book()
    async with watched(broker, store, coordination=as_coordination(book)) as history:
        Wire(broker).told(S.COMPLETED, start=0, end=2)
        await history.settled()
        scheduled(broker)
        await history.settled()

    assert [(end.schedule_id, end.status) for end in book.told] == [("nightly", S.COMPLETED)]


@pytest.mark.parametrize("trouble", ["is_away", "hangs"])
async def test_ends_wait_for_a_book_that_is_away_and_the_history_does_not(
    trouble: str, broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    book = Book()
    setattr(book, trouble, True)
    async with watched(broker, store, coordination=as_coordination(book)) as history:
        wires = [scheduled(broker, number) for number in (1, 2, 3)]
        for wire in wires:
            wire.told(S.COMPLETED, start=0, end=2)
            await trio.sleep(3)
        meanwhile = store.counts()
        queued = broker.queue(STATUS_QUEUE).depth
        setattr(book, trouble, False)
        await trio.sleep(20)
        await history.settled()

    assert (meanwhile, queued) == ({S.COMPLETED: 3}, 0)
    assert sorted(end.tick for end in book.told) == [1_893_456_000_001, 1_893_456_000_002, 1_893_456_000_003]


async def test_an_end_that_was_not_told_is_told_by_the_next_monitor(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """It dies behind the write and before the telling: the status is not acknowledged, and comes again."""
    hanging, book = Book(hangs=True), Book()
    wire = scheduled(broker)
    async with watched(broker, store, coordination=as_coordination(hanging)):
        wire.told(S.COMPLETED, start=0, end=2)
        await trio.sleep(1)
        broker.drop_connection()  # as its death would
        broker.refuse_connections = True
        await trio.sleep(1)
    broker.refuse_connections = False
    async with watched(broker, store, coordination=as_coordination(book)) as history:
        await history.settled()

    assert [end.tick for end in book.told] == [1_893_456_000_001]


# --- who else reads -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def a_reader(broker: EmbeddedBroker, queue: str) -> AsyncIterator[None]:
    async with broker.consuming() as consumer:
        await consumer.declare(TOPOLOGY)
        reading: AbstractAsyncContextManager[object] = consumer.consume(queue, prefetch=1)
        async with reading:
            yield


@pytest.mark.parametrize(
    ("queue", "who"), [(STATUS_QUEUE, "a Milvaion API"), (DISPATCHES_QUEUE, "Another milvaion-trio monitor")]
)
async def test_it_does_not_start_beside_somebody_who_reads_the_same(
    queue: str, who: str, broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """It says who that may be, and how to start all the same."""
    async with a_reader(broker, queue):
        with pytest.RaisesGroup(SettingsError, flatten_subgroups=True) as raised:
            async with watched(broker, store):
                raise AssertionError("it started")
        taken = broker.queue(STATUS_QUEUE).consumers + broker.queue(DISPATCHES_QUEUE).consumers

    [error] = raised.value.exceptions
    while isinstance(error, BaseExceptionGroup):
        [error] = error.exceptions
    assert f"{queue} (1)" in str(error)
    assert who in str(error)
    assert "--beside-others" in str(error)
    assert taken == 1


async def test_of_two_that_start_at_the_same_time_not_both_run(
    broker: EmbeddedBroker, tmp_path: Path, autojump_clock: MockClock
) -> None:
    started, refused = list[int](), list[BaseException]()

    async def start(number: int) -> None:
        try:
            async with watched(broker, tmp_path / str(number)):
                started.append(number)
                await trio.sleep(10)
        except BaseExceptionGroup as group:
            refused.extend(leaves(group))

    async with trio.open_nursery() as nursery:
        for number in (1, 2):
            nursery.start_soon(start, number)

    assert len(started) < 2
    assert [type(error) for error in refused] == [SettingsError] * (2 - len(started))


async def test_it_starts_beside_others_where_it_is_told_to(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    async with a_reader(broker, STATUS_QUEUE), watched(broker, store, beside_others=True):
        assert broker.queue(STATUS_QUEUE).consumers == 2


async def test_a_reader_that_goes_in_a_moment_is_waited_for(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """The broker has not noticed yet that the last monitor was killed."""
    async with trio.open_nursery() as nursery:

        async def leave_soon(task_status: trio.TaskStatus[None]) -> None:
            async with a_reader(broker, STATUS_QUEUE):
                task_status.started()
                await trio.sleep(2)

        await nursery.start(leave_soon)
        async with watched(broker, store):
            assert broker.queue(STATUS_QUEUE).consumers == 1


async def test_after_a_lost_connection_it_reads_on_beside_whoever_came(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """It was there first."""
    async with watched(broker, store):
        broker.drop_connection("consuming")
        async with a_reader(broker, STATUS_QUEUE):
            await trio.sleep(20)

            assert broker.queue(STATUS_QUEUE).consumers == 2
