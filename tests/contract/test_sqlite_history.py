"""What only a history in a file has to answer for: its file, its disk, other processes."""

import multiprocessing
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from tests.support.histories import NOW, line, numbered, occurrence

from milvaion_trio.history.sqlite import SQLiteHistory
from milvaion_trio.history.sqlite.file import VERSION
from milvaion_trio.model.errors import StoreUnavailable
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.ports.history import OccurrenceQuery, Rows

BATCH = 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "history.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteHistory]:
    with SQLiteHistory(path) as store:
        store.save(Rows(occurrences=[occurrence(1)]))
        yield store


def sql(store: SQLiteHistory, statement: str) -> None:
    """Hurt the connection of a store in a way that a disk would."""
    connection = store._file._connection
    assert connection is not None
    connection.execute(statement)


def refusal(work: Callable[[], object]) -> str:
    with pytest.raises(StoreUnavailable) as raised:
        work()
    return str(raised.value)


# --- the file ---------------------------------------------------------------------------------------------------------


def test_its_folder_is_made_and_its_name_is_the_whole_path(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent.parent)

    with SQLiteHistory(Path("folder/history.db")) as store:
        assert store.name == str(path)
        monkeypatch.chdir("/")
        store.save(Rows(occurrences=[occurrence(1)]))
    assert path.exists()


def test_only_its_owner_may_read_it(path: Path, store: SQLiteHistory) -> None:
    """Data, results and logs of jobs are in it; also in what SQLite puts beside it."""
    modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}

    assert modes == dict.fromkeys(["history.db", "history.db-wal", "history.db-shm"], 0o600)


def test_it_can_be_opened_again(path: Path) -> None:
    store = SQLiteHistory(path)
    for number in range(3):
        with store:
            store.save(Rows(occurrences=[occurrence(number)]))
    with store:
        assert store.counts() == {0: 3}


def test_a_file_of_a_newer_version_is_left_alone(path: Path, store: SQLiteHistory) -> None:
    sql(store, f"PRAGMA user_version = {VERSION + 1}")

    said = refusal(SQLiteHistory(path).__enter__)

    assert f"newer milvaion-trio: its tables have version {VERSION + 1}, this one knows {VERSION}" in said
    assert str(path) in said
    assert "Worker:Monitor:Store" in said


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE occurrences (id)")
    connection.close()
    before = path.read_bytes()

    assert "is a database of another program" in refusal(SQLiteHistory(path).__enter__)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    path.write_text("notes of somebody " * 200)

    assert "no database, or damaged. Move it away" in refusal(SQLiteHistory(path).__enter__)
    assert path.read_text() == "notes of somebody " * 200


@pytest.mark.parametrize("place", ["/proc/nothing/history.db", "/dev/null/history.db", "/tmp"])
def test_a_place_where_no_file_can_be_says_where_to_look(place: str) -> None:
    said = refusal(SQLiteHistory(Path(place)).__enter__)

    assert said.startswith(f"The history {place} is not to be had: ")
    assert "Worker:Monitor:Store" in said


# --- the disk ---------------------------------------------------------------------------------------------------------


def test_a_full_disk_loses_nothing_and_is_over_when_there_is_room(store: SQLiteHistory) -> None:
    [(pages,)] = store._file._connection.execute("PRAGMA page_count")  # type: ignore[union-attr]
    sql(store, f"PRAGMA max_page_count = {pages}")
    rows = Rows(occurrences=[occurrence(2, result="x" * 50_000)], lines=[line(1, 0)])

    said = refusal(lambda: store.save(rows))

    assert "its disk is full. Make room, or keep less (Worker:Monitor:RetentionDays)" in said
    assert (store.counts(), store.lines(numbered(1))) == ({0: 1}, []), "all of it or nothing"
    sql(store, "PRAGMA max_page_count = 1000000")
    store.save(rows)
    assert (store.counts(), store.lines(numbered(1))) == ({0: 2}, [line(1, 0)])


def test_what_cannot_be_kept_leaves_nothing_of_what_came_with_it(store: SQLiteHistory) -> None:
    """The monitor finds the row by halves, and writes the others again."""
    with pytest.raises(OverflowError):
        store.save(Rows(occurrences=[occurrence(2), occurrence(3, status=2**70)]))

    assert store.counts() == {0: 1}
    store.save(Rows(occurrences=[occurrence(2)]))
    assert store.counts() == {0: 2}


def test_a_file_that_cannot_be_written_can_be_read(store: SQLiteHistory) -> None:
    sql(store, "PRAGMA query_only = ON")  # the same refusal as a missing right, which root does not miss

    said = refusal(lambda: store.save(Rows(occurrences=[occurrence(2)])))

    assert "it cannot be written. Give this user the right" in said
    assert store.counts() == {0: 1}


def test_a_damaged_file_says_what_to_do(path: Path) -> None:
    with SQLiteHistory(path) as store:
        store.save(Rows(occurrences=[occurrence(number, result="x" * 3000) for number in range(50)]))
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)

    with SQLiteHistory(path) as store:
        said = refusal(lambda: store.find(OccurrenceQuery()))

    assert "it is damaged. Move it away, with its -wal and -shm, and a new one is made" in said


def test_a_file_that_is_taken_away_is_made_again(path: Path, store: SQLiteHistory) -> None:
    """Else all that is written would go to a file without a name, and be gone with the process."""
    shutil.rmtree(path.parent)

    store.save(Rows(occurrences=[occurrence(2)]))

    with SQLiteHistory(path) as other:
        assert [row.id for row in other.find(OccurrenceQuery())] == [numbered(2)]


def test_a_file_that_another_one_holds_says_so(
    path: Path, store: SQLiteHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("milvaion_trio.history.sqlite.file.BUSY_SECONDS", 0.05)
    with SQLiteHistory(path) as other:
        sql(store, "BEGIN EXCLUSIVE")

        assert "another process has locked it" in refusal(lambda: other.save(Rows(occurrences=[occurrence(2)])))
        assert other.counts() == {0: 1}, "readers do not wait"
        sql(store, "ROLLBACK")
        other.save(Rows(occurrences=[occurrence(2)]))


# --- other processes --------------------------------------------------------------------------------------------------


def keep_writing(path: Path, told: Connection) -> None:
    """As a monitor does: batches, each told of when it was saved."""
    with SQLiteHistory(path) as store:
        for batch in range(100_000):
            ids = range(batch * BATCH, (batch + 1) * BATCH)
            rows = [occurrence(number, number, status=OccurrenceStatus.RUNNING) for number in ids]
            store.save(Rows(occurrences=rows, lines=[line(number, 0) for number in ids]))
            told.send(batch)


def test_others_read_whole_batches_while_a_monitor_writes_and_keep_what_it_saved_when_it_is_killed(path: Path) -> None:
    parent, child = multiprocessing.Pipe()
    writer = multiprocessing.get_context("spawn").Process(target=keep_writing, args=(path, child), daemon=True)
    writer.start()
    saved = 0
    with SQLiteHistory(path) as reader:
        while saved < 60:
            assert parent.poll(30)
            saved = parent.recv()
            seen = reader.counts().get(1, 0)
            assert seen >= (saved + 1) * BATCH
            assert seen % BATCH == 0, "a batch is there as a whole or not at all"
            newest = reader.find(OccurrenceQuery(limit=1))[0]
            assert len(reader.lines(newest.id)) == 1
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join(30)
        child.close()
        while parent.poll():
            try:
                saved = parent.recv()
            except EOFError:
                break
        assert reader.counts()[1] >= (saved + 1) * BATCH


@pytest.mark.parametrize("limit", [1, 7])
def test_old_ones_go_in_bounded_portions_also_when_there_are_many(store: SQLiteHistory, limit: int) -> None:
    ended = OccurrenceStatus.COMPLETED
    store.save(Rows(occurrences=[occurrence(number, -number, status=ended) for number in range(10, 31)]))

    deleted = []
    while portion := store.delete_before(NOW, limit):
        deleted.append(portion)

    assert sum(deleted) == 21
    assert max(deleted) == limit
    assert store.counts() == {0: 1}


def test_sqlite_is_imported_by_those_only_who_have_a_file() -> None:
    """Importing the choice must not cost what it does not choose."""
    import subprocess

    code = "import milvaion_trio.history.choosing, sys; print([m for m in ('sqlite3', 'pymongo') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.strip() == "[]"
