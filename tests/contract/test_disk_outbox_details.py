"""Small things on which a guarantee of the disk outbox hangs, each seen for itself."""

from pathlib import Path

import pytest
import trio
from tests.support.disks import in_place, outbox_file
from tests.support.reports import LOG, A, B, Reception, attempt, report
from tests.support.stored import FailingDisk, Troubles, all_sent, conclude, left_by_a_kill, opened, written
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio.model.settings import OfflineResilienceSettings, RabbitMQSettings, WorkerSettings
from milvaion_trio.outbox import disk as disks
from milvaion_trio.outbox import store as stores
from milvaion_trio.outbox.batch import Batch
from milvaion_trio.outbox.concluded import Concluded
from milvaion_trio.outbox.disk import DiskOutbox
from milvaion_trio.outbox.store import CONCLUDED, RUNNING, Store
from milvaion_trio.transports import outbox_for


@pytest.mark.parametrize(("durability", "level"), [("NORMAL", 1), ("FULL", 2)])
def test_the_durability_is_what_sqlite_is_told(path: Path, durability: str, level: int) -> None:
    store = Store(path, "boot")
    store.open(durability)
    told = store._db.execute("PRAGMA synchronous").fetchone()
    mode = store._db.execute("PRAGMA journal_mode").fetchone()
    version = store._db.execute("PRAGMA user_version").fetchone()
    store.close()

    assert (told, mode, version) == ((level,), ("wal",), (stores.SCHEMA_VERSION,))


def test_the_durability_of_the_settings_reaches_the_file(tmp_path: Path) -> None:
    offline = OfflineResilienceSettings(local_storage_path=str(tmp_path), durability="FULL")

    outbox = outbox_for(WorkerSettings(rabbitmq=RabbitMQSettings(), offline_resilience=offline))

    assert isinstance(outbox, DiskOutbox)
    assert outbox._file.durability == "FULL"


def test_the_newest_conclusions_are_remembered() -> None:
    concluded = Concluded(2)

    for number in (1, 2, 3):
        concluded.add(attempt(retry_count=number))
    concluded.add(attempt(retry_count=2))
    concluded.add(attempt(retry_count=4))

    assert [one.retry_count for one in concluded] == [2, 4]


async def test_a_new_process_knows_the_newest_conclusions(
    path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path, writer=in_place) as outbox:
        for number in range(5):
            await conclude(outbox, retry_count=number)
    monkeypatch.setattr(disks, "ATTEMPTS_REMEMBERED", 3)

    async with opened(path, writer=in_place) as outbox:
        assert [outbox.is_concluded(attempt(retry_count=number)) for number in range(5)] == [False] * 2 + [True] * 3


async def test_a_job_whose_process_died_is_not_taken_for_concluded(path: Path, autojump_clock: MockClock) -> None:
    async with opened(path, writer=in_place) as outbox:
        await outbox.started(attempt())
        left = left_by_a_kill(path)

    async with opened(left, writer=in_place):
        pass
    async with opened(left, writer=in_place) as outbox:
        assert not outbox.is_concluded(attempt())
        assert outbox.deaths(attempt()) == 1


def test_the_last_word_on_an_attempt_counts_when_it_is_tried_again() -> None:
    first, second = Batch(marks={attempt(): RUNNING}), Batch(marks={attempt(): CONCLUDED})

    assert Batch.of(first, second).marks == {attempt(): CONCLUDED}


async def test_marks_are_bounded_and_the_newest_stay(
    path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "MARKS_KEPT", 20)
    monkeypatch.setattr(stores, "PRUNE_EVERY", 5)
    file = outbox_file(path)
    file.open()
    assert file.store is not None
    for number in range(100):
        file.store.write((), {attempt(retry_count=number): CONCLUDED}, ())
    (count,) = file.store._db.execute("SELECT count(*) FROM mark").fetchone()
    file.close()

    assert 20 <= count <= 25
    async with opened(path, writer=in_place) as outbox:
        assert all(outbox.is_concluded(attempt(retry_count=number)) for number in range(80, 100))


async def test_rows_of_an_outage_are_sent_once_and_in_order_however_often_they_are_tried(
    path: Path, disk: FailingDisk, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than memory's head takes at once; those that come later wait behind them."""
    monkeypatch.setattr(disks, "HEAD_ROWS", 4)
    troubles, reception = Troubles(), Reception()
    async with opened(path, writer=in_place) as outbox:
        outbox.on_trouble(troubles)
        disk.fill()
        for number in range(9):
            outbox.add(report(LOG, f"{number}", None))
        await troubles.begun()
        await trio.sleep(30)
        async with reception.delivering(outbox):
            outbox.add(report(LOG, "9", None))
            await outbox.drained()
        disk.mend()
        await troubles.over()
        assert outbox.statistics().pending == 0
    assert reception.names == [str(number) for number in range(10)]

    async with opened(path, writer=in_place) as outbox:
        assert await all_sent(outbox) == []


async def test_those_who_wait_for_the_next_batch_go_on_when_the_disk_fails(
    path: Path, disk: FailingDisk, autojump_clock: MockClock
) -> None:
    async with opened(path, writer=in_place) as outbox, trio.open_nursery() as nursery:
        await written(outbox)
        disk.fill()
        nursery.start_soon(outbox.started, attempt(A))
        nursery.start_soon(outbox.started, attempt(B))
        with trio.fail_after(5):
            await wait_all_tasks_blocked()
        assert not nursery.child_tasks
        disk.mend()


async def test_a_job_that_changes_the_folder_does_not_change_the_outbox(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    async with opened(Path("relative.outbox.db"), writer=in_place) as outbox:
        await conclude(outbox, "before")
        await written(outbox)
        monkeypatch.chdir(tmp_path / "elsewhere")
        await conclude(outbox, "after", retry_count=1)
        await written(outbox)

    assert list((tmp_path / "elsewhere").iterdir()) == []
    monkeypatch.chdir(tmp_path)
    async with opened(Path("relative.outbox.db"), writer=in_place) as outbox:
        assert await all_sent(outbox) == ["before", "after"]


async def test_a_clean_stop_is_no_death_even_if_the_disk_is_full(
    path: Path, disk: FailingDisk, autojump_clock: MockClock
) -> None:
    """That the job was given back could not be written; that the process left cleanly needs no room."""
    async with opened(path, writer=in_place) as outbox:
        await outbox.started(attempt())
        disk.fill()
        outbox.returned(attempt())
    disk.mend()

    async with opened(path, writer=in_place) as outbox:
        assert outbox.deaths(attempt()) == 0


async def test_a_conclusion_that_memory_still_has_outlives_the_file(path: Path, autojump_clock: MockClock) -> None:
    """A log of the same job was only in the file that was removed; the conclusion is known to the new one."""
    troubles = Troubles()
    async with opened(path, writer=in_place) as outbox:
        outbox.on_trouble(troubles)
        outbox.add(report(LOG, "log"))
        await conclude(outbox, "before", occurrence=B)
        await written(outbox)
        await trio.Path(path).unlink()
        outbox.add(report(LOG, "another", None))
        await troubles.begun()
        await conclude(outbox, "final")
        await troubles.over()
        await written(outbox)
        left = left_by_a_kill(path)
        assert outbox.is_concluded(attempt())

    async with opened(left, writer=in_place) as outbox:
        assert outbox.is_concluded(attempt())
        assert outbox.is_concluded(attempt(B))
        assert sorted(await all_sent(outbox)) == ["another", "before", "final", "log"]
