"""Each process of a worker has an outbox of its own, the same one at every start; none is overlooked later."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import trio
from attrs import evolve
from tests.support import servers
from tests.support.commands import call_command
from tests.support.disks import disk_outbox
from tests.support.reports import FINAL, attempt, report
from tests.support.settings_files import write_settings

from milvaion_trio.cli import lifeline, outbox_folders
from milvaion_trio.cli.failures import CommandFailed
from milvaion_trio.cli.outbox_folders import left_behind, of_all, of_process, wait_for_leaving
from milvaion_trio.model.settings import OfflineResilienceSettings, RabbitMQSettings, WorkerSettings
from milvaion_trio.transports import outbox_place


@pytest.fixture
def settings(tmp_path: Path) -> WorkerSettings:
    offline = OfflineResilienceSettings(local_storage_path=str(tmp_path))
    return WorkerSettings(worker_id="report-worker", rabbitmq=RabbitMQSettings(), offline_resilience=offline)


async def leave_behind(settings: WorkerSettings, process: int, reports: int) -> Path:
    """An outbox of this process with so many reports in it."""
    place = outbox_place(of_process(settings, process))
    outbox = disk_outbox(place)
    async with outbox.open():
        with trio.move_on_after(0.1):
            await outbox.conclude(attempt(), [report(FINAL, f"{process} {number}") for number in range(reports)])
    return place


def test_the_first_process_has_the_outbox_of_a_worker_that_is_alone(settings: WorkerSettings, tmp_path: Path) -> None:
    """So nothing is left behind by who goes from one to several, or back."""
    places = [outbox_place(of_process(settings, number)) for number in (1, 2, 12)]

    assert places == [
        tmp_path / "report-worker.outbox.db",
        tmp_path / "process-2" / "report-worker.outbox.db",
        tmp_path / "process-12" / "report-worker.outbox.db",
    ]


async def test_those_that_no_process_has_any_more_are_found(settings: WorkerSettings, tmp_path: Path) -> None:
    """If something waits in them; other groups of workers and other folders are nobody's business."""
    for number, reports in ((1, 1), (2, 1), (3, 2), (4, 0), (12, 1)):
        await leave_behind(settings, number, reports)
    await leave_behind(evolve(settings, worker_id="another"), 5, 1)
    (tmp_path / "process-x").mkdir()
    (tmp_path / "process-6").touch()

    found = {number: list(left_behind(evolve(settings, processes=number))) for number in (0, 2, 4, 12)}

    third, twelfth = ((outbox_place(of_process(settings, each)), reports) for each, reports in ((3, 2), (12, 1)))
    second = outbox_place(of_process(settings, 2))
    assert found == {0: [(second, 1), third, twelfth], 2: [third, twelfth], 4: [twelfth], 12: []}
    assert [number for number, _ in of_all(settings)] == [1, 2, 3, 4, 12]


def test_a_process_that_leaves_is_waited_for_and_one_that_stays_is_not(
    settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor that was killed may be started again before its processes have left. Who is told to leave, does."""
    monkeypatch.setattr(outbox_folders, "LEAVING", 1.0)
    lock = trio.run(leave_behind, settings, 1, 0).with_suffix(".lock")
    program = (
        "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        began = time.monotonic()
        with pytest.raises(CommandFailed, match="belongs to another worker that runs"):
            wait_for_leaving(settings, lambda: False)
        stayed = time.monotonic() - began
        asked = iter([False, False, True])
        wait_for_leaving(settings, lambda: next(asked))
        threading.Timer(0.2, other.stdin.close).start()
        began = time.monotonic()
        wait_for_leaving(settings, lambda: False)
        left = time.monotonic() - began

    assert stayed >= 1.0
    assert 0.1 <= left < 1.0
    assert next(asked, None) is None


def test_it_is_waited_as_long_as_a_process_without_its_supervisor_may_live() -> None:
    assert outbox_folders.LEAVING > lifeline.BETWEEN + lifeline.LEAVING


async def test_all_of_them_are_listed_and_those_that_are_free_are_sent(tmp_path: Path) -> None:
    vhost = servers.new_vhost()
    config = write_settings(tmp_path, vhost, OfflineResilience={"LocalStoragePath": str(tmp_path / "data")})
    offline = OfflineResilienceSettings(local_storage_path=str(tmp_path / "data"))
    settings = WorkerSettings(worker_id="report-worker", rabbitmq=RabbitMQSettings(), offline_resilience=offline)
    places = [await leave_behind(settings, number, number) for number in (1, 2, 3)]

    listed = json.loads((await call_command("outbox", "list", "--json", "--limit", "2", "--config", config)).out)
    shown = await call_command("outbox", "list", "--limit", "2", "--config", config)
    async with disk_outbox(places[1]).open():
        flushed = await call_command("outbox", "flush", "--timeout", "0.5", "--config", config)

    assert (listed["waiting"], listed["paths"], listed["path"]) == (6, [str(place) for place in places], str(places[0]))
    assert [row["path"] for row in listed["reports"]] == [str(places[0]), str(places[1])]
    assert f"{places[1]}: 2 reports waiting, of which 1 are shown." in shown.err
    assert flushed.code == 1  # there is no queue for them, so that all three have something to tell
    assert [f"stay in {places[0]}" in flushed.err, f"{places[1]} belongs to" in flushed.err] == [True, True]
    assert f"stay in {places[2]}" in flushed.err
