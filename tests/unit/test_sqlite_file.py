"""What every SQLite file of ours stands on: a transaction is whole or nothing, and an error has one code."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from milvaion_trio.disk.sqlite_file import error_code, opened, transaction


def test_opening_a_file_again_gives_back_no_lock_that_is_held_on_it(tmp_path: Path) -> None:
    """As closing any descriptor of it would: a process has its locks in common."""
    path = tmp_path / "data.db"
    first, place = opened(path, busy_seconds=0.1)
    first.execute("BEGIN EXCLUSIVE")
    second, same_place = opened(path, busy_seconds=0.1)

    begin = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0.1).execute('BEGIN IMMEDIATE')"
    other = subprocess.run([sys.executable, "-c", begin, path], capture_output=True, text=True, check=False)

    first.close()
    second.close()
    assert place == same_place
    assert path.stat().st_mode & 0o777 == 0o600
    assert "database is locked" in other.stderr


def test_a_link_to_nothing_is_made_where_it_leads_and_for_nobody_else(tmp_path: Path) -> None:
    path, target = tmp_path / "link.db", tmp_path / "data.db"
    path.symlink_to(target)

    db, place = opened(path, busy_seconds=0.1)

    db.execute("CREATE TABLE one (value)")
    db.close()
    assert target.stat().st_mode & 0o777 == 0o600
    assert place == (target.stat().st_dev, target.stat().st_ino)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_of_what_is_interrupted_nothing_stays_and_the_next_one_begins(error: type[BaseException]) -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute("CREATE TABLE one (value)")
    with pytest.raises(error):
        _interrupted(db, error)

    with transaction(db):
        db.execute("INSERT INTO one VALUES (2)")

    assert db.execute("SELECT value FROM one").fetchall() == [(2,)]
    db.close()


def _interrupted(db: sqlite3.Connection, error: type[BaseException]) -> None:
    with transaction(db):
        db.execute("INSERT INTO one VALUES (1)")
        raise error


@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY, sqlite3.SQLITE_BUSY_SNAPSHOT])
def test_every_kind_of_an_error_counts_as_that_error(code: int) -> None:
    """SQLite says more than the manual of the error has: who waits for a lock waits for all kinds of it."""
    error = sqlite3.OperationalError("busy")
    error.sqlite_errorcode = code

    assert error_code(error) == sqlite3.SQLITE_BUSY
    assert error_code(OSError()) == -1
