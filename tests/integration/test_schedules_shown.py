"""Schedules on RabbitMQ and Redis beside the played API: their runs are shown there, whoever leads."""

import pytest
import trio
from tests.support.api_model.database import Occurrence
from tests.support.api_model.database import OccurrenceStatus as S
from tests.support.cluster import Cluster, cluster, serving

from milvaion_trio import Worker
from milvaion_trio.external import introductions, reporter
from milvaion_trio.external.letters import Letters
from milvaion_trio.external.run import RunStart
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.settings import HeartbeatSettings, SchedulerSettings

RUNS = 12
PERIOD = 0.25


@pytest.fixture(autouse=True)
def _prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The played API stores what it has read at once."""
    monkeypatch.setattr(introductions, "REGISTRY_STORES", 0.05)
    monkeypatch.setattr(introductions, "TRACKER_STORES", 0.1)
    monkeypatch.setattr(reporter, "TRACKER_STORES", 0.1)


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """By whom each start was told."""
    starts: dict[str, list[str]] = {}
    starting = Letters.starting

    def noted(letters: Letters, start: RunStart) -> Publication:
        starts.setdefault(start.occurrence_id, []).append(letters.identity.instance_id)
        return starting(letters, start)

    monkeypatch.setattr(Letters, "starting", noted)
    return starts


def scheduled_worker(here: Cluster, release: trio.Event) -> Worker:
    """One of several that share their schedules."""
    worker = here.worker(scheduler=SchedulerSettings(report=True), heartbeat=HeartbeatSettings(job_interval=0.2))

    @worker.every(PERIOD, max_runs=RUNS, overlap="allow")
    @worker.job("Tidy")
    async def tidy() -> None:
        pass

    @worker.every(PERIOD, max_runs=RUNS, overlap="allow", disable_after=0)
    @worker.job("Fail", max_retries=0)
    async def fail() -> None:
        raise LookupError("no such table")

    @worker.every(PERIOD, max_runs=1)
    @worker.job("Long")
    async def long() -> None:
        await release.wait()

    return worker


def kept(here: Cluster, external_id: str) -> list[Occurrence]:
    ids = {job.id for job in here.api.model.database.jobs.values() if job.external_id == external_id}
    return [each for each in here.api.model.database.occurrences.values() if each.job_id in ids]


async def test_runs_are_shown_with_their_ends_though_the_leader_changes(starts: dict[str, list[str]]) -> None:
    """One that goes on meanwhile stays alive and is ended by the next leader; no start is told a second time."""
    release = trio.Event()
    with trio.fail_after(60):
        async with cluster() as here:
            async with serving(scheduled_worker(here, release)) as first:
                await here.api.until(lambda: len(kept(here, "Fail")) >= 2 and len(kept(here, "Long")) == 1)
                async with serving(scheduled_worker(here, release)):
                    first.drain()
                    [long] = kept(here, "Long")
                    before = long.last_heartbeat or 0
                    await here.api.until(lambda: (kept(here, "Long")[0].last_heartbeat or 0) > before + 0.5)
                    release.set()
                    await here.api.until(lambda: all(len(kept(here, name)) == RUNS for name in ("Tidy", "Fail")))
                    await here.api.until_ended()
            jobs = {job.external_id: job for job in here.api.model.database.jobs.values()}
            runs = {name: kept(here, name) for name in ("Tidy", "Fail", "Long")}

    assert {name: jobs[name].worker_id for name in runs} == dict.fromkeys(runs, "tests-schedules")
    assert [run.history for run in runs["Tidy"]] == [[S.RUNNING, S.COMPLETED]] * RUNS
    assert [run.history for run in runs["Fail"]] == [[S.RUNNING, S.FAILED]] * RUNS
    assert all("no such table" in (run.exception or "") for run in runs["Fail"])
    assert [run.history for run in runs["Long"]] == [[S.RUNNING, S.COMPLETED]]
    assert {len(tellers) for tellers in starts.values()} == {1}
    assert len({teller for tellers in starts.values() for teller in tellers}) == 2
