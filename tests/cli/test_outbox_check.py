"""`check` says where the outbox is and whether a worker could write it, without becoming its owner."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio
from tests.support import servers
from tests.support.commands import run_command
from tests.support.disks import disk_outbox
from tests.support.reports import FINAL, attempt, report
from tests.support.settings_files import write_settings

from milvaion_trio import Worker
from milvaion_trio.cli.findings import Area, Finding, Verdict
from milvaion_trio.cli.outbox_check import look_at_outbox
from milvaion_trio.model.settings import OfflineResilienceSettings, RabbitMQSettings, WorkerSettings
from milvaion_trio.outbox.store import SCHEMA_VERSION

OK, WARNING, FAILED = Verdict.OK, Verdict.WARNING, Verdict.FAILED


def found(folder: Path, *, enabled: bool = True) -> Finding:
    """The one thing that is said."""
    settings = WorkerSettings(
        worker_id="report-worker",
        rabbitmq=RabbitMQSettings(),
        offline_resilience=OfflineResilienceSettings(enabled=enabled, local_storage_path=str(folder)),
    )
    (finding,) = look_at_outbox(Worker(settings=settings))
    assert finding.area is Area.OUTBOX
    return finding


def place(folder: Path) -> Path:
    return folder / "report-worker.outbox.db"


async def made(folder: Path) -> Path:
    """What a worker leaves that had nothing to report."""
    async with disk_outbox(place(folder)).open():
        pass
    return place(folder)


def test_one_that_is_missing_is_as_good_and_is_not_made(tmp_path: Path) -> None:
    finding = found(tmp_path / "some" / "folder")

    assert finding.verdict is OK
    assert finding.text == f"{place(tmp_path / 'some' / 'folder')}: missing, and made when a worker starts"
    assert list(tmp_path.iterdir()) == []


def test_a_relative_folder_is_told_as_it_is_found_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert str(place(tmp_path / "worker_data")) in found(Path("worker_data")).text


async def test_what_waits_is_counted_while_a_worker_has_it(tmp_path: Path) -> None:
    outbox = disk_outbox(place(tmp_path))
    async with outbox.open():
        with trio.move_on_after(0.2):
            await outbox.conclude(attempt(), [report(FINAL, "final")])

        finding = found(tmp_path)

    assert finding == Finding(Area.OUTBOX, OK, f"{place(tmp_path)} can be written; reports waiting: 1")


def test_a_folder_that_cannot_be_made_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    finding = found(tmp_path / "file" / "folder")

    assert finding.verdict is FAILED
    assert f"{tmp_path / 'file'} is no folder (Worker:OfflineResilience:LocalStoragePath)" in finding.text


async def test_a_folder_or_a_file_that_may_not_be_written_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user may be root, whom no permission stops."""
    file = await made(tmp_path)
    ask = os.access
    for forbidden, why in ((tmp_path, f"nothing can be made in {tmp_path}"), (file, "its permissions do not allow it")):
        with monkeypatch.context() as patch:
            patch.setattr(os, "access", lambda path, mode, no=forbidden: path != no and ask(path, mode))

            finding = found(tmp_path)

        assert finding.verdict is FAILED
        assert finding.text.startswith(f"{file} cannot be written: {why} (")


async def test_a_file_of_a_newer_version_fails(tmp_path: Path) -> None:
    """A worker does not start with it."""
    with closing(sqlite3.connect(await made(tmp_path))) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")

    finding = found(tmp_path)

    assert finding.verdict is FAILED
    assert "was written by a newer version of milvaion-trio" in finding.text


def test_what_a_worker_would_set_aside_is_a_warning(tmp_path: Path) -> None:
    place(tmp_path).write_bytes(b"no database at all" * 100)

    finding = found(tmp_path)

    assert finding.verdict is WARNING
    assert "sets it aside and makes a new one" in finding.text
    assert [file.name for file in tmp_path.iterdir()] == [place(tmp_path).name]


def test_one_in_memory_is_told(tmp_path: Path) -> None:
    finding = found(tmp_path, enabled=False)

    assert (finding.verdict, finding.text[:10]) == (OK, "in memory,")


def test_a_worker_without_rabbitmq_has_none() -> None:
    assert list(look_at_outbox(Worker("tests"))) == []


def test_the_command_fails_with_1_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = write_settings(
        tmp_path, servers.new_vhost(), OfflineResilience={"LocalStoragePath": str(tmp_path / "file")}
    )

    ended = run_command("check", "sample_worker:worker", "--config", config)

    assert ended.code == 1
    assert [line.split()[0] for line in ended.lines if " outbox " in line] == ["failed"]
