"""Which source of settings wins, and what a settings file of a .NET worker means."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.support.readmes import AEVATAR_README, SDK_README, SDK_RETRIES

from milvaion_trio.configuration import Resolved, resolve
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.settings import JobSettings, MonitorSettings, RabbitMQSettings, RedisSettings, WorkerSettings
from milvaion_trio.model.wire import Dialect

Resolve = Callable[..., Resolved]


@pytest.fixture
def resolved(tmp_path: Path) -> Resolve:
    """Write these files into a folder, and resolve there."""

    def resolving(
        files: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        base: WorkerSettings | None = None,
        config: Path | None = None,
    ) -> Resolved:
        for name, content in (files or {}).items():
            text = content if isinstance(content, str) else json.dumps(content)
            (tmp_path / name).write_text(text, encoding="utf-8")
        return resolve(base or WorkerSettings(), config=config, environ=environ or {}, folder=tmp_path)

    return resolving


def test_the_file_of_the_sdk_readme_loads_unchanged(resolved: Resolve) -> None:
    result = resolved({"appsettings.json": SDK_README})

    assert result.settings == WorkerSettings(
        worker_id="email-worker",
        max_parallel_jobs=5,
        rabbitmq=RabbitMQSettings(),
        redis=RedisSettings(),
        jobs={
            "SendEmailJob": JobSettings(
                consumer_id="sendemail-consumer",
                max_parallel=3,
                timeout=300,
                max_retries=3,
                base_retry_delay=60,
                routing_patterns=["sendemail.*"],
            )
        },
    )
    assert result.warnings == ()
    assert result.sources == ("appsettings.json",)


def test_the_other_file_of_the_sdk_readme_loads_unchanged(resolved: Resolve) -> None:
    result = resolved({"appsettings.json": SDK_RETRIES})

    job = JobSettings(consumer_id="api-consumer", max_retries=5, base_retry_delay=30)
    assert result.settings.jobs == {"UnreliableApiJob": job}
    assert result.warnings == ()


def test_the_file_of_the_aevatar_readme_loads_unchanged(resolved: Resolve) -> None:
    """Of its sections only the database counts, and a line says so; who reads its `Redis` wants ours."""
    result = resolved({"appsettings.json": AEVATAR_README})

    history = MonitorSettings(mongodb="mongodb://localhost:27017/Aevatar")
    assert result.settings == WorkerSettings(rabbitmq=RabbitMQSettings(), redis=RedisSettings(), monitor=history)
    assert result.warnings == (
        "appsettings.json: Redis:Configuration has no effect; cancel signals come over the Redis of "
        "Worker:Redis:ConnectionString: write it there.",
        "appsettings.json: there is no section Worker and none JobConsumers, so everything is default.",
    )


def test_without_file_and_variables_nothing_changes(resolved: Resolve) -> None:
    base = WorkerSettings(worker_id="mine", jobs={"A": JobSettings(timeout=1)})

    assert resolved(base=base) == Resolved(base, (), ())


def test_the_file_is_over_the_code_and_the_environment_over_the_file(resolved: Resolve) -> None:
    """And where neither says anything, the code does."""
    base = WorkerSettings(worker_id="code", max_parallel_jobs=1, execution_timeout=1)
    file = {"Worker": {"WorkerId": "file", "MaxParallelJobs": 2}}

    result = resolved({"appsettings.json": file}, {"Worker__WorkerId": "variable"}, base=base)

    settings = result.settings
    assert (settings.worker_id, settings.max_parallel_jobs, settings.execution_timeout) == ("variable", 2, 1)
    assert result.sources == ("appsettings.json", "environment")


def test_a_section_of_the_code_keeps_what_the_file_does_not_say(resolved: Resolve) -> None:
    base = WorkerSettings(
        rabbitmq=RabbitMQSettings(host="code", port=1),
        jobs={"SendEmail": JobSettings(timeout=5, max_retries=1)},
    )
    file = {"Worker": {"RabbitMQ": {"Host": "file"}}, "JobConsumers": {"SENDEMAIL": {"MaxRetries": 2}}}

    settings = resolved({"appsettings.json": file}, base=base).settings

    assert settings.rabbitmq == RabbitMQSettings(host="file", port=1)
    assert settings.jobs == {"SendEmail": JobSettings(timeout=5, max_retries=2)}


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, "Production"),
        ({"DOTNET_ENVIRONMENT": "Staging"}, "Staging"),
        ({"ASPNETCORE_ENVIRONMENT": "Staging"}, "Staging"),
        ({"DOTNET_ENVIRONMENT": "Staging", "ASPNETCORE_ENVIRONMENT": "Other"}, "Staging"),
        ({"DOTNET_ENVIRONMENT": "", "ASPNETCORE_ENVIRONMENT": ""}, "Production"),
    ],
)
def test_the_file_of_the_environment_is_over_the_other(resolved: Resolve, environ: dict[str, str], name: str) -> None:
    """As for a .NET host, which is in production unless somebody says otherwise."""
    files = {
        "appsettings.json": {"Worker": {"WorkerId": "first", "MaxParallelJobs": 2}},
        f"appsettings.{name}.json": {"Worker": {"WorkerId": "second"}},
        "appsettings.Else.json": {"Worker": {"WorkerId": "third"}},
    }

    result = resolved(files, environ)

    assert (result.settings.worker_id, result.settings.max_parallel_jobs) == ("second", 2)
    assert result.sources == ("appsettings.json", f"appsettings.{name}.json")


def test_the_file_of_the_environment_may_be_alone(resolved: Resolve) -> None:
    result = resolved({"appsettings.Production.json": {"Worker": {"WorkerId": "second"}}})

    assert result.settings.worker_id == "second"


def test_a_named_file_is_read_instead_with_its_own_environment(resolved: Resolve, tmp_path: Path) -> None:
    files = {
        "appsettings.json": {"Worker": {"WorkerId": "no"}},
        "appsettings.Production.json": {"Worker": {"WorkerId": "no"}},
        "mine.json": {"Worker": {"WorkerId": "mine"}},
        "mine.Production.json": {"Worker": {"MaxParallelJobs": 3}},
    }

    result = resolved(files, config=tmp_path / "mine.json")

    assert (result.settings.worker_id, result.settings.max_parallel_jobs) == ("mine", 3)
    assert result.sources == (str(tmp_path / "mine.json"), str(tmp_path / "mine.Production.json"))


def test_a_named_file_that_is_not_there_is_a_mistake(resolved: Resolve, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"missing\.json: there is no such file"):
        resolved(config=tmp_path / "missing.json")


def test_a_file_that_cannot_be_read_is_a_mistake(resolved: Resolve, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="the file cannot be read: Is a directory"):
        resolved(config=tmp_path)


def test_a_file_of_this_kind_connects_to_both_servers(resolved: Resolve) -> None:
    """Plain defaults are .NET's defaults, not the embedded broker."""
    settings = resolved({"appsettings.json": {"Worker": {}}}).settings

    assert (settings.rabbitmq, settings.redis) == (RabbitMQSettings(), RedisSettings())


@pytest.mark.parametrize("base", [None, RedisSettings()])
@pytest.mark.parametrize("redis", [{"ConnectionString": ""}, {"ConnectionString": "", "Password": "x", "Database": 3}])
def test_an_empty_connection_string_is_no_redis(
    resolved: Resolve, redis: dict[str, object], base: RedisSettings | None
) -> None:
    file = {"appsettings.json": {"Worker": {"Redis": redis}}}

    assert resolved(file, base=WorkerSettings(redis=base)).settings.redis is None
    assert resolved(file, {"Worker__Redis__ConnectionString": "h"}).settings.redis is not None


def test_every_mistake_of_every_source_is_in_one_report(resolved: Resolve) -> None:
    files = {
        "appsettings.json": {"Worker": {"RabbitMQ": {"Port": "abc"}}, "JobConsumers": {"A": {"MaxRetries": -1}}},
        "appsettings.Production.json": "{",
    }
    environ = {"Worker__MaxParallelJobs": "0", "MILVAION_TRIO__WORKER__RABBITMQ__HOSTS": "h"}

    with pytest.raises(SettingsError) as caught:
        resolved(files, environ)

    assert caught.value.problems == (
        "appsettings.Production.json: line 1, column 2: Expecting property name enclosed in double quotes.",
        "environment: MILVAION_TRIO__WORKER__RABBITMQ__HOSTS is no setting; "
        "did you mean MILVAION_TRIO__WORKER__RABBITMQ__HOST?",
        'appsettings.json: Worker:RabbitMQ:Port is "abc"; it must be a whole number, 1 to 65535.',
        "appsettings.json: JobConsumers:A:MaxRetries is -1; it must be a whole number, 0 or more.",
        'environment: Worker__MaxParallelJobs is "0"; it must be a whole number, 1 or more.',
    )


def test_a_placeholder_in_a_file_may_be_filled_in_by_a_variable(resolved: Resolve) -> None:
    """What does not count is a warning; when something else is wrong, it is in the report."""
    file = {"appsettings.json": {"Worker": {"RabbitMQ": {"Port": "#{port}"}}}}
    line = 'appsettings.json: Worker:RabbitMQ:Port is "#{port}"; it must be a whole number, 1 to 65535; '

    result = resolved(file, {"Worker__RabbitMQ__Port": "1234"})
    with pytest.raises(SettingsError) as caught:
        resolved(file, {"Worker__RabbitMQ__Port": "x"})

    assert result.settings.rabbitmq == RabbitMQSettings(port=1234)
    assert result.warnings == (line + "another source is over it.",)
    assert line + "another source is over it." in caught.value.problems


def test_lists_are_laid_over_each_other_by_number(resolved: Resolve) -> None:
    """As .NET does; a single value is all of the list."""
    file = {"appsettings.json": {"JobConsumers": {"A": {"RoutingPatterns": ["a", "b"]}}}}

    def patterns(environ: dict[str, str]) -> object:
        return resolved(file, environ).settings.jobs["A"].routing_patterns

    assert patterns({}) == ("a", "b")
    assert patterns({"JobConsumers__A__RoutingPatterns__0": "c"}) == ("c", "b")
    assert patterns({"JobConsumers__A__RoutingPatterns__10": "d"}) == ("a", "b", "d")
    assert patterns({"JobConsumers__A__RoutingPatterns": "c"}) == ("c",)
    assert patterns({"JobConsumers__A__RoutingPattern": "c"}) == ("c",)
    second = {"MILVAION_TRIO__JOBS__A__ROUTING_PATTERNS__2": "d"}
    assert patterns({"JobConsumers__A__RoutingPatterns": "c"} | second) == ("c", "d")


def test_what_is_said_for_all_jobs_is_a_section_too(resolved: Resolve) -> None:
    file = {"Worker": {"JobDefaults": {"MaxRetries": 7}, "Wire": "1.0"}}

    settings = resolved({"appsettings.json": file}).settings

    assert settings.job_defaults == JobSettings(max_retries=7)
    assert settings.wire is Dialect.V1_0


def test_values_below_nothing_are_read_as_in_dotnet(resolved: Resolve) -> None:
    """WIRE.md 6: a limit of 0 or below is none; WIRE.md 1.4: so is a job's number of runs, which then is inherited."""
    file = {
        "Worker": {"ExecutionTimeoutSeconds": -1},
        "JobConsumers": {"A": {"ExecutionTimeoutSeconds": -1, "MaxParallelJobs": 0}, "B": {"MaxParallelJobs": -5}},
    }

    settings = resolved({"appsettings.json": file}).settings

    assert settings.execution_timeout == 0
    assert settings.jobs == {"A": JobSettings(timeout=0), "B": JobSettings()}
