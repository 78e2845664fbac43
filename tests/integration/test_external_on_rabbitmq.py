"""Runs of other schedulers on a real RabbitMQ, beside the played API, as plain programs report them: from threads."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trio
from apscheduler.schedulers.background import BackgroundScheduler  # type: ignore[import-untyped]
from tests.support.api_model.database import ENDS, Occurrence
from tests.support.api_model.database import OccurrenceStatus as S
from tests.support.api_model.server import ApiServer, api_server
from tests.support.cluster import Cluster, cluster
from tests.support.servers import HOST, RabbitMQServer

from milvaion_trio import ExternalScheduler, WorkerSettings
from milvaion_trio.external import introductions, reporter
from milvaion_trio.model.settings import HeartbeatSettings, RabbitMQSettings


@pytest.fixture(autouse=True)
def _prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The played API stores what it has read at once."""
    monkeypatch.setattr(introductions, "REGISTRY_STORES", 0.05)
    monkeypatch.setattr(introductions, "TRACKER_STORES", 0.1)
    monkeypatch.setattr(reporter, "TRACKER_STORES", 0.1)


def reporting_to(rabbitmq: RabbitMQSettings, beats: float = 30.0) -> ExternalScheduler:
    heartbeat = HeartbeatSettings(interval=beats, job_interval=beats)
    settings = WorkerSettings(worker_id="nightly", rabbitmq=rabbitmq, heartbeat=heartbeat)
    return ExternalScheduler.from_settings(settings)


def kept(api: ApiServer, external_id: str) -> list[Occurrence]:
    ids = {job.id for job in api.model.database.jobs.values() if job.external_id == external_id}
    return [each for each in api.model.database.occurrences.values() if each.job_id in ids]


def ended(api: ApiServer, count: int) -> bool:
    ends = [each for each in api.model.database.occurrences.values() if each.status in ENDS]
    return len(ends) == count


async def test_runs_in_many_threads_are_told_with_logs_and_errors() -> None:
    """Nested too, and from the thread's own pool; the API is content with all of it."""

    def one(number: int) -> None:
        with milvaion.track("outer") as run:
            run.log("info", "begins", number=number)
            try:
                with milvaion.track("inner"):
                    if number % 3 == 0:
                        raise ValueError(f"bad {number}")
            except ValueError as error:
                run.log("error", str(error))
            run.result(number)

    def program() -> None:
        with milvaion, ThreadPoolExecutor(5) as pool:
            list(pool.map(one, range(20)))

    async with cluster() as here:
        milvaion = reporting_to(here.rabbitmq_settings)
        await trio.to_thread.run_sync(program)
        await here.api.until(lambda: ended(here.api, 40))
        await here.api.until_idle()

    outer, inner = kept(here.api, "outer"), kept(here.api, "inner")
    assert sorted(int(run.result or "") for run in outer) == list(range(20))
    assert sorted(run.status for run in inner) == [S.COMPLETED] * 13 + [S.FAILED] * 7
    assert all("begins" in [line.message for line in run.logs] for run in outer)


async def test_a_run_that_goes_on_is_alive() -> None:
    def program() -> None:
        with milvaion, milvaion.track("long"):
            assert over.wait(30)

    over = threading.Event()
    async with cluster() as here, trio.open_nursery() as nursery:
        milvaion = reporting_to(here.rabbitmq_settings, beats=0.3)
        nursery.start_soon(trio.to_thread.run_sync, program)
        await here.api.until(lambda: any(run.last_heartbeat is not None for run in kept(here.api, "long")))
        over.set()
        await here.api.until(lambda: ended(here.api, 1))


async def test_an_apscheduler_is_told_from_its_threads() -> None:
    """Two jobs, one of which fails and one of which comes too late."""

    def fail() -> None:
        raise LookupError("no such table")

    def program() -> None:
        scheduler = BackgroundScheduler(timezone="UTC")
        with milvaion:
            milvaion.watch(scheduler)
            scheduler.start()
            scheduler.add_job(fail, "interval", seconds=0.3, id="fail", max_instances=3)
            scheduler.add_job(
                lambda: None, "date", run_date="2020-01-01", id="late", misfire_grace_time=1, max_instances=3
            )
            time.sleep(0.7)  # two intervals
            scheduler.shutdown()

    async with cluster() as here:
        milvaion = reporting_to(here.rabbitmq_settings)
        await trio.to_thread.run_sync(program)
        await here.api.until_ended()
        await here.api.until_idle()

    failed, [late] = kept(here.api, "fail"), kept(here.api, "late")
    assert len(failed) >= 2
    assert {run.status for run in failed} == {S.FAILED}
    assert all("no such table" in (run.exception or "") for run in failed)
    assert (late.status, (late.result or "")[:6]) == (S.CANCELLED, "Missed")


async def test_a_settings_file_of_a_worker_is_enough(tmp_path: Path) -> None:
    """With the name of the scheduler in .NET's place."""
    async with cluster() as here:
        async with ExternalScheduler.from_file(_settings_file(here, tmp_path)) as milvaion:
            with milvaion.track("etl"):
                pass
        await here.api.until(lambda: ended(here.api, 1))
        [job] = [job for job in here.api.model.database.jobs.values() if job.external_id == "etl"]

    assert (job.tags, job.worker_id) == ("source:crontab", "reports")


def _settings_file(here: Cluster, folder: Path) -> Path:
    file = folder / "milvaion.toml"
    file.write_text(
        f"""version = 1
worker_id = "reports"
[rabbitmq]
host = "{HOST}"
port = {here.rabbitmq.port}
virtual_host = "{here.vhost}"
[external_scheduler]
source = "crontab"
"""
    )
    return file


@pytest.fixture
def rabbitmq() -> Iterator[RabbitMQServer]:
    with RabbitMQServer() as server:
        yield server


@pytest.mark.long
async def test_a_broker_that_restarts_loses_no_run(rabbitmq: RabbitMQServer) -> None:
    """One that was told before, one that began before and ends meanwhile, and one that is all of it meanwhile."""
    vhost = rabbitmq.new_vhost()
    settings = RabbitMQSettings(host=HOST, port=rabbitmq.port, virtual_host=vhost)
    async with api_server(rabbitmq.port, vhost) as api:
        async with reporting_to(settings) as milvaion:
            with milvaion.track("etl") as before:
                before.log("info", "one")
            with milvaion.track("etl") as across:
                await api.until(lambda: len(kept(api, "etl")) == 2)
                await trio.to_thread.run_sync(rabbitmq.kill)
                across.log("info", "two")
            with pytest.raises(LookupError), milvaion.track("etl") as meanwhile:
                raise LookupError("three")
            await trio.to_thread.run_sync(rabbitmq.start)
            await api.until(lambda: ended(api, 3), 60)
        await api.until_idle()
        api.assert_content()

    assert [api.occurrence(run.occurrence_id).status for run in (before, across, meanwhile)] == [
        S.COMPLETED,
        S.COMPLETED,
        S.FAILED,
    ]
    assert [line.message for line in api.occurrence(across.occurrence_id).logs] == ["two"]
