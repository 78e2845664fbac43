"""Occurrences of schedules: a tick that was dispatched twice runs once, and its end is told to whoever leads."""

import pytest
import trio
from attrs import evolve
from tests.support.keepers import UnreliableKeeper
from tests.support.workers import guid, job_message
from trio.testing import MockClock

from milvaion_trio import JobContext, Snooze, Worker
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model import headers
from milvaion_trio.model.envelope import Message
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.schedule import RunEnd
from milvaion_trio.testing import under_test

OCCURRENCE = guid(7)


@pytest.fixture
def keeper() -> UnreliableKeeper:
    return UnreliableKeeper.in_memory()


def tick(number: int = 1, occurrence_id: OccurrenceId = OCCURRENCE) -> Message:
    """A dispatch as the scheduler makes it."""
    message = job_message("work", occurrence_id=occurrence_id)
    stamp = {headers.SCHEDULE: "nightly", headers.TICK: str(number), headers.DISPATCH_STAMP: str(number)}
    return evolve(message, headers={**message.headers, **stamp})


async def test_the_end_of_a_tick_is_told(worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock) -> None:
    """Only a final one: with what the job came to, and of a failure the beginning of its error."""

    @worker.job(max_retries=1, base_retry_delay=60)
    async def work(ctx: JobContext) -> None:
        if ctx.occurrence_id == OCCURRENCE:
            raise ValueError("x" * 2000)

    async with under_test(worker, coordination=keeper) as kit:
        kit.dispatch(tick())
        await trio.sleep(30)
        assert not keeper.told
        kit.dispatch(tick(2, guid(2)))
        await kit.run_until_idle()

    good, bad = keeper.told
    assert (good.schedule_id, good.tick, good.status, good.error) == ("nightly", 2, OccurrenceStatus.COMPLETED, "")
    assert (bad.schedule_id, bad.tick, bad.status, len(bad.error)) == ("nightly", 1, OccurrenceStatus.FAILED, 500)
    assert bad.at - good.at == 30_000


async def test_a_tick_that_has_ended_is_not_run_again(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    ran: list[object] = []

    @worker.job()
    async def work() -> None:
        ran.append(1)

    async with under_test(worker, coordination=keeper) as kit:
        kit.dispatch(tick())
        await kit.run_until_idle()
    async with under_test(worker, coordination=keeper) as kit:  # another one would not know of the first
        kit.dispatch(tick())
        await kit.run_until_idle()

        assert kit.statuses == ()
    assert len(ran) == 1


async def test_a_tick_that_was_taken_for_lost_runs(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """All workers were away for so long that a monitor gave it up. Nobody else has run it, or ever will."""
    ran: list[int] = []

    @worker.job()
    async def work() -> None:
        ran.append(1)

    await keeper.ended(RunEnd(schedule_id="nightly", tick=1, status=OccurrenceStatus.UNKNOWN, at=5))
    async with under_test(worker, coordination=keeper) as kit:
        kit.dispatch(tick())
        await kit.run_until_idle()
        assert kit.occurrence(OCCURRENCE).final is not None

    assert ran == [1]


async def test_two_workers_run_a_tick_that_came_twice_once(keeper: UnreliableKeeper, autojump_clock: MockClock) -> None:
    """The second waits for the end of the first, and is acked then; what was sent away meanwhile is no retry."""
    ran: list[float] = []
    broker = EmbeddedBroker()
    workers = [Worker(name, observers=()) for name in ("one", "two")]
    for each in workers:

        @each.job("work")
        async def work() -> None:
            ran.append(trio.current_time())
            await trio.sleep(30)

    async with (
        under_test(workers[0], broker=broker, coordination=keeper) as first,
        under_test(workers[1], broker=broker, coordination=keeper) as second,
    ):
        first.dispatch(tick())
        second.dispatch(tick())
        await first.run_until_idle()
        await second.run_until_idle()

    assert len(ran) == 1
    assert len(keeper.told) == 1


@pytest.mark.parametrize("status", [OccurrenceStatus.UNKNOWN, OccurrenceStatus.FAILED])
@pytest.mark.parametrize("how", ["retried", "snoozed"])
async def test_a_later_attempt_runs_whatever_was_told(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock, how: str, status: OccurrenceStatus
) -> None:
    """Somebody took it for lost, or for one that had ended, and said so; its own next attempt knows better."""
    ran: list[int] = []

    @worker.job(max_retries=1, base_retry_delay=20)
    async def work(ctx: JobContext) -> None:
        ran.append(ctx.attempt)
        if len(ran) == 1:
            if how == "snoozed":
                raise Snooze(20)
            raise ValueError("once")

    async with under_test(worker, coordination=keeper) as kit:
        kit.dispatch(tick())
        await trio.sleep(5)
        await keeper.ended(RunEnd(schedule_id="nightly", tick=1, status=status, at=5))
        await kit.run_until_idle()

    assert len(ran) == 2


async def test_without_its_keeper_a_tick_runs_and_its_end_is_told_later(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """At least once; the ack does not wait for what nobody answers."""

    @worker.job()
    async def work() -> None: ...

    keeper.is_away = True
    async with under_test(worker, coordination=keeper) as kit:
        for number in range(50):
            kit.dispatch(tick(number, guid(100 + number)))
        await kit.run_until_idle(within=20)
        assert len(kit.statuses) == 100
        keeper.is_away = False
        await trio.sleep(10)

        assert {end.tick for end in keeper.told} == {*range(50)}


async def test_a_lost_lease_stops_no_tick(worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock) -> None:
    ran: list[int] = []

    @worker.job()
    async def work(ctx: JobContext) -> None:
        await trio.sleep(100)
        ran.append(ctx.run_number)

    async with under_test(worker, coordination=keeper) as kit:
        kit.dispatch(tick())
        await trio.sleep(1)
        keeper.forget()
        await trio.sleep(20)
        keeper.is_away = True
        await trio.sleep(40)
        keeper.is_away = False
        await kit.run_until_idle()

    assert ran == [1]


async def test_what_cannot_be_told_before_the_end_is_said(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    @worker.job()
    async def work() -> None: ...

    keeper.is_away = True
    async with under_test(worker, coordination=keeper) as kit:
        kit.dispatch(tick())
        await kit.run_until_idle()

    assert "1 facts about ended runs could not be told" in caplog.text


async def test_what_is_left_is_told_when_the_keeper_comes_back_while_the_worker_leaves(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    @worker.job()
    async def work() -> None: ...

    async def back(later: float) -> None:
        await trio.sleep(later)
        keeper.is_away = False

    keeper.is_away = True
    async with trio.open_nursery() as nursery:
        async with under_test(worker, coordination=keeper) as kit:
            for number in range(3):
                kit.dispatch(tick(number, guid(100 + number)))
            await kit.run_until_idle()
            assert not keeper.told
            nursery.start_soon(back, 0.5)
            kit.stop()
            await kit.stopped()

    assert {end.tick for end in keeper.told} == {0, 1, 2}
    assert "could not be told" not in caplog.text


async def test_refused_and_cancelled_ticks_have_an_end_too(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    @worker.job()
    async def work() -> None: ...

    async with under_test(worker, coordination=keeper) as kit:
        kit.dispatch(evolve(tick(1, guid(1)), body=tick().body.replace(b'"work"', b'"gone"')))
        kit.cancel(guid(2))
        kit.dispatch(tick(2, guid(2)))
        await kit.run_until_idle()

    assert {end.tick: end.status for end in keeper.told} == {
        1: OccurrenceStatus.FAILED,
        2: OccurrenceStatus.CANCELLED,
    }


async def test_an_ack_waits_until_the_end_is_heard(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """Only then is it safe to die: until it is acked, the message comes again."""

    @worker.job()
    async def work() -> None: ...

    async with under_test(worker, coordination=keeper) as kit:
        keeper.delay = 0.5  # for the lease, for the end before, and for this end
        kit.dispatch(tick())
        await trio.sleep(1.4)
        assert (len(kit.statuses), kit.queue().depth) == (2, 1)
        await trio.sleep(0.2)
        assert kit.queue().depth == 0


async def test_an_attempt_that_a_dead_process_concluded_has_an_end(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have died before it told it; how it ended nobody knows any more."""
    from milvaion_trio.outbox.memory import MemoryOutbox

    @worker.job()
    async def work() -> None:
        raise AssertionError("it was concluded")

    monkeypatch.setattr(MemoryOutbox, "is_concluded", lambda *_: True)
    async with under_test(worker, coordination=keeper) as kit:
        kit.dispatch(tick())
        await kit.run_until_idle()

    (end,) = keeper.told
    assert (end.tick, end.status) == (1, OccurrenceStatus.UNKNOWN)


@pytest.mark.parametrize("forged", ["", "x", "-1", "1" * 40, "1.5", b"\xff", 5, True, None])
async def test_a_tick_that_cannot_be_read_is_none(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock, forged: object
) -> None:
    @worker.job()
    async def work() -> None: ...

    async with under_test(worker, coordination=keeper) as kit:
        message = tick()
        kit.dispatch(evolve(message, headers={**message.headers, headers.TICK: forged}))
        await kit.run_until_idle()

    assert not keeper.told
    assert kit.occurrence(OCCURRENCE).final is not None
