"""Rows and marks are in the outbox file together or not at all, whatever fails and whatever errors hide."""

import sqlite3
from pathlib import Path
from typing import Any, cast

import pytest
from attrs import define, field
from tests.support.reports import FINAL, LOG, attempt, report
from tests.support.stored import Troubles, all_sent, left_by_a_kill, opened, rows_of, written

from milvaion_trio.outbox.store import CONCLUDED, Store


@define
class FailingConnection:
    """A connection that fails at the statement of this number, before or after it was done."""

    db: sqlite3.Connection
    at: int
    is_late: bool
    statements: list[str] = field(factory=list)

    @property
    def in_transaction(self) -> bool:
        return self.db.in_transaction

    def execute(self, sql: str, *parameters: Any) -> Any:
        return self._do(self.db.execute, sql, *parameters)

    def executemany(self, sql: str, *parameters: Any) -> Any:
        return self._do(self.db.executemany, sql, *parameters)

    def close(self) -> None:
        self.db.close()

    def _do(self, call: Any, sql: str, *parameters: Any) -> Any:
        self.statements.append(sql)
        fails = len(self.statements) - 1 == self.at
        if fails and not self.is_late:
            raise sqlite3.OperationalError("disk I/O error")
        found = call(sql, *parameters)
        if fails:
            raise sqlite3.OperationalError("disk I/O error")
        return found


@pytest.mark.parametrize("is_late", [False, True], ids=["before", "after"])
def test_rows_and_mark_are_written_as_one_whatever_statement_fails(path: Path, *, is_late: bool) -> None:
    """Or the next process finds a mark without its rows, acks the message, and the job has no end."""
    old, new = report(LOG, "old"), report(FINAL, "new")
    before: Any = ([(1, b"old")], [])
    after = ([(2, b"new")], [(1, CONCLUDED)])
    seen = []
    for at in range(20):
        place = path.with_name(f"{at}.db")
        store = Store(place, "boot")
        store.open("NORMAL")
        store.write([(1, old)], {}, ())
        store._since_pruned = 0
        failing = FailingConnection(store._db, at, is_late)
        store._db = cast("sqlite3.Connection", failing)
        try:
            store.write([(2, new)], {attempt(): CONCLUDED}, [1])
        except sqlite3.OperationalError:
            has_failed = True
        else:
            has_failed = False
        found = rows_of(place, "number, body", "report"), rows_of(place, "id, state", "mark")
        failing.db.close()
        assert found in (before, after)
        seen.append(found)
        if not has_failed:
            break
    assert len(seen) > 4, "every statement has its turn"
    assert seen[-1] == after
    assert seen[0] == before


async def test_what_an_error_hid_is_written_once(path: Path) -> None:
    """A commit may be on the disk although its error was told."""
    async with opened(path) as outbox:
        store = cast("Store", outbox._file.store)
        await written(outbox)
        failing = FailingConnection(store._db, 2, is_late=True)
        store._db = cast("sqlite3.Connection", failing)
        troubles = Troubles()
        outbox.on_trouble(troubles)
        outbox.add(report(LOG, "log", None))
        await troubles.over()
        assert "disk I/O error" in troubles.told[0]
        assert troubles.told[1:] == [""]
        left = left_by_a_kill(path)
        assert await all_sent(outbox) == ["log"]
        await written(outbox)
        later = left_by_a_kill(path)

    assert failing.statements[2] == "COMMIT"
    async with opened(left) as outbox:
        assert await all_sent(outbox) == ["log"]
    async with opened(later) as outbox:
        assert await all_sent(outbox) == []


async def test_what_an_error_hid_and_was_sent_meanwhile_is_not_sent_again(path: Path) -> None:
    async with opened(path) as outbox:
        store = cast("Store", outbox._file.store)
        await written(outbox)
        failing = FailingConnection(store._db, 2, is_late=True)
        store._db = cast("sqlite3.Connection", failing)
        troubles = Troubles()
        outbox.on_trouble(troubles)
        outbox.add(report(LOG, "log", None))
        assert await all_sent(outbox) == ["log"]
        await troubles.over()
        await written(outbox)
        left = left_by_a_kill(path)

    async with opened(left) as outbox:
        assert await all_sent(outbox) == []
