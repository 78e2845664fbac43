"""What comes together is written together, and nothing that came alone waits for company."""

from pathlib import Path

import pytest
import trio
from tests.support.disks import HeldWriter
from tests.support.reports import FINAL, LOG, A, attempt, report
from tests.support.stored import conclude, left_by_a_kill, opened, rows_of, written
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio.outbox.disk import DiskOutbox
from milvaion_trio.outbox.journal import LARGE, SOON


def traced(outbox: DiskOutbox) -> list[str]:
    """What SQLite is told from now on."""
    statements: list[str] = []
    store = outbox._file.store
    assert store is not None
    store._db.set_trace_callback(statements.append)
    return statements


async def test_what_comes_in_one_pass_of_the_scheduler_is_one_transaction(path: Path) -> None:
    async with opened(path) as outbox:
        await outbox.started(attempt())
        statements = traced(outbox)
        for number in range(20):
            outbox.add(report(LOG, f"log {number}", None))
        await outbox.started(attempt(retry_count=1))
        assert statements.count("COMMIT") == 1
        assert len(rows_of(path, "number", "report")) == 20


async def test_a_conclusion_and_its_reports_are_one_transaction(path: Path) -> None:
    """Of one without the other a job would run again, or its end would be told by nobody. Sabotage: one by one."""
    async with opened(path) as outbox:
        statements = traced(outbox)
        await conclude(outbox, "final", "copy")
        await written(outbox)
    first = statements[: statements.index("COMMIT")]

    assert sum(statement.startswith("INSERT OR REPLACE INTO report") for statement in first) == 2
    assert any(statement.startswith("INSERT INTO mark") and A in statement for statement in first)


@pytest.mark.parametrize("kind", ["marks", "rows", "numbers"])
@pytest.mark.parametrize(("entries", "is_large"), [(2, False), (15, False), (16, True)])
async def test_a_batch_is_large_from_16_entries_on(path: Path, kind: str, entries: int, *, is_large: bool) -> None:
    """Trio's thread stands still for it then."""
    writer = HeldWriter()
    async with opened(path, writer=writer.open) as outbox:
        writer.large.clear()
        if kind == "numbers":
            outbox._journal.remove(range(entries))
        for number in range(entries):
            if kind == "marks":
                outbox.returned(attempt(retry_count=number))
            elif kind == "rows":
                outbox.add(report(LOG, f"log {number}", None))
        await wait_all_tasks_blocked()

    assert writer.large[0] is is_large


async def test_no_other_work_is_large(path: Path, autojump_clock: MockClock) -> None:
    """Not what is read, and not what is written to a disk that is in trouble."""
    writer = HeldWriter()
    async with opened(path, writer=writer.open) as outbox:
        journal = outbox._journal
        writer.large.clear()
        journal.read(0, 5, lambda _: None)  # nothing is there, which is trouble
        journal.remove(range(LARGE))
        await trio.sleep(10)
        assert journal.trouble is None

    assert len(writer.large) > 2
    assert not any(writer.large)


async def test_ends_that_report_nothing_are_written_together_a_moment_later(path: Path) -> None:
    """Nobody waits for them, and a transaction each would cost more than their jobs. Sabotage: write each at once."""
    async with opened(path) as outbox:
        statements = traced(outbox)
        for number in range(5):
            await outbox.conclude(attempt(retry_count=number), [])
        await wait_all_tasks_blocked()
        assert statements == []
        await trio.sleep(3 * SOON)
        left = left_by_a_kill(path)
    assert statements.count("COMMIT") == 1

    async with opened(left) as outbox:
        assert all(outbox.is_concluded(attempt(retry_count=number)) for number in range(5))


async def test_what_comes_alone_is_written_without_a_second_word(path: Path) -> None:
    async with opened(path) as outbox:
        outbox.add(report(LOG, "alone", None))
        with trio.fail_after(5):
            batch = outbox._journal._gathering or outbox._journal._writing
            assert batch is not None
            await batch.tried.wait()
        assert len(rows_of(path, "number", "report")) == 1


@pytest.mark.parametrize("last", ["row", "mark"])
async def test_what_came_in_the_last_pass_is_written_on_leaving(path: Path, last: str) -> None:
    async with opened(path) as outbox:
        await outbox.started(attempt())
        rows, marks = len(rows_of(path, "number", "report")), len(rows_of(path, "id", "mark"))
        if last == "row":
            outbox.add(report(FINAL, "last", None))
        else:
            outbox.returned(attempt(retry_count=1))
    assert len(rows_of(path, "number", "report")) == rows + (last == "row")
    assert len(rows_of(path, "id", "mark")) == marks + (last == "mark")
