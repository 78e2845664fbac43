"""More rows than memory should hold: the head of the queue is in memory, the rest in the file; and how much is kept."""

import time
from pathlib import Path

import pytest
import trio
from attrs import evolve
from tests.support.disks import in_place, outbox_file
from tests.support.reports import FINAL, HEARTBEAT, LOG, RUNNING, A, B, Reception, attempt, report
from tests.support.stored import all_sent, conclude, left_by_a_kill, opened, written
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.outbox import disk
from milvaion_trio.outbox.disk import HEAD_BYTES, HEAD_ROWS, PAGE, DiskOutbox
from milvaion_trio.ports import Report, ReportKind

MANY = 5 * HEAD_ROWS + 7
A_DAY = 86_400.0


def in_memory(outbox: DiskOutbox) -> int:
    """How many rows are."""
    return outbox._backlog.queued + len(outbox._held)


def large(kind: ReportKind, name: str, size: int, occurrence: OccurrenceId | None = None) -> Report:
    """A report of so many bytes."""
    made = report(kind, name, occurrence)
    message = evolve(made.publication.message, body=made.publication.message.body.ljust(size))
    return evolve(made, publication=evolve(made.publication, message=message))


def numbers(count: int) -> list[str]:
    return [f"{number}" for number in range(count)]


# --- the head and the rest ------------------------------------------------------------------------------------------


async def test_memory_holds_the_head_and_all_leaves_in_order(path: Path, autojump_clock: MockClock) -> None:
    async with opened(path, writer=in_place) as outbox:
        for name in numbers(MANY):
            assert outbox.add(report(LOG, name, None))
        await written(outbox)
        await wait_all_tasks_blocked()
        assert in_memory(outbox) <= HEAD_ROWS
        assert outbox.statistics().pending == MANY

        assert await all_sent(outbox) == numbers(MANY)
        assert outbox.statistics().pending == 0


async def test_an_earlier_process_may_leave_more_than_memory_should_hold(path: Path, autojump_clock: MockClock) -> None:
    async with opened(path, writer=in_place) as outbox:
        for name in numbers(MANY):
            outbox.add(report(LOG, name, None))
        await written(outbox)
        left = left_by_a_kill(path)

    async with opened(left, writer=in_place) as outbox:
        assert outbox.statistics().pending_logs == MANY
        assert in_memory(outbox) <= HEAD_ROWS
        assert await all_sent(outbox) == numbers(MANY)


async def test_memory_is_bounded_in_bytes_too(path: Path, autojump_clock: MockClock) -> None:
    size = HEAD_BYTES // 20
    async with opened(path, writer=in_place) as outbox:
        for name in numbers(60):
            outbox.add(large(LOG, name, size))
        await wait_all_tasks_blocked()
        assert outbox._backlog.queued_bytes <= HEAD_BYTES + size

        assert [name.strip() for name in await all_sent(outbox)] == numbers(60)


async def test_rows_that_come_while_the_rest_is_read_go_behind_it(path: Path, autojump_clock: MockClock) -> None:
    names = numbers(MANY)
    reception, lanes = Reception(), (A, B, None)
    async with opened(path, writer=in_place) as outbox:
        waiting = iter(enumerate(names))

        async def add(count: int) -> None:
            for _, (number, name) in zip(range(count), waiting, strict=False):
                outbox.add(report(LOG, name, lanes[number % 3]))
                if number % 100 == 0:
                    await trio.lowlevel.checkpoint()

        await add(3 * HEAD_ROWS)
        async with reception.delivering(outbox), trio.open_nursery() as nursery:
            nursery.start_soon(add, MANY)
            while len(reception.names) < MANY:
                await trio.sleep(0.001)
                assert in_memory(outbox) <= HEAD_ROWS + PAGE
    assert reception.names == names


async def test_signs_of_life_do_not_wait_for_the_rest(path: Path, autojump_clock: MockClock) -> None:
    """The API would take a running job for dead while hours of logs are sent."""
    reception = Reception()
    async with opened(path, writer=in_place) as outbox:
        for name in numbers(MANY):
            outbox.add(report(LOG, name, None))
        async with reception.delivering(outbox):
            outbox.add(report(RUNNING, "running"))
            outbox.add(report(HEARTBEAT, "alive"))
            await outbox.drained()

    assert reception.names.index("alive") == reception.names.index("running") + 1 < MANY


async def test_the_next_attempt_waits_for_a_conclusion_that_only_the_file_has(
    path: Path, autojump_clock: MockClock
) -> None:
    """As a Running behind a final is, one in front of it would be taken for the last word."""
    reception = Reception()
    async with opened(path, writer=in_place) as outbox:
        for name in numbers(MANY):
            outbox.add(report(LOG, name, None))
        await conclude(outbox, "retry copy")
        await wait_all_tasks_blocked()
        assert outbox.add(report(RUNNING, "running again"))
        assert not outbox.add(report(HEARTBEAT, "alive"))
        await conclude(outbox, "final", retry_count=1)

        sent = [name for name in await all_sent(outbox, reception) if not name.isdigit()]

    assert sent in (["retry copy", "final"], ["retry copy", "running again", "final"])


async def test_a_conclusion_that_only_the_file_has_is_waited_for(path: Path, autojump_clock: MockClock) -> None:
    async with opened(path, writer=in_place) as outbox:
        for name in numbers(MANY):
            outbox.add(report(LOG, name, None))
        reception = Reception()
        async with reception.delivering(outbox):
            with trio.fail_after(100):
                await outbox.conclude(attempt(), [report(FINAL, "final")])
            assert reception.names.index("final") == MANY


async def test_a_refused_row_holds_up_its_own_occurrence_and_not_the_rest(
    path: Path, autojump_clock: MockClock
) -> None:
    reception = Reception()
    async with opened(path, writer=in_place) as outbox:
        outbox.add(report(LOG, "stuck", A, to="later"))
        for name in numbers(MANY):
            outbox.add(report(LOG, name, B))
        async with reception.delivering(outbox):
            with trio.fail_after(100):
                await outbox.settled(attempt(B))
            reception.declare("later")
            with trio.fail_after(100):
                await outbox.drained()

    assert reception.names == [*numbers(MANY), "stuck"]


# --- how much is kept -----------------------------------------------------------------------------------------------


@pytest.fixture
def small_quota(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(disk, "LOG_QUOTA", 10_000)
    return 10_000


async def test_logs_beyond_the_quota_are_dropped_and_statuses_are_not(
    path: Path, small_quota: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    size = small_quota // 10
    async with opened(path, writer=in_place) as outbox:
        taken = [outbox.add(large(LOG, f"{number}", size)) for number in range(12)]
        assert taken == [True] * 10 + [False] * 2
        assert outbox.add(large(FINAL, "final", 2 * small_quota, B))
        await conclude(outbox, "conclusion")
        assert outbox.statistics().dropped_logs == 2

        assert len(await all_sent(outbox)) == 12
        assert outbox.add(large(LOG, "there is room again", size))

    told = [record.message for record in caplog.records if "job logs" in record.message]
    assert len(told) == 2
    assert "full of job logs" in told[0]
    assert "takes job logs again: dropped so far=2" in told[1]


async def test_the_logs_of_an_earlier_process_count_for_the_quota(
    path: Path, small_quota: int, autojump_clock: MockClock
) -> None:
    async with opened(path, writer=in_place) as outbox:
        assert outbox.add(large(LOG, "old", small_quota, A))
        assert not outbox.add(report(LOG, "x"))

    async with opened(path, writer=in_place) as outbox:
        assert not outbox.add(report(LOG, "too many"))
        await all_sent(outbox)
        assert outbox.add(report(LOG, "there is room again"))


async def test_what_is_concluded_brings_its_logs_whatever_the_quota(
    path: Path, small_quota: int, autojump_clock: MockClock
) -> None:
    async with opened(path, writer=in_place) as outbox:
        outbox.add(large(LOG, "much", small_quota))
        with trio.move_on_after(1):
            await outbox.conclude(attempt(), [report(LOG, "last log"), report(FINAL, "final")])

        assert [name.strip() for name in await all_sent(outbox)] == ["much", "last log", "final"]


async def test_logs_that_could_not_be_sent_for_a_day_are_dropped_and_statuses_never(
    path: Path, autojump_clock: MockClock
) -> None:
    async with opened(path, writer=in_place) as outbox:
        outbox.add(report(LOG, "old log", B))
        await conclude(outbox, "old status")
        await written(outbox)

    later = DiskOutbox(outbox_file(path), open_writer=in_place, now=lambda: time.time() + A_DAY + 60)
    async with later.open():
        assert await all_sent(later) == ["old status"]
        assert later.statistics().dropped_logs == 1
        await later.drained()
        await later.settled(attempt(B))
    async with opened(path, writer=in_place) as outbox:
        assert outbox.statistics().pending == 0


async def test_a_log_is_kept_for_a_day(path: Path, autojump_clock: MockClock) -> None:
    async with opened(path, writer=in_place) as outbox:
        outbox.add(report(LOG, "log", B))

    later = DiskOutbox(outbox_file(path), open_writer=in_place, now=lambda: time.time() + A_DAY - 60)
    async with later.open():
        assert await all_sent(later) == ["log"]
