"""What the memory outbox promises beyond the port: numbers, exact retry times, a quiet log, bounded memory."""

import logging
from collections.abc import AsyncIterator

import pytest
import trio
from tests.support.reports import FINAL, HEARTBEAT, LOG, RUNNING, A, B, Reception, attempt, report
from trio.testing import MockClock

from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.outbox.backlog import retry_delay
from milvaion_trio.outbox.courier import BATCH
from milvaion_trio.outbox.memory import CONCLUDED_REMEMBERED, MAX_LOG_ROWS, MemoryOutbox
from milvaion_trio.outbox.statistics import OutboxStatistics


@pytest.fixture
async def outbox() -> AsyncIterator[MemoryOutbox]:
    outbox = MemoryOutbox(max_log_rows=3)
    async with outbox.open():
        yield outbox


@pytest.fixture
def reception() -> Reception:
    return Reception()


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "milvaion_trio.outbox"]


async def test_statistics_count_rows(outbox: MemoryOutbox, reception: Reception, autojump_clock: MockClock) -> None:
    zero = OutboxStatistics(pending=0, pending_logs=0, confirmed=0, dropped_logs=0, superseded=0, retried=0)
    assert outbox.statistics() == zero
    outbox.add(report(RUNNING, "superseded"))
    for number in range(5):
        outbox.add(report(LOG, f"log {number}"))
    outbox.add(report(FINAL, "final"))
    assert outbox.statistics() == OutboxStatistics(
        pending=5, pending_logs=3, confirmed=0, dropped_logs=2, superseded=0, retried=0
    )

    reception.broker.refuse_next(2)
    async with reception.delivering(outbox):
        await outbox.drained()

    assert outbox.statistics() == OutboxStatistics(
        pending=0, pending_logs=0, confirmed=4, dropped_logs=2, superseded=1, retried=2
    )


async def test_a_refused_row_is_tried_again_after_a_doubling_delay_up_to_30_seconds(
    outbox: MemoryOutbox, reception: Reception, autojump_clock: MockClock
) -> None:
    tries: list[float] = []

    async def watch() -> None:
        seen = 0
        while True:
            await trio.sleep(0.5)
            if (retried := outbox.statistics().retried) > seen:
                seen = retried
                tries.append(trio.current_time() - 0.5)

    outbox.add(report(FINAL, "final", to="nowhere"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        async with reception.delivering(outbox):
            await trio.sleep(130)
        nursery.cancel_scope.cancel()

    assert tries == [0, 1, 3, 7, 15, 31, 61, 91, 121]


def test_a_row_that_is_refused_for_years_is_still_tried_every_30_seconds() -> None:
    assert [retry_delay(times) for times in (0, 1, 4, 5, 100_000)] == [1, 2, 16, 30, 30]


async def test_a_batch_holds_what_waits_up_to_a_bound(
    outbox: MemoryOutbox, reception: Reception, autojump_clock: MockClock
) -> None:
    for number in range(BATCH + 1):
        outbox.add(report(FINAL, f"{number}"))

    with reception.broker.hold_confirms():
        async with reception.delivering(outbox):
            assert len(reception.publications) == BATCH


async def test_the_log_is_told_once_when_refusals_begin_and_once_when_they_are_over(
    outbox: MemoryOutbox, reception: Reception, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    outbox.add(report(FINAL, "final", to="later"))
    outbox.add(report(FINAL, "final", B, to="later"))

    async with reception.delivering(outbox):
        await trio.sleep(1000)
        (begun,) = messages(caplog)
        assert begun.startswith("broker does not take a report (unroutable)")
        assert begun.endswith("exchange='' routing_key='later'")
        reception.declare("later")
        await outbox.drained()

    assert messages(caplog)[1:] == ["broker takes all reports again"]


async def test_the_log_is_told_once_when_logs_are_dropped_and_once_when_there_is_room(
    outbox: MemoryOutbox, reception: Reception, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(9):
        outbox.add(report(LOG, f"{number}"))
    assert messages(caplog) == ["outbox is full of job logs, new ones are dropped: limit=3 rows"]

    async with reception.delivering(outbox):
        await outbox.drained()
    for _ in range(2):
        outbox.add(report(LOG, "there is room"))

    assert messages(caplog)[1:] == ["outbox takes job logs again: dropped so far=6"]


async def test_only_logs_are_bounded_while_there_is_no_link(reception: Reception, autojump_clock: MockClock) -> None:
    outbox = MemoryOutbox()
    async with outbox.open():
        assert all(outbox.add(report(LOG, f"{number}")) for number in range(MAX_LOG_ROWS))
        assert not outbox.add(report(LOG, "too many"))
        assert outbox.add(report(RUNNING, "running", B))
        assert outbox.add(report(FINAL, "final", B))

        async with reception.delivering(outbox):
            await outbox.drained()

        assert outbox.add(report(LOG, "there is room again"))


async def test_logs_of_a_conclusion_are_never_dropped(outbox: MemoryOutbox, autojump_clock: MockClock) -> None:
    with trio.move_on_after(1):
        await outbox.conclude(attempt(), [report(LOG, f"{number}") for number in range(5)])

    assert outbox.statistics().pending_logs == 5


async def test_leaving_with_unconfirmed_rows_is_told_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    outbox = MemoryOutbox()
    async with outbox.open():
        outbox.add(report(FINAL, "final"))

    assert messages(caplog) == [
        "outbox closed with unconfirmed reports, their jobs were not acked and run again: rows=1"
    ]


async def test_a_closed_outbox_takes_nothing() -> None:
    outbox = MemoryOutbox()

    with pytest.raises(RuntimeError, match="not open"):
        outbox.add(report(FINAL, "final"))
    with pytest.raises(RuntimeError, match="not open"):
        await outbox.conclude(attempt(), [])


async def test_it_delivers_over_one_link_at_a_time(
    outbox: MemoryOutbox, reception: Reception, autojump_clock: MockClock
) -> None:
    async with reception.delivering(outbox), reception.broker.publishing() as publisher:
        with pytest.raises(trio.BusyResourceError):
            await outbox.deliver(publisher)


async def test_only_the_newest_conclusions_are_remembered(outbox: MemoryOutbox) -> None:
    await outbox.conclude(attempt(), [])
    for number in range(CONCLUDED_REMEMBERED - 1):
        await outbox.conclude(attempt(OccurrenceId(f"{number:032d}")), [])
    assert outbox.is_concluded(attempt())

    await outbox.conclude(attempt(B), [])

    assert not outbox.is_concluded(attempt())
    assert outbox.is_concluded(attempt(B))


async def test_nothing_is_remembered_of_occurrences_without_pending_rows(
    outbox: MemoryOutbox, reception: Reception, autojump_clock: MockClock
) -> None:
    async with reception.delivering(outbox):
        for number in range(100):
            outbox.add(report(RUNNING, f"running {number}"))
            outbox.add(report(HEARTBEAT, f"alive {number}"))
            await outbox.conclude(attempt(retry_count=number), [report(FINAL, f"retry {number}")])

    assert outbox._backlog.stage(A) is None
    assert outbox._backlog._stages == {}
