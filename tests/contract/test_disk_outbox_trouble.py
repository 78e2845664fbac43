"""A disk that is full or broken: the outbox goes on in memory, tells of it, and comes back by itself."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from tests.support.disks import in_place
from tests.support.reports import FINAL, LOG, B, Reception, attempt, report
from tests.support.stored import FailingDisk, Troubles, all_sent, conclude, left_by_a_kill, opened, written
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio.outbox.disk import HEAD_ROWS
from milvaion_trio.outbox.memory import MAX_LOG_ROWS

MANY = 3 * HEAD_ROWS


@pytest.mark.parametrize("how", [FailingDisk.fill, FailingDisk.break_down], ids=["full", "broken"])
async def test_what_cannot_be_written_is_sent_all_the_same_and_trouble_is_told(
    path: Path,
    disk: FailingDisk,
    how: Callable[[FailingDisk], None],
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
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
    path: Path, disk: FailingDisk, autojump_clock: MockClock
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
    path: Path, disk: FailingDisk, autojump_clock: MockClock
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
    path: Path, disk: FailingDisk, autojump_clock: MockClock
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


async def test_logs_are_bounded_while_they_cannot_be_written(
    path: Path, disk: FailingDisk, autojump_clock: MockClock
) -> None:
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
    path: Path, disk: FailingDisk, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
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


async def test_trouble_is_told_to_who_asks_late(path: Path, disk: FailingDisk, autojump_clock: MockClock) -> None:
    async with opened(path, writer=in_place) as outbox:
        disk.fill()
        await conclude(outbox)
        await wait_all_tasks_blocked()
        troubles = Troubles()
        outbox.on_trouble(troubles)
        assert "disk is full" in troubles.told[0]
        disk.mend()


async def test_leaving_in_trouble_tries_once_more(path: Path, disk: FailingDisk, autojump_clock: MockClock) -> None:
    async with opened(path, writer=in_place) as outbox:
        disk.fill()
        await conclude(outbox, "final")
        await wait_all_tasks_blocked()
        disk.mend()

    async with opened(path, writer=in_place) as outbox:
        assert await all_sent(outbox) == ["final"]


async def test_leaving_with_what_could_not_be_written_is_told_and_leaves_the_file_to_others(
    path: Path, disk: FailingDisk, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
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
    """A file system of 4 MB."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", mounted], capture_output=True, check=False)
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
    names = [f"{number:04} {'x' * 300}" for number in range(1_000)]
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
