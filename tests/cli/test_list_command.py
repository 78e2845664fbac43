"""`list` shows the jobs as the worker will understand them, to people and to programs."""

import json
from pathlib import Path

from tests.support.commands import run_command


def test_each_job_has_a_row_with_its_policy_and_one_with_its_queue() -> None:
    ended = run_command("list", "sample_worker:worker")

    rows = [line.split() for line in ended.lines]
    assert ended.code == 0
    assert ended.err == ""
    assert ["Job", "Runs", "as", "Parallel", "Timeout", "Retries", "Data"] in rows
    assert ["GenerateReportJob", "task", "4", "60", "s", "2", "from", "0.05", "s", "ReportRequest"] in rows
    assert ["CleanupJob", "thread", "1", "300", "s", "none", "none"] in rows
    assert ["SendInvoiceJob", "task", "10", "none", "3", "from", "60", "s", "Invoice"] in rows
    assert ["CleanupJob", "scheduled_jobs_queue.report-worker.cleanup.wildcard"] in rows
    assert ["report-worker.cleanup.*"] in rows


def test_as_json_every_fact_has_its_type() -> None:
    ended = run_command("list", "sample_worker:worker", "--json")

    jobs = json.loads(ended.out)
    assert ended.code == 0
    assert [job["name"] for job in jobs] == ["GenerateReportJob", "CleanupJob", "SendInvoiceJob"]
    assert jobs[0] == {
        "name": "GenerateReportJob",
        "queue": "scheduled_jobs_queue.report-worker.generatereport.wildcard",
        "routing_patterns": ["report-worker.generatereport.*"],
        "run": "task",
        "max_parallel": 4,
        "timeout": 60,
        "max_retries": 2,
        "base_retry_delay": 0.05,
        "data": "ReportRequest",
        "schedules": [],
    }
    assert jobs[1]["data"] is None
    assert jobs[2]["timeout"] is None


def test_schedules_of_code_and_settings_are_shown(tmp_path: Path) -> None:
    """In `check` too; without any, neither says a word of them."""
    (tmp_path / "milvaion.toml").write_text('[schedules.nightly]\njob = "CleanupJob"\ncron = "0 30 2 * * *"\n')
    config = ("--config", tmp_path / "milvaion.toml")

    tables = run_command("list", "sample_worker:worker", *config)
    jobs = json.loads(run_command("list", "sample_worker:worker", "--json", *config).out)
    checked = run_command("check", "sample_worker:worker", *config)

    assert ["nightly", "CleanupJob", "0", "30", "2", "*", "*", "*", "UTC"] in [line.split() for line in tables.lines]
    assert [job["schedules"] for job in jobs] == [
        [],
        [{"id": "nightly", "cron": "0 30 2 * * *", "timezone": "UTC"}],
        [],
    ]
    assert "schedules nightly: CleanupJob, 0 30 2 * * * UTC" in checked.out
    assert "Schedule" not in run_command("list", "sample_worker:worker").out


def test_the_version_is_the_package_s() -> None:
    from importlib.metadata import version

    assert run_command("--version").out == f"{version('milvaion-trio')}\n"


def test_every_command_is_listed_and_explained_with_an_example() -> None:
    overview = run_command("--help")

    for name in ("demo", "dev", "enqueue", "cancel", "run", "list", "check", "topology"):
        assert f" {name} " in overview.out
    assert "milvaion-trio run app.jobs:worker --burst" in run_command("run", "--help").out
