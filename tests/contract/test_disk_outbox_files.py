"""Whose the file of an outbox is, and what becomes of one that is damaged, foreign or not to be written."""

import fcntl
import logging
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import trio
from tests.support.disks import HeldWriter, disk_outbox, outbox_file
from tests.support.reports import LOG, A, B, attempt, report
from tests.support.stored import all_sent, conclude, left_by_a_kill, opened, written

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.outbox.store import SCHEMA_VERSION

NOBODY = 65534
OPEN_AND_STAY = """
import os, sys, time
from pathlib import Path
from milvaion_trio.outbox.file import OutboxFile
file = OutboxFile(Path(sys.argv[1]), "NORMAL", "another")
file.open()
child = os.fork() if sys.argv[2:] else 1
print(child, flush=True) if child else None
time.sleep(60)
"""


def refused(path: Path) -> str:
    """Why it is not opened."""
    file = outbox_file(path)
    with pytest.raises(SettingsError) as caught:
        file.open()
    (problem,) = caught.value.problems
    assert str(path) in problem
    assert "Worker:OfflineResilience:LocalStoragePath" in problem, "it says which setting to change"
    return problem


def bytes_of(path: Path) -> bytes:
    return path.read_bytes()


def can_be_opened(path: Path) -> bool:
    file = outbox_file(path)
    file.open()
    file.close()
    return True


# --- one owner ------------------------------------------------------------------------------------------------------


async def test_a_second_outbox_of_this_process_is_refused(path: Path) -> None:
    async with opened(path) as outbox:
        assert "another worker of this process" in refused(path)
        with pytest.raises(SettingsError):
            async with disk_outbox(path).open():
                raise AssertionError("it opened")
        assert "another worker of this process" in refused(path), "who was refused has let nobody in"
        await conclude(outbox)

    assert can_be_opened(path)


async def test_a_second_outbox_by_another_name_of_the_folder_is_refused(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    async with opened(path):
        assert "another worker of this process" in refused(link / path.name)


@pytest.fixture
def owner(path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a process that has the file until it is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", OPEN_AND_STAY, str(path), *more]
        started.append(process := subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_another_process_is_refused_until_the_owner_is_dead(
    path: Path, owner: Callable[..., subprocess.Popen[str]]
) -> None:
    process = owner()
    assert process.stdout is not None
    process.stdout.readline()

    assert "another worker that runs" in refused(path)
    process.kill()
    process.wait()
    assert can_be_opened(path)


def test_a_child_that_outlives_the_owner_does_not_keep_the_file(
    path: Path, owner: Callable[..., subprocess.Popen[str]]
) -> None:
    """Jobs fork, and what they leave behind has the file descriptors of the worker."""
    process = owner("and fork")
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        os.kill(child, 0)
        assert can_be_opened(path)
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


async def test_who_gives_up_while_the_file_is_opened_leaves_it_to_others(path: Path) -> None:
    """An embedded worker that is cancelled at its start is started again in the same process."""
    writer = HeldWriter(is_held=True)
    with trio.move_on_after(0.1) as scope:
        async with disk_outbox(path, writer=writer.open).open():
            raise AssertionError("it opened")
    assert scope.cancelled_caught
    writer.work_late()

    assert can_be_opened(path)


async def test_an_outbox_may_be_opened_again(path: Path) -> None:
    file = outbox_file(path)
    for _ in range(2):
        file.open()
        assert "another worker of this process" in refused(path)
        file.close()


# --- not to be written ----------------------------------------------------------------------------------------------


def test_a_folder_in_the_place_of_the_file_is_refused(path: Path) -> None:
    path.mkdir()

    assert "is a folder" in refused(path)
    path.rmdir()
    assert can_be_opened(path)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "storage").write_text("")

    assert "cannot be written" in refused(tmp_path / "storage" / "tests.outbox.db")
    assert "cannot be written" in refused(tmp_path / "storage" / "deeper" / "tests.outbox.db")


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_lack_of_permission_is_refused(path: Path, what: str) -> None:
    if what == "file":
        assert can_be_opened(path)
        path.chmod(0o400)
    else:
        path.parent.chmod(0o500)
    if os.geteuid():
        assert "cannot be written" in refused(path)
        return
    child = os.fork()  # as somebody who has fewer rights than root
    if not child:
        code = 1
        try:
            for folder in path.parents[:3]:
                folder.chmod(folder.stat().st_mode | 0o011)
            if what == "file":
                path.parent.chmod(0o777)
                path.with_suffix(".lock").chmod(0o666)
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            assert "cannot be written" in refused(path)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_read_only_file_system_is_refused(tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", mounted], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        assert "Read-only file system" in refused(mounted / "tests.outbox.db")
        assert "Read-only file system" in refused(mounted / "deeper" / "tests.outbox.db")
    finally:
        subprocess.run(["umount", mounted], check=True)


def test_a_file_system_without_locks_is_no_other_worker(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    with pytest.raises(OSError, match="No locks available"):
        outbox_file(path).open()


def test_nobody_else_may_read_it(path: Path) -> None:
    """Bodies are the data of jobs."""
    before = os.umask(0o022)
    try:
        file = outbox_file(path.parent / "storage" / path.name)
        file.open()
        modes = {part.name: part.stat().st_mode & 0o077 for part in (path.parent / "storage").glob("*.db*")}
        file.close()
    finally:
        os.umask(before)

    assert len(modes) == 3
    assert set(modes.values()) == {0}
    assert (path.parent / "storage").stat().st_mode & 0o077 == 0


# --- not as it should be --------------------------------------------------------------------------------------------


async def test_the_file_of_a_newer_version_is_refused_and_left_as_it_is(path: Path) -> None:
    assert can_be_opened(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = bytes_of(path)

    for _ in range(2):  # who was refused has let nobody in
        assert f"version {SCHEMA_VERSION + 1}, this version knows {SCHEMA_VERSION}" in refused(path)
    with pytest.raises(SettingsError, match="newer version"):
        async with disk_outbox(path).open():
            raise AssertionError("it opened")
    assert bytes_of(path) == before


def header_gone(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(100))


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def no_database(path: Path) -> None:
    path.write_bytes(b"Dear diary, " * 1000)


def text_garbled(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"job's log", b"job's lag"))


def kind_garbled(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(f"log{A}".encode(), f"lox{A}".encode()))


def no_utf_8(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(A.encode(), b"\xff" * len(A)))


def mark_garbled(path: Path) -> None:
    garbled = path.read_bytes().replace(f"{A}1775121301".encode(), f"{A}1775121302".encode())
    assert garbled != path.read_bytes()
    path.write_bytes(garbled)


def table_renamed(path: Path) -> None:
    renamed = path.read_bytes().replace(b"CREATE TABLE mark", b"CREATE TABLE bark").replace(b"markmark", b"barkbark")
    path.write_bytes(renamed)


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE report (number INTEGER PRIMARY KEY, kind)")


def foreign_with_our_mark(path: Path) -> None:
    foreign(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA application_id = {0x6D74726F}")


def row_far_away(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"UPDATE report SET number = {2**63 - 1} WHERE number = 1")


@pytest.mark.parametrize(
    "damage",
    [
        header_gone,
        cut_off,
        no_database,
        text_garbled,
        kind_garbled,
        no_utf_8,
        mark_garbled,
        table_renamed,
        foreign,
        foreign_with_our_mark,
        row_far_away,
    ],
)
async def test_a_damaged_file_is_set_aside_and_a_fresh_one_started(
    path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it says is not to be relied on; no guarantee against loss does."""
    async with opened(path) as outbox:
        outbox.add(report(LOG, "a job's log"))
        await conclude(outbox, "final")
    damage(path)
    damaged = bytes_of(path)

    async with opened(path) as outbox:
        # What is damaged in a row only is found when the row is read, at once.
        await all_sent(outbox)
        await written(outbox)
        assert not outbox.is_concluded(attempt())
        await conclude(outbox, "again")
        assert await all_sent(outbox) == ["again"]

    (aside,) = path.parent.glob("*.corrupt-*")
    assert bytes_of(aside) == damaged
    (told,) = [record for record in caplog.records if "is damaged" in record.message]
    assert told.levelno == logging.ERROR
    assert aside.name in told.message
    async with opened(path) as outbox:
        assert outbox.is_concluded(attempt())


async def test_a_second_damaged_file_does_not_replace_the_first(path: Path) -> None:
    for _ in range(3):
        assert can_be_opened(path)
        no_database(path)
        assert can_be_opened(path)

    assert len(list(path.parent.glob("*.corrupt-*"))) == 3


async def test_the_write_ahead_log_of_a_damaged_file_is_not_read_into_the_fresh_one(path: Path) -> None:
    async with opened(path) as outbox:
        await conclude(outbox)
    async with opened(path) as outbox:
        await conclude(outbox, occurrence=B)
        await written(outbox)
        left = left_by_a_kill(path)
    no_database(left)

    async with opened(left) as outbox:
        assert outbox.statistics().pending == 0
        assert not outbox.is_concluded(attempt())
