"""Variables in .NET's form and in ours."""

from pathlib import Path

import pytest

from milvaion_trio.configuration import Resolved, resolve
from milvaion_trio.configuration.environment import variable
from milvaion_trio.configuration.keys import ANY_JOB, SETTINGS, Setting, find
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.settings import JobSettings, RabbitMQSettings, RedisSettings, WorkerSettings


def read(*assignments: str) -> Resolved:
    """What the variables alone say."""
    environ = dict(assignment.split("=", 1) for assignment in assignments)
    return resolve(WorkerSettings(), config=None, environ=environ, folder=Path("/nonexistent"))


def problems(*assignments: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        read(*assignments)
    return tuple(problem.removeprefix("environment: ") for problem in caught.value.problems)


@pytest.mark.parametrize(
    "name",
    [
        "Worker__RabbitMQ__Host",
        "WORKER__RABBITMQ__HOST",
        "MILVAION_TRIO__WORKER__RABBITMQ__HOST",
        "MILVAION_TRIO__RABBITMQ__HOST",
        "MILVAION_TRIO__Worker__RabbitMQ__Host",
        "MILVAION_TRIO__WORKER__RABBIT_MQ__HOST",
        "milvaion_trio__worker__rabbitmq__host",
    ],
)
def test_a_variable_may_be_spelled_in_many_ways(name: str) -> None:
    assert read(f"{name}=rabbit").settings.rabbitmq == RabbitMQSettings(host="rabbit")


@pytest.mark.parametrize(
    "name",
    [
        "JobConsumers__SendEmailJob__ExecutionTimeoutSeconds",
        "jobconsumers__SendEmailJob__executiontimeoutseconds",
        "MILVAION_TRIO__JOBCONSUMERS__SendEmailJob__EXECUTIONTIMEOUTSECONDS",
        "MILVAION_TRIO__JOB_CONSUMERS__SendEmailJob__EXECUTION_TIMEOUT_SECONDS",
        "MILVAION_TRIO__JOBS__SendEmailJob__TIMEOUT",
        "MILVAION_TRIO__WORKER__JOBS__SendEmailJob__TIMEOUT",
    ],
)
def test_a_job_has_variables_of_its_own(name: str) -> None:
    assert read(f"{name}=5").settings.jobs == {"SendEmailJob": JobSettings(timeout=5)}


def test_a_job_keeps_the_name_that_the_file_gives_it(tmp_path: Path) -> None:
    (tmp_path / "appsettings.json").write_text('{"JobConsumers": {"SendEmailJob": {"MaxRetries": 1}}}')
    environ = {"MILVAION_TRIO__JOBS__SENDEMAILJOB__MAX_RETRIES": "2"}

    settings = resolve(WorkerSettings(), config=None, environ=environ, folder=tmp_path).settings

    assert settings.jobs == {"SendEmailJob": JobSettings(max_retries=2)}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: ".".join(setting.place))
def test_every_setting_is_found_under_each_of_its_names(setting: Setting) -> None:
    """That of .NET's files, that of the attribute, and the variable that our form suggests."""
    assert find(setting.path).meaning is setting
    assert find(setting.place, is_short=True).meaning is setting
    assert find(variable(setting.path).removeprefix("MILVAION_TRIO__").split("__")).meaning is setting


def test_no_two_settings_share_a_name() -> None:
    assert len({setting.path for setting in SETTINGS}) == len({setting.place for setting in SETTINGS}) == len(SETTINGS)
    assert sum(ANY_JOB in setting.path for setting in SETTINGS) == 11


def test_items_of_a_list_have_numbers() -> None:
    jobs = read("JobConsumers__A__RoutingPatterns__1=b", "JobConsumers__A__RoutingPatterns__0=a").settings.jobs

    assert jobs["A"].routing_patterns == ("a", "b")


@pytest.mark.parametrize(
    "name", ["WORKER_ID", "Worker", "WORKER", "Other__RabbitMQ__Host", "MILVAION_TRIO", "RabbitMQ__Host"]
)
def test_other_variables_are_not_ours(name: str) -> None:
    assert read(f"{name}=x") == Resolved(WorkerSettings(), (), ())


def test_one_variable_of_a_server_is_enough_to_use_it() -> None:
    assert read("Worker__RabbitMQ__VirtualHost=v").settings.rabbitmq == RabbitMQSettings(virtual_host="v")
    assert read("Worker__RabbitMQ__VirtualHost=v").settings.redis is None
    assert read("Worker__Redis__Database=1").settings.redis == RedisSettings(database=1)
    assert read("Worker__Redis__Database=1").settings.rabbitmq is None
    assert read("Worker__RabbitMQ__RoutingKeyPattern=x").settings.rabbitmq == RabbitMQSettings()
    assert read("Worker__WorkerId=w").settings == WorkerSettings(worker_id="w")


def test_a_misspelled_variable_of_a_server_does_not_run_the_jobs_elsewhere() -> None:
    """Trying the default fails loudly; jobs on the embedded broker would seem to run."""
    result = read("Worker__RabbitMQ__Hots=rabbit")

    assert result.settings.rabbitmq == RabbitMQSettings()
    assert result.warnings == (
        "environment: Worker__RabbitMQ__Hots is no setting and is ignored; did you mean Worker__RabbitMQ__Host?",
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("WORKER__RABBITMQ__HOTS", "; did you mean MILVAION_TRIO__WORKER__RABBITMQ__HOST?"),
        ("WORKER__RABITMQ__HOST", "; did you mean MILVAION_TRIO__WORKER__RABBITMQ__HOST?"),
        ("WORKR__RABBITMQ__HOST", "; did you mean MILVAION_TRIO__WORKER__RABBITMQ__HOST?"),
        ("DRAIN_TIMEOUT", "; did you mean MILVAION_TRIO__WORKER__SHUTDOWN__DRAIN_TIMEOUT?"),
        ("JOBS__SENDEMAIL__MAX_RETRYS", "; did you mean MILVAION_TRIO__JOB_CONSUMERS__SENDEMAIL__MAX_RETRIES?"),
        ("WORKER__JOBS__SENDEMAIL__XYZZY", "."),
        ("XYZZY", "."),
        ("", "."),
    ],
)
def test_an_unknown_variable_of_our_form_is_a_mistake(name: str, hint: str) -> None:
    assert problems(f"MILVAION_TRIO__{name}=x") == (f"MILVAION_TRIO__{name} is no setting{hint}",)


def test_our_form_is_over_the_other_and_says_so() -> None:
    result = read("Worker__WorkerId=a", "MILVAION_TRIO__WORKER__WORKER_ID=b", "MILVAION_TRIO__MAX_PARALLEL_JOBS=3")

    assert (result.settings.worker_id, result.settings.max_parallel_jobs) == ("b", 3)
    assert result.warnings == (
        "environment: MILVAION_TRIO__WORKER__WORKER_ID is used, Worker__WorkerId says something else and is not.",
    )
    assert result.sources == ("environment",)


def test_both_forms_may_say_the_same() -> None:
    assert read("Worker__WorkerId=a", "MILVAION_TRIO__WORKER__WORKER_ID=a").warnings == ()


def test_one_form_may_not_say_two_things() -> None:
    """Which of them would win is the shell's secret."""
    assert problems("Worker__WorkerId=a", "WORKER__WORKERID=b") == (
        "WORKER__WORKERID and Worker__WorkerId are the same setting, with different values.",
    )


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("Worker__RabbitMQ__Port=abc", '"abc"; it must be a whole number, 1 to 65535.'),
        ("MILVAION_TRIO__WORKER__RABBITMQ__PORT=70000", '"70000"; it must be a whole number, 1 to 65535.'),
        ("Worker__Heartbeat__Enabled=yes", '"yes"; it must be true or false.'),
        ("MILVAION_TRIO__JOBS__A__JITTER=2", '"2"; it must be a number, 0 to 1.'),
        ("Worker__OfflineResilience__Durability=OFF", '"OFF"; it must be NORMAL or FULL.'),
        ("Worker__RabbitMQ__Password=s3cret\udcff", "not shown here; it must be a text."),
        ("Worker__WorkerId=\udcff", '"\\udcff"; it must be 1 to 100 of the characters A-Z a-z 0-9 . _ -.'),
    ],
)
def test_a_wrong_value_names_variable_value_and_what_is_allowed(assignment: str, problem: str) -> None:
    assert problems(assignment) == (f"{assignment.partition('=')[0]} is {problem}",)


def test_a_long_value_is_not_told_in_full() -> None:
    (problem,) = problems("Worker__MaxParallelJobs=" + 1000 * "x")

    assert len(problem) < 200


def test_a_variable_that_is_nearly_ours_is_told() -> None:
    """One underscore instead of two would leave a setting unread, unseen."""
    (warning,) = read("MILVAION_TRIO_WORKER__RABBITMQ__HOST=rabbit").warnings

    assert warning == (
        "environment: MILVAION_TRIO_WORKER__RABBITMQ__HOST is not read: "
        "after MILVAION_TRIO, and between sections, stand two underscores."
    )
