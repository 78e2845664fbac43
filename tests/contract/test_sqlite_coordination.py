"""Coordination in a file, beyond what every keeper promises: processes that share it, files that are not as they should
be, and what stays when nobody has it open."""

import contextlib
import gc
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio
from attrs import evolve
from tests.support.coordinations import OwnClock

from milvaion_trio.coordination.sqlite import SqliteCoordination, adapter, database
from milvaion_trio.coordination.sqlite.store import Store
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.schedule import Every, RunEnd, Schedule
from milvaion_trio.ports.coordination import LEADER, Token

SCHEDULE = Schedule(id="often", job="j", worker_id="w", pattern="p", when=Every(5.0))
A = OccurrenceId("019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "data" / "coordination.db"


async def lost(place: Path) -> str:
    one = SqliteCoordination(place)
    async with one.open():
        with pytest.raises(LinkLost) as raised:
            await one.put(SCHEDULE, 1)
    return str(raised.value)


# --- what stays -------------------------------------------------------------------------------------------------------


def test_memory_is_closed_with_its_owner_also_in_a_circle() -> None:
    """Python 3.13 warns of a connection that is collected open."""

    class Circle:
        def __init__(self) -> None:
            self.mine, self.me = database.Database(database.MEMORY, lambda: 0.0), self

    circle = Circle()
    with circle.mine.transaction() as (db, _):
        pass

    del circle
    gc.collect()

    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        db.execute("SELECT 1")


def test_it_stays_open_at_the_end_of_the_process() -> None:
    """A thread may have been left behind in a transaction; closed below it, SQLite may crash."""
    program = """
import atexit
from milvaion_trio.coordination.sqlite import database

atexit.register(lambda: print(db.execute("SELECT 'open'").fetchone()))
mine = database.Database(database.MEMORY, lambda: 0.0)
with mine.transaction() as (db, _):
    pass
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "('open',)\n", "")


async def test_everything_is_there_after_a_restart_and_tokens_grow(place: Path) -> None:
    """Also by a clock that stands still, or was set back."""
    clock = OwnClock()
    tokens: list[Token | None] = []
    for restart in range(3):
        one = SqliteCoordination(place, clock)
        async with one.open():
            assert await one.put(SCHEDULE, 1) is (restart == 0)
            assert await one.claim("k", OccurrenceId(f"{restart}"), 1000) == "0"
            token = await one.acquire(LEADER, "me", 10)
            assert token
            tokens.append(token)
            await one.release(LEADER, token)
        clock.now -= 100

    assert tokens == sorted(set(tokens), key=str)


@pytest.mark.parametrize("progress", ["{", "7", '{"disabled":"soon"}'])
async def test_a_schedule_with_a_progress_that_cannot_be_read_can_be_resumed(place: Path, progress: str) -> None:
    one = SqliteCoordination(place, OwnClock())
    async with one.open():
        await one.put(SCHEDULE, 1)
        with contextlib.closing(sqlite3.connect(place, isolation_level=None)) as db:
            db.execute("UPDATE schedule SET progress = ?", (progress,))

            assert await one.resume(SCHEDULE.id, 3000)
            assert db.execute("SELECT resumed FROM schedule").fetchall() == [(3000,)]


async def test_tokens_grow_where_the_file_was_lost(place: Path) -> None:
    clock = OwnClock()
    one = SqliteCoordination(place, clock)
    async with one.open():
        old = await one.acquire(LEADER, "me", 10)
        assert old
    for path in place.parent.iterdir():
        path.unlink()
    clock.now += 1

    async with one.open():
        new = await one.acquire(LEADER, "me", 10)
        assert new
        assert new > old
        assert not await one.advance(old, {}, ())


async def test_leases_of_those_who_died_can_be_ended(place: Path) -> None:
    """By whoever has the file alone. The next holders get larger tokens, and an older leader stays shut out."""
    one = SqliteCoordination(place, OwnClock())
    async with one.open():
        old = await one.acquire(LEADER, "me", 10)
        assert old

        await one.end_leases()

        assert not await one.renew(LEADER, old, 10)
        new = await one.acquire(LEADER, "me", 10)
        assert new
        assert new > old
        assert not await one.advance(old, {}, ())


async def test_memory_lives_as_long_as_its_object() -> None:
    one, other = SqliteCoordination(), SqliteCoordination()
    async with one.open():
        await one.put(SCHEDULE, 1)

    async with one.open(), other.open():
        assert len((await one.read())[1]) == 1
        assert (await other.read())[1] == []


async def test_names_that_never_come_again_leave_nothing_behind(place: Path) -> None:
    clock = OwnClock()
    one = SqliteCoordination(place, clock)
    async with one.open():
        for number in range(5):
            assert await one.acquire(f"occurrence:{number}", "me", 10)
            await one.claim(f"{number}", A, 10)
        clock.now += 11
        await one.acquire("last", "me", 10)
        await one.claim("last", A, 10)

    assert rows(place, "lease") == rows(place, "claim") == 1


def rows(place: Path, table: str) -> int:
    db = sqlite3.connect(place)
    (count,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
    db.close()
    return int(count)


async def test_a_file_is_nobody_elses_to_read(place: Path) -> None:
    one = SqliteCoordination(place)
    async with one.open():
        assert modes(place.parent) == {}  # entering opens nothing
        await one.put(SCHEDULE, 1)

        assert set(modes(place.parent).values()) == {0o600}
        assert modes(place.parent.parent)["data"] == 0o700

    assert list(modes(place.parent)) == ["coordination.db"]  # all is in the one file


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.glob("*")}


async def test_a_path_is_meant_from_where_the_process_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = SqliteCoordination("c.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    async with one.open():
        await one.put(SCHEDULE, 1)

    assert (tmp_path / "c.db").exists()


# --- several at a time ------------------------------------------------------------------------------------------------


def test_many_that_open_a_new_file_at_once_and_want_the_same_come_one_after_the_other(place: Path) -> None:
    """Connections of their own, as processes have them: what one holds, no other does."""
    inside: list[int] = []
    tokens: list[Token] = []
    trouble: list[str] = []
    ready = threading.Barrier(6)

    def work(number: int) -> None:
        mine = Store(str(place), lambda: 0.0)
        try:
            ready.wait()
            while len(tokens) < 60:
                mine.put(evolve(SCHEDULE, data=str(number)), 1)
                token = mine.acquire("a", str(number), 10)
                if token is None:
                    continue
                inside.append(number)
                if inside != [number]:
                    trouble.append(f"{inside} hold it")
                tokens.append(token)
                mine.ended(RunEnd(schedule_id="s", tick=token, status=2, at=0))
                inside.remove(number)
                if not mine.release("a", token):
                    trouble.append("it was not held")
                if token % 3 == 0:
                    mine.close()  # the last one to leave removes the log, while others come
        except Exception as error:
            trouble.append(repr(error))
        finally:
            mine.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert not trouble
    assert tokens == sorted(set(tokens))
    assert rows(place, "ended") == len(tokens)


def test_a_file_that_another_process_makes_right_now_is_waited_for(place: Path) -> None:
    place.parent.mkdir()
    maker = sqlite3.connect(place, isolation_level=None, check_same_thread=False)
    maker.execute("BEGIN IMMEDIATE")
    made = threading.Timer(0.2, maker.execute, ["COMMIT"])
    made.start()
    mine = Store(str(place), lambda: 0.0)

    assert mine.acquire("a", "me", 10)

    made.join()
    mine.close()
    maker.close()


async def test_a_file_that_another_process_keeps_is_told_in_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was stopped inside its transaction, say. Trio goes on meanwhile."""
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.3)
    one = SqliteCoordination(place)
    async with one.open():
        await one.put(SCHEDULE, 1)
        keeper = sqlite3.connect(place, isolation_level=None)
        keeper.execute("BEGIN IMMEDIATE")
        is_waiting = True

        async def wait() -> None:
            nonlocal is_waiting
            with pytest.raises(LinkLost, match="database is locked"):
                await one.pause("often")
            is_waiting = False

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            for _ in range(10):
                await trio.sleep(0.01)
            assert is_waiting
        assert len((await one.read())[1]) == 1  # reading needs no lock
        keeper.execute("ROLLBACK")
        keeper.close()

        assert await one.pause("often")


async def test_a_disk_that_answers_nothing_holds_up_nobody(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "_TIME_LIMIT", 0.1)
    monkeypatch.setattr(adapter, "_LEAVE_TIMEOUT", 0.1)
    answers = threading.Event()
    monkeypatch.setattr(Store, "read", lambda _: answers.wait(30))
    one = SqliteCoordination(place)
    try:
        with trio.fail_after(10):
            async with one.open():
                with pytest.raises(LinkLost, match=r"no answer within 0\.1 s"):
                    await one.read()
    finally:
        answers.set()


# --- files that are not as they should be -----------------------------------------------------------------------------


async def test_a_file_that_was_removed_while_it_was_open_is_made_again(place: Path) -> None:
    """SQLite goes on with what nobody else can find: two would lead."""
    one, other = SqliteCoordination(place), SqliteCoordination(place)
    async with one.open(), other.open():
        assert await one.acquire("a", "me", 10)
        for path in list(place.parent.iterdir()):
            path.unlink()

        assert await other.acquire("a", "you", 10)
        assert await one.acquire("a", "me", 10) is None
        assert await other.acquire("b", "you", 10)
        assert await one.acquire("b", "me", 10) is None


async def test_somebody_elses_database_is_left_alone(place: Path) -> None:
    place.parent.mkdir()
    db = sqlite3.connect(place)
    db.execute("CREATE TABLE theirs (a)")
    db.close()
    before = await trio.Path(place).read_bytes()

    assert await lost(place) == (
        f"the file {place}, which keeps the schedules, cannot be used: it is somebody else's database. "
        "Move it away, and a new one is made, without schedules that only it has"
    )
    assert await trio.Path(place).read_bytes() == before


async def test_a_file_of_a_newer_version_is_left_alone(place: Path) -> None:
    one = SqliteCoordination(place)
    async with one.open():
        await one.put(SCHEDULE, 1)
    db = sqlite3.connect(place)
    db.execute("PRAGMA user_version = 2")
    db.close()

    assert "it was written by a newer version (schema 2, known is 1)" in await lost(place)


async def test_what_is_no_database_is_told(place: Path) -> None:
    place.parent.mkdir()
    await trio.Path(place).write_text("no database " * 1000)

    assert "file is not a database. Move it away" in await lost(place)
    assert f"File exists: {place}" in await lost(place / "below.db")
    assert f"Is a directory: {place.parent}" in await lost(place.parent)
