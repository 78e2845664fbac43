"""An APScheduler that is watched, as its user runs it: in threads, with jobs that end well, fail, are missed, are gone.

It runs first, in real time; what was kept of it is told afterwards, in virtual time.
"""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import apscheduler.events as theirs  # type: ignore[import-untyped]
import pytest
from apscheduler.schedulers.background import BackgroundScheduler  # type: ignore[import-untyped]
from apscheduler.triggers.cron import CronTrigger  # type: ignore[import-untyped]
from tests.support.api_model.database import OccurrenceStatus as S
from tests.support.external import played_api
from trio.testing import MockClock

from milvaion_trio import ExternalScheduler
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.external import apscheduler as ours
from milvaion_trio.external.cron_text import cron_text

NOW = datetime(2026, 4, 2, 9, 15, tzinfo=UTC)
ENDS = theirs.EVENT_JOB_EXECUTED | theirs.EVENT_JOB_ERROR | theirs.EVENT_JOB_MISSED


@pytest.fixture
def milvaion(broker: EmbeddedBroker) -> ExternalScheduler:
    return ExternalScheduler(broker, worker_id="nightly", source="APScheduler")


@pytest.fixture
def scheduler() -> Iterator[BackgroundScheduler]:
    scheduler = BackgroundScheduler(timezone="UTC")
    yield scheduler
    scheduler.shutdown()


class Ends:
    """Waits for so many ends; listens last, so that all others have heard of them."""

    def __init__(self, scheduler: BackgroundScheduler, count: int) -> None:
        self._left = count
        self._all = threading.Event()
        scheduler.add_listener(self._heard, ENDS | theirs.EVENT_JOB_MAX_INSTANCES | theirs.EVENT_JOB_SUBMITTED)

    def _heard(self, event: theirs.JobEvent) -> None:
        self._left -= 1
        if self._left == 0:
            self._all.set()

    def wait(self) -> None:
        assert self._all.wait(20)


def test_the_numbers_of_its_events_are_known() -> None:
    """They are written down here, as it is not imported."""
    names = ("ADDED", "REMOVED", "MODIFIED", "EXECUTED", "ERROR", "MISSED", "SUBMITTED", "MAX_INSTANCES")
    for name in names:
        assert getattr(ours, name) == getattr(theirs, f"EVENT_JOB_{name}")


async def test_jobs_and_runs_are_told(
    milvaion: ExternalScheduler,
    scheduler: BackgroundScheduler,
    broker: EmbeddedBroker,
    autojump_clock: MockClock,
) -> None:
    """Each with its scheduled time; a failure with its text, a missed one with its reason."""
    soon = datetime.now(UTC) + timedelta(seconds=0.05)
    long_ago = soon - timedelta(hours=1)

    def fail() -> None:
        raise LookupError("no such table")

    scheduler.add_job(lambda: {"rows": 7}, "date", run_date=soon, id="load", name="Load")
    scheduler.add_job(fail, "date", run_date=soon, id="fail")
    scheduler.add_job(lambda: None, "date", run_date=long_ago, id="late", misfire_grace_time=1)
    scheduler.add_job(lambda: None, "cron", hour=3, day_of_week="0-4", id="cron")
    scheduler.add_job(lambda: None, "interval", hours=1, id="every")
    milvaion.watch(scheduler)
    ends = Ends(scheduler, 6)
    scheduler.start()
    ends.wait()

    async with played_api(broker) as api, milvaion:
        await api.settled()

    jobs = {job.external_id: job for job in api.model.database.jobs.values()}
    assert set(jobs) == {"load", "fail", "late", "cron", "every"}
    assert (jobs["load"].display_name, jobs["load"].tags, jobs["load"].is_active) == (
        "Load",
        "source:APScheduler",
        False,
    )
    assert (jobs["cron"].cron, jobs["cron"].is_active) == ("0 0 3 * * mon-fri", True)
    assert (jobs["every"].cron, jobs["every"].description) == (None, "interval[1:00:00]")
    [load], [failed], [late] = api.runs("load"), api.runs("fail"), api.runs("late")
    assert (load.history, load.result) == ([S.RUNNING, S.COMPLETED], '{"rows":7}')
    assert load.external_id == f"load@{soon.isoformat()}"
    assert failed.history == [S.RUNNING, S.FAILED]
    assert failed.exception is not None
    assert "Message: no such table" in failed.exception
    assert "in fail" in failed.exception
    assert (late.history, late.result) == (
        [S.RUNNING, S.CANCELLED],
        "Missed: its time was over by more than its misfire_grace_time",
    )


async def test_a_run_for_which_there_is_no_room_is_told_as_missed(
    milvaion: ExternalScheduler,
    scheduler: BackgroundScheduler,
    broker: EmbeddedBroker,
    autojump_clock: MockClock,
) -> None:
    """Two of its times have come while its first run goes on."""
    release, begun = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert release.wait(20)

    milvaion.watch(scheduler)
    refused = threading.Event()
    scheduler.add_listener(lambda _: refused.set(), theirs.EVENT_JOB_MAX_INSTANCES)
    scheduler.start()
    scheduler.add_job(work, "interval", seconds=0.1, id="slow", misfire_grace_time=None)
    assert begun.wait(20)
    assert refused.wait(20)
    scheduler.remove_job("slow")
    ends = Ends(scheduler, 1)
    release.set()
    ends.wait()

    async with played_api(broker) as api, milvaion:
        await api.settled()

    statuses = [run.status for run in api.runs("slow")]
    assert statuses.count(S.COMPLETED) == 1
    assert S.CANCELLED in statuses
    assert set(statuses) == {S.COMPLETED, S.CANCELLED}
    assert not api.job("slow").is_active


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"hour": 3}, "0 0 3 * * *"),
        ({"day_of_week": "0-4", "hour": 9}, "0 0 9 * * mon-fri"),
        ({"day_of_week": "sun"}, "0 0 0 * * sun"),
        ({"hour": "9-17", "minute": "*/15"}, "0 */15 9-17 * * *"),
        ({"day": "last", "hour": 1}, "0 0 1 L * *"),
        ({"month": "1-6/2", "day": "1,15"}, "0 0 0 1,15 1-6/2 *"),
        ({"second": "*/10"}, "*/10 * * * * *"),
        ({"week": 3}, None),
        ({"year": 2030}, None),
        ({"day": "1st mon"}, None),
        ({"hour": 3, "timezone": "Europe/Istanbul"}, None),
        ({"hour": 3, "end_date": "2026-04-05"}, None),
    ],
)
def test_a_cron_trigger_is_told_only_where_six_fields_say_the_same(fields: dict[str, object], told: str | None) -> None:
    trigger = CronTrigger(**{"timezone": "UTC", **fields})

    assert cron_text(trigger, NOW) == told
