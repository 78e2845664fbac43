"""A disk that is full, slow, broken or swept away: the outbox goes on in memory, tells of it, and comes back."""

import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
import trio
from tests.support.disks import HeldWriter, disk_outbox, in_place
from tests.support.reports import FINAL, LOG, RUNNING, B, Reception, attempt, report
from tests.support.stored import Troubles, all_sent, conclude, left_by_a_kill, opened, written
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio.model.errors import ReportsLost
from milvaion_trio.outbox import file as files
from milvaion_trio.outbox import journal, writer
from milvaion_trio.outbox.disk import HEAD_ROWS, DiskOutbox
from milvaion_trio.outbox.memory import MAX_LOG_ROWS
from milvaion_trio.outbox.store import Store

MANY = 3 * HEAD_ROWS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tests.outbox.db"


class Disk:
    """Fails all that would be written while it is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: Callable[[], Exception] | None = None
        self.tries = 0
        for name in ("write", "open"):
            monkeypatch.setattr(Store, name, self._failing(getattr(Store, name)))

    def fill(self) -> None:
        self.error = lambda: failure(sqlite3.OperationalError("database or disk is full"), sqlite3.SQLITE_FULL)

    def break_down(self) -> None:
        self.error = lambda: failure(sqlite3.OperationalError("disk I/O error"), sqlite3.SQLITE_IOERR)

    def mend(self) -> None:
        self.error = None

    def _failing(self, do: Callable[..., object]) -> Callable[..., object]:
        def called(*arguments: object) -> object:
            if self.error is not None:
                self.tries += 1
                raise self.error()
            return do(*arguments)

        return called


def failure(error: sqlite3.DatabaseError, code: int) -> sqlite3.DatabaseError:
    error.sqlite_errorcode = code
    return error


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


# --- a full disk ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [Disk.fill, Disk.break_down], ids=["full", "broken"])
async def test_what_cannot_be_written_is_sent_all_the_same_and_trouble_is_told(
    path: Path, disk: Disk, how: Callable[[Disk], None], autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    reception, troubles = Reception(), Troubles()
    async with opened(path, writer=in_place) as outbox:
        outbox.on_trouble(troubles)
        async with reception.delivering(outbox):
            await conclude(outbox, "before")
            await outbox.drained()
            how(disk)
            with trio.fail_after(10):
                await outbox.started(attempt(B))
                await outbox.conclude(attempt(B), [report(FINAL, "meanwhile", B)])
            assert str(path) in troubles.told[0]
            assert outbox.is_concluded(attempt(B))
            await trio.sleep(60)
            assert len(troubles.told) == 1
            assert disk.tries > 50, "it is tried again about every second"

            disk.mend()
            await troubles.over()
            await conclude(outbox, "after", retry_count=1)
            await outbox.drained()
    assert reception.names == ["before", "meanwhile", "after"]
    assert len(troubles.told) == 2
    assert len([one for one in caplog.records if "cannot be written, it goes on in memory" in one.message]) == 1
    assert len([one for one in caplog.records if "is written again" in one.message]) == 1


async def test_what_came_while_the_disk_was_full_is_written_when_it_has_room(
    path: Path, disk: Disk, autojump_clock: MockClock
) -> None:
    troubles = Troubles()
    async with opened(path, writer=in_place) as outbox:
        outbox.on_trouble(troubles)
        await conclude(outbox, "before")
        await written(outbox)
        disk.fill()
        outbox.add(report(LOG, "log", None))
        await conclude(outbox, "meanwhile", occurrence=B)
        await outbox.started(attempt(retry_count=1))
        assert outbox.statistics().pending == 3
        disk.mend()
        await troubles.over()
        await conclude(outbox, "after", retry_count=1)
        await written(outbox)
        left = left_by_a_kill(path)

    async with opened(left, writer=in_place) as outbox:
        assert outbox.is_concluded(attempt(B))
        assert await all_sent(outbox) == ["before", "log", "meanwhile", "after"]


async def test_what_was_sent_while_the_disk_was_full_is_not_sent_again(
    path: Path, disk: Disk, autojump_clock: MockClock
) -> None:
    """Neither what the file still has, nor what never came into it."""
    troubles = Troubles()
    async with opened(path, writer=in_place) as outbox:
        outbox.on_trouble(troubles)
        await conclude(outbox, "before")
        await written(outbox)
        disk.fill()
        await conclude(outbox, "meanwhile", occurrence=B)
        assert await all_sent(outbox) == ["before", "meanwhile"]
        disk.mend()
        await troubles.over()
        left = left_by_a_kill(path)

    async with opened(left, writer=in_place) as outbox:
        assert outbox.is_concluded(attempt())
        assert outbox.is_concluded(attempt(B))
        assert await all_sent(outbox) == []


async def test_rows_behind_a_full_disk_stay_behind_those_in_the_file(
    path: Path, disk: Disk, autojump_clock: MockClock
) -> None:
    troubles = Troubles()
    names = [f"{number}" for number in range(MANY)]
    async with opened(path, writer=in_place) as outbox:
        outbox.on_trouble(troubles)
        for name in names:
            outbox.add(report(LOG, name, None))
        await written(outbox)
        disk.fill()
        for number in range(100):
            outbox.add(report(LOG, f"held {number}", None))
        await troubles.begun()
        assert await all_sent(outbox) == [*names, *(f"held {number}" for number in range(100))]
        disk.mend()
        await troubles.over()

    async with opened(path, writer=in_place) as outbox:
        assert await all_sent(outbox) == []


async def test_logs_are_bounded_while_they_cannot_be_written(path: Path, disk: Disk, autojump_clock: MockClock) -> None:
    troubles = Troubles()
    async with opened(path, writer=in_place) as outbox:
        outbox.on_trouble(troubles)
        disk.fill()
        outbox.add(report(FINAL, "final", B))
        await troubles.begun()
        taken = [outbox.add(report(LOG, f"{number}")) for number in range(MAX_LOG_ROWS + 5)]
        assert taken == [True] * MAX_LOG_ROWS + [False] * 5
        assert outbox.add(report(FINAL, "another", B))
        disk.mend()
        await troubles.over()
        assert outbox.add(report(LOG, "there is room in the file"))


async def test_a_disk_that_is_full_at_the_start_is_waited_for(
    path: Path, disk: Disk, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    disk.fill()
    opened_at: list[float] = []

    async def open_it() -> None:
        async with opened(path, writer=in_place) as outbox:
            opened_at.append(trio.current_time())
            await conclude(outbox)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_it)
        await trio.sleep(100)
        assert opened_at == []
        disk.mend()
        await trio.sleep(5)
    assert len(opened_at) == 1
    assert len([one for one in caplog.records if "cannot be opened, it is tried until it can" in one.message]) == 1


async def test_trouble_is_told_to_who_asks_late(path: Path, disk: Disk, autojump_clock: MockClock) -> None:
    async with opened(path, writer=in_place) as outbox:
        disk.fill()
        await conclude(outbox)
        await wait_all_tasks_blocked()
        troubles = Troubles()
        outbox.on_trouble(troubles)
        assert "disk is full" in troubles.told[0]
        disk.mend()


async def test_leaving_in_trouble_tries_once_more(path: Path, disk: Disk, autojump_clock: MockClock) -> None:
    async with opened(path, writer=in_place) as outbox:
        disk.fill()
        await conclude(outbox, "final")
        await wait_all_tasks_blocked()
        disk.mend()

    async with opened(path, writer=in_place) as outbox:
        assert await all_sent(outbox) == ["final"]


async def test_leaving_with_what_could_not_be_written_is_told_and_leaves_the_file_to_others(
    path: Path, disk: Disk, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(path, writer=in_place) as outbox:
        disk.fill()
        await conclude(outbox, "final")
        await wait_all_tasks_blocked()

    assert "outbox closed with reports that could not be written, their jobs run again: rows=1" in caplog.messages
    disk.mend()
    async with opened(path, writer=in_place) as outbox:
        assert not outbox.is_concluded(attempt())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mounted], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    yield mounted
    subprocess.run(["umount", mounted], check=True)


def fill(folder: Path) -> Path:
    """Leave no room; the file that took it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return ballast


async def test_a_disk_that_is_really_full_and_has_room_again(small_disk: Path) -> None:
    troubles, reception = Troubles(), Reception()
    path = small_disk / "tests.outbox.db"
    names = [f"{number:04} {'x' * 300}" for number in range(300)]
    async with opened(path) as outbox:
        outbox.on_trouble(troubles)
        outbox.add(report(FINAL, names[0], None))
        await written(outbox)
        ballast = fill(small_disk)
        for name in names[1:]:
            outbox.add(report(FINAL, name, None))
        assert "full" in await troubles.begun() or "I/O" in troubles.told[0]
        ballast.unlink()
        await troubles.over()
        left = left_by_a_kill(path)
        assert await all_sent(outbox, reception) == names

    async with opened(left) as outbox:
        assert await all_sent(outbox) == names
    async with opened(path) as outbox:
        assert await all_sent(outbox) == []


async def test_a_disk_that_is_really_full_at_the_start(small_disk: Path) -> None:
    ballast = fill(small_disk)
    is_open = trio.Event()

    async def open_it() -> None:
        async with opened(small_disk / "tests.outbox.db") as outbox:
            await conclude(outbox)
            assert await all_sent(outbox) == ["final"]
            is_open.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_it)
        with trio.move_on_after(0.3):
            await is_open.wait()
        assert not is_open.is_set()
        ballast.unlink()
        with trio.fail_after(10):
            await is_open.wait()


# --- damage and loss of a file that is open -------------------------------------------------------------------------


def damage(path: Path) -> None:
    """Garble all of it but the first page, which SQLite looks at with every transaction."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))


async def offline_rows(outbox: DiskOutbox, count: int) -> list[str]:
    """More rows than memory holds, the last of which are only in the file. If cancelled, some were added."""
    names = [f"{number}" for number in range(count)]
    for name in names:
        outbox.add(report(LOG, name, None))
    await written(outbox)
    return names


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("harm", [damage, remove])
async def test_a_file_that_is_damaged_or_removed_while_it_is_open_is_replaced(
    path: Path, harm: Callable[[Path], None], autojump_clock: MockClock
) -> None:
    """What memory holds goes on; a conclusion that only the file held is lost, so its job has to run again."""
    troubles, reception = Troubles(), Reception()
    lost = trio.Event()

    async def conclude_into_the_file() -> None:
        with pytest.raises(ReportsLost):
            await outbox.conclude(attempt(), [report(FINAL, "only in the file")])
        lost.set()

    async with opened(path, writer=in_place) as outbox:
        outbox.on_trouble(troubles)
        names = await offline_rows(outbox, MANY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(conclude_into_the_file)
            await wait_all_tasks_blocked()
            await written(outbox)
            store = cast("Store", outbox._file.store)
            store.make_room()  # so that nothing is left of it elsewhere
            store._db.execute("PRAGMA cache_size = 0")
            harm(path)
            outbox.add(report(FINAL, "of memory", B))
            with trio.fail_after(100):
                await lost.wait()
            await all_sent(outbox, reception)
        assert not outbox.is_concluded(attempt())
        assert not any(one for one in reception.names if one == "only in the file")
        head = [name for name in reception.names if name.isdigit()]
        assert head[:HEAD_ROWS] == names[:HEAD_ROWS]
        assert "of memory" in reception.names
        assert troubles.are_over

        await conclude(outbox, "again")
        await written(outbox)
        left = left_by_a_kill(path)
    async with opened(left, writer=in_place) as outbox:
        assert outbox.is_concluded(attempt())
        assert await all_sent(outbox) == ["again"]


async def test_settled_tells_that_reports_are_lost(path: Path, autojump_clock: MockClock) -> None:
    async with opened(path, writer=in_place) as outbox:
        await offline_rows(outbox, MANY)
        await conclude(outbox, "only in the file")
        remove(path)
        outbox.add(report(FINAL, "notices it", B))
        with pytest.raises(ReportsLost), trio.fail_after(100):
            await outbox.settled(attempt())


async def test_a_folder_that_is_swept_away_is_made_again(path: Path, autojump_clock: MockClock) -> None:
    folder = path.parent / "storage"
    troubles = Troubles()
    async with opened(folder / path.name, writer=in_place) as outbox:
        outbox.on_trouble(troubles)
        await conclude(outbox, "before")
        await written(outbox)
        shutil.rmtree(folder)
        await conclude(outbox, "after", occurrence=B)
        await troubles.over()
        assert await all_sent(outbox) == ["before", "after"]

    async with opened(folder / path.name, writer=in_place) as outbox:
        assert outbox.is_concluded(attempt(B))


async def test_a_file_that_was_lost_is_told_when_its_replacement_can_be_written(
    path: Path, disk: Disk, autojump_clock: MockClock
) -> None:
    """The disk is full at the very moment."""
    troubles = Troubles()
    async with opened(path, writer=in_place) as outbox:
        outbox.on_trouble(troubles)
        await offline_rows(outbox, MANY)
        await conclude(outbox, "only in the file")
        remove(path)
        opens = Store.open

        def open_and_fill(store: Store, durability: str) -> None:
            opens(store, durability)
            disk.fill()

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Store, "open", open_and_fill)
            outbox.add(report(FINAL, "notices it", B))
            await troubles.begun()
            await trio.sleep(1.5)
        disk.mend()
        with pytest.raises(ReportsLost), trio.fail_after(100):
            await outbox.settled(attempt())
        assert not outbox.is_concluded(attempt())
        await troubles.over()
        await all_sent(outbox)
    aside = {part.name for part in path.parent.glob("*.corrupt-*") if not part.name.endswith(("-wal", "-shm"))}
    assert aside == set(), "the new one is good"


# --- a disk that hangs ----------------------------------------------------------------------------------------------


async def test_a_disk_that_hangs_stops_neither_rows_that_are_written_nor_the_worker(
    path: Path, autojump_clock: MockClock
) -> None:
    held, reception = HeldWriter(), Reception()
    outbox = disk_outbox(path, writer=held.open)
    async with outbox.open(), reception.delivering(outbox):
        await conclude(outbox, "written")
        await wait_all_tasks_blocked()
        held.is_held = True
        outbox.add(report(RUNNING, "running", B))
        outbox.add(report(LOG, "log", B))
        await trio.sleep(10)
        assert reception.names == ["written", "running"]
        held.let_go()
        await trio.sleep(1)
        assert reception.names == ["written", "running", "log"]


async def test_leaving_does_not_wait_for_a_disk_that_hangs(path: Path, autojump_clock: MockClock) -> None:
    held = HeldWriter()
    outbox = disk_outbox(path, writer=held.open)
    async with outbox.open():
        held.is_held = True
        await conclude(outbox, "final")
        left_at = trio.current_time()
    assert trio.current_time() - left_at == journal.LEAVE_TIMEOUT

    held.work_late()
    async with opened(path, writer=in_place) as outbox:  # the file is free, and has it all
        assert await all_sent(outbox) == ["final"]


async def test_leaving_leaves_a_thread_behind_that_the_disk_holds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "LEAVE_TIMEOUT", 0.1)
    monkeypatch.setattr(writer, "LEAVE_TIMEOUT", 0.1)
    goes_on, has_closed = threading.Event(), threading.Event()
    write, close = Store.write, files.OutboxFile.close

    def hang(store: Store, *batch: object) -> None:
        goes_on.wait(30)
        write(store, *batch)  # type: ignore[arg-type]

    def closed(file: files.OutboxFile) -> None:
        close(file)
        has_closed.set()

    monkeypatch.setattr(files.OutboxFile, "close", closed)
    outbox = disk_outbox(path)
    with trio.fail_after(20):
        async with outbox.open():
            monkeypatch.setattr(Store, "write", hang)
            await conclude(outbox, "final")
            left_at = trio.current_time()
    assert trio.current_time() - left_at < 10

    goes_on.set()
    assert await trio.to_thread.run_sync(has_closed.wait, 10)
    monkeypatch.setattr(Store, "write", write)
    async with opened(path) as later:
        assert await all_sent(later) == ["final"]
