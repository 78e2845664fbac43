"""Schedules as code declares them: what is taken for granted, what settings change, and every mistake in one report."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from attrs import frozen

from milvaion_trio import Job, JobDefinition, SettingsError, Worker, WorkerSettings, job
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.schedule import Cron, Every, Misfire, Once, Overlap, Schedule
from milvaion_trio.model.schedule_settings import ScheduleSettings
from milvaion_trio.model.settings import JobSettings, RabbitMQSettings, RedisSettings, SchedulerSettings
from milvaion_trio.runtime.timetable import Timetable


@frozen
class Report:
    title: str
    pages: int = 1


def prepared(worker: Worker) -> dict[str, Schedule]:
    worker.prepare()
    return {schedule.id: schedule for schedule in worker.schedules}


def problems(worker: Worker) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        worker.prepare()
    return list(caught.value.problems)


def over(worker: Worker, **schedules: ScheduleSettings) -> Worker:
    worker.settings = WorkerSettings(worker_id="w", schedules=schedules)
    return worker


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.chdir(tmp_path)  # where there is no settings file
    return Worker("w")


def test_a_schedule_is_called_like_its_job_and_leads_to_its_queue(worker: Worker) -> None:
    @worker.cron("0 9 * * MON", timezone="Europe/Istanbul")
    @worker.job("SendReportJob", routing_patterns=["reports.#"])
    async def send_report() -> None: ...

    assert prepared(worker) == {
        "SendReportJob": Schedule(
            id="SendReportJob",
            job="SendReportJob",
            worker_id="w",
            pattern="reports.#",
            when=Cron(expression="0 9 * * MON", timezone="Europe/Istanbul"),
            origin="code",
        )
    }


def test_the_job_below_stays_what_it_was(worker: Worker) -> None:
    @worker.job(max_retries=7)
    def poll() -> str:
        return "polled"

    assert worker.every(5)(poll) is poll
    assert len(worker.registry.definitions) == 1
    assert poll() == "polled"


def test_a_function_or_class_becomes_a_job_of_its_name(worker: Worker) -> None:
    @worker.every(5)
    async def poll() -> None: ...

    @worker.cron("@daily")
    class CleanUp(Job):
        async def execute(self) -> None: ...

    found = prepared(worker)

    assert isinstance(poll, JobDefinition)
    assert isinstance(CleanUp, JobDefinition)
    assert worker.registry.names == ("poll", "CleanUp")
    assert (found["poll"].pattern, found["CleanUp"].pattern) == ("w.poll.*", "w.cleanup.*")


def test_a_job_of_the_free_decorator_becomes_the_workers(worker: Worker) -> None:
    @job("Elsewhere")
    async def elsewhere() -> None: ...

    worker.every(5)(elsewhere)

    assert prepared(worker)["Elsewhere"].job == "Elsewhere"
    assert worker.registry.names == ("Elsewhere",)


def test_several_stand_above_each_other(worker: Worker) -> None:
    @worker.cron("0 9 * * *", id="morning")
    @worker.cron("0 18 * * *", id="evening")
    @worker.every(60)
    async def look() -> None: ...

    assert {name: schedule.job for name, schedule in prepared(worker).items()} == {
        "look": "look",
        "evening": "look",
        "morning": "look",
    }


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2027, 5, 4, 9, tzinfo=timezone(timedelta(hours=3))),
        "2027-05-04T09:00:00+03:00",
        "2027-05-04T06:00:00Z",
        Instant.parse("2027-05-04T06:00:00Z"),
    ],
    ids=str,
)
def test_a_moment_may_be_said_in_several_forms(worker: Worker, moment: datetime | str | Instant) -> None:
    @worker.at(moment, start=moment, end="2028-01-01T00:00:00Z")
    async def once() -> None: ...

    found = prepared(worker)["once"]

    millis = 1_809_410_400_000
    assert (found.when, found.start) == (Once(millis), millis)
    assert found.end == round(datetime(2028, 1, 1, tzinfo=UTC).timestamp() * 1000)


def test_every_option_arrives(worker: Worker) -> None:
    @worker.every(
        2.5,
        id="all of it",
        data={"title": "sums", "pages": 3},
        overlap="cancel-previous",
        misfire=Misfire.ALL,
        misfire_limit=5,
        grace=1,
        jitter=0.5,
        max_runs=9,
        disable_after=0,
        failure_window=60,
        lost_after=120,
    )
    async def write(report: Report) -> None: ...

    assert prepared(worker)["all of it"] == Schedule(
        id="all of it",
        job="write",
        worker_id="w",
        pattern="w.write.*",
        when=Every(2.5),
        data='{"title":"sums","pages":3}',
        overlap=Overlap.CANCEL_PREVIOUS,
        misfire=Misfire.ALL,
        misfire_limit=5,
        grace=1,
        jitter=0.5,
        max_runs=9,
        disable_after=0,
        failure_window=60,
        lost_after=120,
        origin="code",
    )


# --- settings over code ---------------------------------------------------------------------------------------------


def test_settings_are_over_the_code_field_by_field(worker: Worker) -> None:
    @worker.cron("0 9 * * *", timezone="Europe/Istanbul", id="Nightly", jitter=3, data={"title": "a"})
    async def write(report: Report) -> None: ...

    found = prepared(over(worker, nightly=ScheduleSettings(cron="0 3 * * *", overlap=Overlap.ALLOW)))

    schedule = found["Nightly"]
    assert schedule.when == Cron(expression="0 3 * * *", timezone="Europe/Istanbul")
    assert (schedule.jitter, schedule.overlap, schedule.origin) == (3, Overlap.ALLOW, "settings")
    assert schedule.data == '{"title":"a"}'
    assert list(found) == ["Nightly"]


def test_other_times_take_the_codes_time_zone_back(worker: Worker) -> None:
    @worker.cron("0 9 * * *", timezone="Europe/Istanbul")
    async def look() -> None: ...

    assert prepared(over(worker, look=ScheduleSettings(every=5)))["look"].when == Every(5)


def test_settings_may_add_a_schedule_for_a_job_in_any_case(worker: Worker) -> None:
    @worker.job()
    async def look() -> None: ...

    found = prepared(over(worker, nightly=ScheduleSettings(job="LOOK", cron="@daily")))

    assert (found["nightly"].job, found["nightly"].pattern) == ("look", "w.look.*")


def test_patterns_of_settings_count(worker: Worker) -> None:
    @worker.every(5)
    async def look() -> None: ...

    worker.settings = WorkerSettings(worker_id="w", jobs={"look": JobSettings(routing_patterns=("mine.*",))})

    assert prepared(worker)["look"].pattern == "mine.*"


# --- mistakes -------------------------------------------------------------------------------------------------------


def declare_bad_expression(worker: Worker) -> None:
    @worker.cron("0 25 * * *", timezone="Europe/Istambul")
    async def look() -> None: ...


def declare_naive(worker: Worker) -> None:
    @worker.at("2027-05-04T09:00:00")
    async def look() -> None: ...


def declare_naive_datetime(worker: Worker) -> None:
    @worker.every(5, start=datetime(2027, 5, 4))
    async def look() -> None: ...


def declare_too_often(worker: Worker) -> None:
    @worker.every(0.01)
    async def look() -> None: ...


def declare_unknown_word(worker: Worker) -> None:
    @worker.every(5, overlap="sometimes")  # type: ignore[arg-type] # a mistake
    async def look() -> None: ...


def declare_typo(worker: Worker) -> None:
    @worker.every(5, graze=1)  # type: ignore[call-arg] # a mistake
    async def look() -> None: ...


def declare_backwards(worker: Worker) -> None:
    @worker.every(5, start="2027-05-05T00:00:00Z", end="2027-05-04T00:00:00Z")
    async def look() -> None: ...


def declare_unwritable(worker: Worker) -> None:
    @worker.every(5, data=object())
    async def look() -> None: ...


def declare_id(worker: Worker) -> None:
    @worker.every(5, id=" x")
    async def look() -> None: ...


def declare_never(worker: Worker) -> None:
    @worker.cron("0 0 30 2 *")
    async def look() -> None: ...


LOOK = "Schedule 'look' (@worker.{} on look): "

MISTAKES: dict[Callable[[Worker], None], list[str]] = {
    declare_bad_expression: [
        LOOK.format("cron") + "cron expression '0 0 25 * * *': hour is '25'; allowed is 0 to 23.",
        LOOK.format("cron") + "time zone 'Europe/Istambul' is not known; did you mean 'Europe/Istanbul'?",
    ],
    declare_naive: [LOOK.format("at") + "at is '2027-05-04T09:00:00'; it must be a date and time with its distance "],
    declare_naive_datetime: [LOOK.format("every") + "start is datetime.datetime(2027, 5, 4, 0, 0); it must be a date "],
    declare_too_often: [LOOK.format("every") + "every is 0.01; it must be a number, 0.1 or more"],
    declare_unknown_word: [LOOK.format("every") + "overlap is 'sometimes'; it must be one of 'skip', 'queue', "],
    declare_typo: [LOOK.format("every") + "a schedule has no setting 'graze'; did you mean 'grace'?"],
    declare_backwards: [LOOK.format("every") + "it ends, 2027-05-04T00:00:00+00:00, before it starts, "],
    declare_unwritable: [LOOK.format("every") + "data has no JSON form: "],
    declare_id: ["Schedule ' x' (@worker.every on look): id is ' x'; it must be 1 to 200 characters"],
    declare_never: [LOOK.format("cron") + "cron expression '0 0 30 2 *' never ticks"],
}


@pytest.mark.parametrize("declare", MISTAKES, ids=lambda declare: str(declare.__name__))
def test_a_mistake_names_function_and_schedule(worker: Worker, declare: Callable[[Worker], None]) -> None:
    declare(worker)

    found = problems(worker)

    assert len(found) == len(MISTAKES[declare])
    for line, start in zip(found, MISTAKES[declare], strict=True):
        assert line.startswith(start)


def test_all_mistakes_are_one_report(worker: Worker) -> None:
    """With those of jobs, and those of a schedule whose name is taken."""
    declare_bad_expression(worker)
    worker.every(0.01)(worker.registry.definitions[0])

    @worker.job("a:b")
    async def nothing() -> None: ...

    assert [line.partition(":")[0] for line in problems(worker)] == [
        "'a",
        "Schedule 'look' (@worker.every on look)",
        "look has two schedules without an id (@worker.cron on look, and @worker.every on look), and both would be "
        "called 'look'",
        "Schedule 'look' (@worker.cron on look)",
        "Schedule 'look' (@worker.cron on look)",
    ]


def test_two_with_one_id_are_told(worker: Worker) -> None:
    @worker.every(5, id="x")
    @worker.cron("@daily", id="X")
    async def look() -> None: ...

    assert problems(worker) == [
        "Two schedules are called 'X' and 'x' (@worker.cron on look, and @worker.every on look); give each an id of "
        "its own."
    ]


def test_data_is_tried_on_the_job_before_any_tick(worker: Worker) -> None:
    @worker.every(5, id="none")
    @worker.every(5, id="wrong", data={"title": "a", "pages": "many"})
    @worker.job()
    async def write(report: Report) -> None: ...

    assert problems(worker) == [
        "Schedule 'wrong' (@worker.every on write): its data does not fit write: $.pages: found the text "
        '"many", expected a whole number.',
        "Schedule 'none' (@worker.every on write): its data does not fit write: $: there is no data, expected an "
        "object.",
    ]


def test_a_schedule_of_the_settings_needs_a_job_of_the_worker(worker: Worker) -> None:
    @worker.job()
    async def look() -> None: ...

    said = {
        "a": ScheduleSettings(every=5),
        "b": ScheduleSettings(job="lok", every=5),
        "c": ScheduleSettings(job="look"),
    }

    found = problems(over(worker, **said))

    assert found == [
        "Schedule 'a' (the code): it names no job: add one, job = \"SendEmailJob\".",
        "Schedule 'b' (the code): this worker has no job 'lok'; did you mean 'look'?",
        "Schedule 'c' (the code): it does not say when it runs: add cron, every or at.",
    ]


def test_settings_alone_ask_for_the_worker_whose_schedule_they_change() -> None:
    """As `milvaion-trio scheduler` has them, given no worker: its code may well name the job."""
    with pytest.raises(SettingsError, match="or name the worker whose code has this schedule, MODULE:WORKER"):
        Timetable().prepare(WorkerSettings(schedules={"a": ScheduleSettings(every=5)}), None)


def test_the_source_of_settings_is_named(worker: Worker) -> None:
    Path("milvaion.toml").write_text('[schedules.nightly]\njob = "look"\nevery = 5\ncron = "@daily"')

    @worker.every(5)
    async def look() -> None: ...

    assert problems(worker) == [
        "Schedule 'nightly' (milvaion.toml: schedules.nightly): it says cron and every; one of them can hold."
    ]


def test_a_job_is_made_once_below_its_schedules(worker: Worker) -> None:
    scheduled = worker.every(5)(declare_naive)

    with pytest.raises(SettingsError, match=r"is a job already: write its schedules above @worker\.job"):
        worker.job()(scheduled)


@pytest.mark.parametrize("word", ["cron", "every", "at"])
def test_the_parentheses_are_missed(worker: Worker, word: str) -> None:
    with pytest.raises(SettingsError, match=rf"@worker.{word} says when in its parentheses: @worker.{word}\("):
        getattr(worker, word)(declare_naive)


# --- where they are kept --------------------------------------------------------------------------------------------


def test_schedules_on_rabbitmq_need_redis(worker: Worker) -> None:
    @worker.every(5)
    async def look() -> None: ...

    worker.settings = WorkerSettings(worker_id="w", rabbitmq=RabbitMQSettings())

    assert problems(worker) == [
        "This worker has schedules ('look') and is on RabbitMQ without Redis. Schedules are kept in Redis, so that of "
        "several processes one dispatches each tick: name one (Worker:Redis:ConnectionString), or have them run "
        "elsewhere (Worker:Scheduler:Enabled false, and milvaion-trio scheduler where there is a Redis)."
    ]


@pytest.mark.parametrize(
    "settings",
    [
        WorkerSettings(rabbitmq=RabbitMQSettings(), redis=RedisSettings()),
        WorkerSettings(rabbitmq=RabbitMQSettings(), scheduler=SchedulerSettings(enabled=False)),
        WorkerSettings(),
    ],
    ids=["redis", "not here", "embedded"],
)
def test_elsewhere_they_are_kept(worker: Worker, settings: WorkerSettings) -> None:
    @worker.every(5)
    async def look() -> None: ...

    worker.settings = settings

    assert list(prepared(worker)) == ["look"]
