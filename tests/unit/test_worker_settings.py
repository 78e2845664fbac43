"""Where a worker has its settings from, and what it says of those without effect."""

import json
import logging
import os
from pathlib import Path

import pytest

from milvaion_trio import Worker


@pytest.fixture(autouse=True)
def nothing_else_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by a file in the current folder nor by a variable."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith(("WORKER__", "JOBCONSUMERS__", "MILVAION_TRIO_")):
            monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "other.json"
    path.write_text('{"Worker": {"WorkerId": "filed-worker", "MaxParalelJobs": 3}}')
    return path


def test_a_file_holds_although_settings_were_read_before(config: Path) -> None:
    """A module may look at them while it is imported, and `run --config` comes behind that."""
    worker = Worker()
    assert worker.settings.worker_id == "worker"

    worker.configure(config)

    assert worker.settings.worker_id == "filed-worker"
    assert worker.instance_id.startswith("filed-worker-")


def test_leases_and_schedules_are_where_the_last_settings_say(tmp_path: Path) -> None:
    """Also where the worker was prepared by others: else signals would go to one Redis, and leases to another."""
    worker = Worker(config=naming(tmp_path, "one"))
    worker.prepare()

    worker.configure(naming(tmp_path, "two"))

    assert worker.coordination is not None
    assert "two:6379" in worker.coordination.name


def naming(folder: Path, host: str) -> Path:
    """Settings with RabbitMQ and Redis there."""
    path = folder / f"{host}.json"
    servers = {"RabbitMQ": {"Host": host}, "Redis": {"ConnectionString": f"{host}:6379"}}
    path.write_text(json.dumps({"Worker": servers}))
    return path


def test_what_has_no_effect_is_logged_once_when_settings_are_read(
    config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(config=config)
    assert caplog.records == []  # building one only records

    for _ in range(2):
        assert worker.settings.worker_id == "filed-worker"

    (record,) = caplog.records
    assert (record.name, record.levelno) == ("milvaion_trio", logging.WARNING)
    assert record.getMessage().endswith(
        "Worker:MaxParalelJobs is no setting and is ignored; did you mean Worker:MaxParallelJobs?"
    )
