"""What comes together is written together, and nothing that came alone waits for company."""

from pathlib import Path

import pytest
import trio
from tests.support.reports import FINAL, LOG, attempt, report
from tests.support.stored import opened, rows_of


async def test_what_comes_in_one_pass_of_the_scheduler_is_one_transaction(path: Path) -> None:
    statements: list[str] = []
    async with opened(path) as outbox:
        await outbox.started(attempt())
        store = outbox._file.store
        assert store is not None
        store._db.set_trace_callback(statements.append)
        for number in range(20):
            outbox.add(report(LOG, f"log {number}", None))
        await outbox.started(attempt(retry_count=1))
        assert statements.count("COMMIT") == 1
        assert len(rows_of(path, "number", "report")) == 20


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
