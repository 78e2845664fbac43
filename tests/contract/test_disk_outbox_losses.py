"""A file that is damaged or swept away while it is open, and a disk that hangs."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import trio
from tests.support.disks import HeldWriter, disk_outbox, in_place
from tests.support.reports import FINAL, LOG, RUNNING, B, Reception, attempt, report
from tests.support.stored import FailingDisk, Troubles, all_sent, conclude, left_by_a_kill, opened, written
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio.disk import writer
from milvaion_trio.model.errors import ReportsLost
from milvaion_trio.outbox import file as files
from milvaion_trio.outbox import journal
from milvaion_trio.outbox.disk import HEAD_ROWS, DiskOutbox
from milvaion_trio.outbox.store import Store

MANY = 3 * HEAD_ROWS


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
        await written(outbox)
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
    path: Path, disk: FailingDisk, autojump_clock: MockClock
) -> None:
    """The disk is full at the very moment."""
    troubles = Troubles()
    async with opened(path, writer=in_place) as outbox:
        outbox.on_trouble(troubles)
        await offline_rows(outbox, MANY)
        await conclude(outbox, "only in the file")
        await written(outbox)
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
    held, reception, troubles = HeldWriter(), Reception(), Troubles()
    outbox = disk_outbox(path, writer=held.open)
    async with outbox.open(), reception.delivering(outbox):
        outbox.on_trouble(troubles)
        await conclude(outbox, "written")
        await wait_all_tasks_blocked()
        held.is_held = True
        outbox.add(report(RUNNING, "running", B))
        outbox.add(report(LOG, "log", B))
        await trio.sleep(journal.SLOW - 1)
        assert reception.names == ["written", "running"]
        with trio.fail_after(journal.SLOW + 2):  # then it is told, and memory goes on
            await outbox.started(attempt(B))
            await outbox.conclude(attempt(B), [report(FINAL, "final", B)])
        assert troubles.told[0].endswith("the disk has not answered for 3 s")
        held.let_go()
        await troubles.over()
        assert reception.names == ["written", "running", "log", "final"]
        await outbox.drained()
    assert reception.names == ["written", "running", "log", "final"]


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
