"""What is concluded survives the process: rows, marks, order, bytes, and what is known of starts and deaths."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from attrs import define, field
from tests.support.disks import HeldWriter, disk_outbox, outbox_file
from tests.support.reports import FINAL, HEARTBEAT, LOG, RUNNING, A, B, Reception, attempt, report
from tests.support.stored import Troubles, all_sent, conclude, left_by_a_kill, opened, written
from trio.testing import wait_all_tasks_blocked

from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.outbox.disk import DiskOutbox
from milvaion_trio.outbox.store import CONCLUDED, Store
from milvaion_trio.outbox.store import RUNNING as RUNS
from milvaion_trio.ports import Report


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tests.outbox.db"


def rows_of(path: Path, columns: str, table: str) -> list[tuple[Any, ...]]:
    """What another process reads in the file now."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall()


# --- restarts -------------------------------------------------------------------------------------------------------


async def test_rows_and_marks_outlive_a_kill_in_their_order(path: Path) -> None:
    async with opened(path) as outbox:
        outbox.add(report(LOG, "log of A"))
        outbox.add(report(LOG, "log of several", None))
        outbox.add(report(LOG, "log of B", B))
        await conclude(outbox, "retry copy", "dead letter")
        outbox.add(report(LOG, "late log of B", B))
        await written(outbox)
        left = left_by_a_kill(path)

    async with opened(left) as outbox:
        assert outbox.is_concluded(attempt())
        assert not outbox.is_concluded(attempt(B))
        assert not outbox.is_concluded(attempt(retry_count=1))
        assert outbox.statistics().pending == 6
        assert outbox.statistics().pending_logs == 4
        assert await all_sent(outbox) == [
            "log of A",
            "log of several",
            "log of B",
            "retry copy",
            "dead letter",
            "late log of B",
        ]


async def test_leaving_writes_what_was_accepted(path: Path) -> None:
    async with opened(path) as outbox:
        await conclude(outbox, "final")
        outbox.add(report(LOG, "log", None))

    async with opened(path) as outbox:
        assert await all_sent(outbox) == ["final", "log"]


async def test_a_confirmed_row_is_not_sent_again_after_a_kill(path: Path) -> None:
    async with opened(path) as outbox:
        await conclude(outbox, "final")
        assert await all_sent(outbox) == ["final"]
        await written(outbox)
        left = left_by_a_kill(path)

    async with opened(left) as outbox:
        assert outbox.is_concluded(attempt())
        assert outbox.statistics().pending == 0
        assert await all_sent(outbox) == []


async def test_a_row_without_a_confirm_is_sent_again_after_a_kill_with_the_same_bytes(path: Path) -> None:
    reception = Reception()
    async with opened(path) as outbox:
        with reception.broker.hold_confirms():
            async with reception.delivering(outbox):
                await conclude(outbox, "final")
                await written(outbox)
                await wait_all_tasks_blocked()
                assert reception.names == ["final"]
        await written(outbox)
        left = left_by_a_kill(path)
    first = list(reception.publications)

    async with opened(left) as outbox:
        assert await all_sent(outbox, reception) == ["final"]
    assert reception.publications[1:] == first


async def test_everything_of_a_publication_outlives_the_process(path: Path) -> None:
    headers = {
        "text": "ü\0",
        "nothing": None,
        "int": -(2**63),
        "yes": True,
        "nested": {"list": [1, {"bytes": b"\xff"}]},
    }
    message = Message(
        body=bytes(range(256)),
        headers=headers,
        message_id="id",
        correlation_id="correlation",
        content_type="application/json",
        timestamp=2**64 - 1,
        persistent=False,
    )
    whole = Report(FINAL, Publication(message, "reports", "", 2.5), A)
    bare = Report(LOG, Publication(Message(body=b""), "key", "exchange"), None)
    async with opened(path) as outbox:
        outbox.add(whole)
        outbox.add(bare)

    file = outbox_file(path)
    file.open()
    try:
        store = cast("Store", file.store)
        assert [stored.report for stored in store.read(0, 10)] == [whole, bare]
    finally:
        file.close()


async def test_statuses_of_the_moment_are_not_written(path: Path) -> None:
    """Whoever meets the message again says anew that it runs."""
    reception = Reception()
    async with opened(path) as outbox:
        with reception.broker.hold_confirms():
            async with reception.delivering(outbox):
                assert outbox.add(report(RUNNING, "running"))
                assert outbox.add(report(HEARTBEAT, "alive"))
                await written(outbox)

    async with opened(path) as outbox:
        assert await all_sent(outbox) == []


async def test_rows_of_an_earlier_process_go_before_those_of_this_one(path: Path) -> None:
    async with opened(path) as outbox:
        await conclude(outbox, "retry copy")

    async with opened(path) as outbox:
        outbox.add(report(RUNNING, "running again"))
        await conclude(outbox, "final", retry_count=1)
        assert await all_sent(outbox) in (
            ["retry copy", "final"],
            ["retry copy", "running again", "final"],
        )


async def test_settled_waits_for_rows_of_an_earlier_process(path: Path) -> None:
    async with opened(path) as outbox:
        await conclude(outbox, "final")

    async with opened(path) as outbox, trio.open_nursery() as nursery:
        has_settled = trio.Event()

        async def settle() -> None:
            await outbox.settled(attempt())
            has_settled.set()

        nursery.start_soon(settle)
        await wait_all_tasks_blocked()
        assert not has_settled.is_set()
        await all_sent(outbox)
        with trio.fail_after(10):
            await has_settled.wait()


# --- one transaction ------------------------------------------------------------------------------------------------


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
    before = ([(1, b"old")], [])
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
        left = left_by_a_kill(path)

    async with opened(left) as outbox:
        assert await all_sent(outbox) == []


# --- starts and deaths ----------------------------------------------------------------------------------------------


async def test_a_start_that_did_not_end_is_a_death_for_the_next_process(path: Path) -> None:
    async with opened(path) as outbox:
        await outbox.started(attempt())
        assert outbox.deaths(attempt()) == 0
        left = left_by_a_kill(path)

    async with opened(left) as outbox:
        assert outbox.deaths(attempt()) == 1
        assert outbox.deaths(attempt(B)) == 0
        assert outbox.deaths(attempt(retry_count=1)) == 0


async def test_deaths_add_up_until_the_conclusion(path: Path) -> None:
    for deaths in range(3):
        async with opened(path) as outbox:
            assert outbox.deaths(attempt()) == deaths
            await outbox.started(attempt())
            path = left_by_a_kill(path)

    async with opened(path) as outbox:  # of a process that does not meet it
        assert outbox.deaths(attempt()) == 3
    async with opened(path) as outbox:
        assert outbox.deaths(attempt()) == 3
        await conclude(outbox, "dead letter")
        assert outbox.deaths(attempt()) == 0
    async with opened(path) as outbox:
        assert outbox.deaths(attempt()) == 0
        assert outbox.is_concluded(attempt())


@pytest.mark.parametrize("end", ["returned", "concluded"])
async def test_an_attempt_that_ended_did_not_die_with_its_process(path: Path, end: str) -> None:
    async with opened(path) as outbox:
        await outbox.started(attempt())
        await written(outbox)
        if end == "returned":
            outbox.returned(attempt())
        else:
            await conclude(outbox)
        await written(outbox)
        left = left_by_a_kill(path)

    async with opened(left) as outbox:
        assert outbox.deaths(attempt()) == 0


async def test_an_attempt_that_was_returned_once_and_died_later_died_once(path: Path) -> None:
    async with opened(path) as outbox:
        await outbox.started(attempt())
        outbox.returned(attempt())
        await outbox.started(attempt())
        left = left_by_a_kill(path)

    async with opened(left) as outbox:
        assert outbox.deaths(attempt()) == 1


async def test_a_start_of_this_process_is_no_death(path: Path) -> None:
    """It opens the file again, say because an embedded worker is served again."""
    file = outbox_file(path)
    outbox = DiskOutbox(file)
    async with outbox.open():
        await outbox.started(attempt())

    again = outbox_file(path)
    again.boot = file.boot
    left = again.open()
    again.close()

    assert left.deaths == {}


async def test_a_message_that_goes_back_after_its_conclusion_stays_concluded(path: Path) -> None:
    """Only the ack is missing; its rows are on their way."""
    async with opened(path) as outbox:
        await conclude(outbox, "final")
        outbox.returned(attempt())

    async with opened(path) as outbox:
        assert outbox.is_concluded(attempt())


async def test_started_returns_when_it_is_written(path: Path) -> None:
    writer = HeldWriter()
    outbox = disk_outbox(path, writer=writer.open)
    has_started = trio.Event()

    async def start() -> None:
        await outbox.started(attempt())
        has_started.set()

    async with outbox.open(), trio.open_nursery() as nursery:
        writer.is_held = True
        nursery.start_soon(start)
        await wait_all_tasks_blocked()
        assert not has_started.is_set()
        assert rows_of(path, "state", "mark") == []

        writer.let_go(1)
        with trio.fail_after(10):
            await has_started.wait()
        assert rows_of(path, "state", "mark") == [(RUNS,)]
        writer.let_go()


async def test_rows_are_sent_when_they_are_written_and_not_before(path: Path) -> None:
    """Or the next process meets a message whose end was told already, and knows nothing of it."""
    writer, reception = HeldWriter(), Reception()
    outbox = disk_outbox(path, writer=writer.open)
    async with outbox.open(), reception.delivering(outbox):
        writer.is_held = True
        await conclude(outbox, "final")
        await wait_all_tasks_blocked()
        assert reception.names == []

        writer.let_go()
        await wait_all_tasks_blocked()
        assert reception.names == ["final"]
