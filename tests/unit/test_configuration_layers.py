"""Which file holds, which source wins, and what the command line says over all of them."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milvaion_trio import Client, JobSettings, SettingsError, Worker, WorkerSettings
from milvaion_trio.cli.failures import UsageError
from milvaion_trio.cli.options import overrides
from milvaion_trio.configuration import Override, Resolved, resolve
from milvaion_trio.model.settings import RabbitMQSettings, RedisSettings
from milvaion_trio.runtime.definition import define_job
from milvaion_trio.runtime.registry import Registry

Resolve = Callable[..., Resolved]

TOML = 'worker_id = "toml"'
PYPROJECT = '[tool.milvaion-trio]\nworker_id = "pyproject"'
JSON = '{"Worker": {"WorkerId": "json"}}'


@pytest.fixture
def resolved(tmp_path: Path) -> Resolve:
    """Write these files into a folder, and resolve there."""

    def resolving(
        files: Mapping[str, str], config: str | None = None, environ: Mapping[str, str] | None = None
    ) -> Resolved:
        for name, text in files.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        named = None if config is None else Path(config)
        return resolve(WorkerSettings(), config=named, environ=environ or {}, folder=tmp_path)

    return resolving


def said(*assignments: str) -> Resolved:
    """What the command line alone says."""
    return resolve(WorkerSettings(), environ={}, folder=Path("/nonexistent"), overrides=overrides(assignments))


# --- which file -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "used", "beside"),
    [
        ({"milvaion.toml": TOML}, "milvaion.toml", None),
        ({"pyproject.toml": PYPROJECT}, "pyproject.toml", None),
        ({"appsettings.json": JSON}, "appsettings.json", None),
        ({"milvaion.toml": TOML, "pyproject.toml": "[project]"}, "milvaion.toml", None),
        ({"appsettings.json": JSON, "pyproject.toml": "[project]"}, "appsettings.json", None),
        ({"milvaion.toml": TOML, "pyproject.toml": PYPROJECT}, "milvaion.toml", "pyproject.toml"),
        ({"milvaion.toml": TOML, "appsettings.json": JSON}, "milvaion.toml", "appsettings.json"),
        ({"milvaion.toml": TOML, "appsettings.Production.json": JSON}, "milvaion.toml", "appsettings.Production.json"),
        ({"pyproject.toml": PYPROJECT, "appsettings.json": JSON}, "pyproject.toml", "appsettings.json"),
    ],
)
def test_the_first_file_there_is_holds_alone_and_says_which_other_does_not(
    resolved: Resolve, files: dict[str, str], used: str, beside: str | None
) -> None:
    result = resolved(files)

    assert result.settings.worker_id == {"milvaion.toml": "toml", "pyproject.toml": "pyproject"}.get(used, "json")
    assert result.sources == (used,)
    warnings = [f"{used} is the settings file here; {beside} beside it is not read. Name the file that holds with "]
    assert [warning.partition("--config")[0] for warning in result.warnings] == (warnings if beside else [])


def test_both_others_are_one_warning(resolved: Resolve) -> None:
    result = resolved({"milvaion.toml": TOML, "pyproject.toml": PYPROJECT, "appsettings.json": JSON})

    (warning,) = result.warnings
    assert "; pyproject.toml and appsettings.json beside it are not read. " in warning


def test_who_names_a_file_has_chosen_and_needs_no_warning(resolved: Resolve) -> None:
    """A line at every start that could not be silenced would be read by nobody."""
    files = {"milvaion.toml": TOML, "pyproject.toml": PYPROJECT, "appsettings.json": JSON, "other.toml": TOML}

    for config in files:
        assert resolved(files, config).warnings == ()
        assert resolved(files, config).sources == (config,)


def test_a_broken_file_is_not_passed_over(resolved: Resolve) -> None:
    """Else a worker would run with the settings of another one."""
    with pytest.raises(SettingsError, match=r"milvaion\.toml: line 1, column 3"):
        resolved({"milvaion.toml": "a ", "appsettings.json": JSON})


@pytest.mark.parametrize("name", ["settings.yaml", "settings", ".env"])
def test_the_name_of_a_file_says_its_kind(resolved: Resolve, name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolved({name: JSON}, name)

    assert caught.value.problems == (
        f"{name}: its name does not say what kind of file it is; let it end in .toml or .json.",
    )


@pytest.mark.parametrize("name", ["missing.toml", "missing.json", "missing.yaml", "missing/pyproject.toml", "missing"])
def test_a_named_file_that_is_not_there_is_a_mistake(resolved: Resolve, name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolved({"missing.Production.json": JSON}, name)

    (problem,) = caught.value.problems
    assert problem.endswith((": there is no such file.", ": the file cannot be read: No such file or directory."))


@pytest.mark.parametrize(("code", "port"), [(None, 5671), (RabbitMQSettings(), 5671), (RabbitMQSettings(port=7), 7)])
def test_a_port_that_nobody_gave_follows_tls_from_whichever_source(code: RabbitMQSettings | None, port: int) -> None:
    """The code names RabbitMQ, a variable switches TLS on."""
    environ = {"MILVAION_TRIO__RABBITMQ__TLS": "true"}

    settings = resolve(WorkerSettings(rabbitmq=code), environ=environ, folder=Path("/nonexistent")).settings

    assert settings.rabbitmq is not None
    assert (settings.rabbitmq.tls, settings.rabbitmq.port) == (True, port)


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["rabbitmq.host", "worker.rabbitmq.host", "RabbitMQ.Host", "Worker:RabbitMQ:Host", "rabbitmq:host"]
)
def test_a_key_is_written_as_in_toml_or_as_in_dotnet(key: str) -> None:
    assert said(f"{key}=rabbit").settings.rabbitmq == RabbitMQSettings(host="rabbit")


@pytest.mark.parametrize("job", ["jobs.A", "JobConsumers:A", "JobConsumers.A", "Worker:Jobs:A"])
def test_a_job_can_be_told(job: str) -> None:
    separator = ":" if ":" in job else "."

    assert said(f"{job}{separator}max_retries=5").settings.jobs == {"A": JobSettings(max_retries=5)}


def test_a_name_with_a_dot_stands_in_quotes() -> None:
    assert said('jobs."my.job".timeout=5').settings.jobs == {"my.job": JobSettings(timeout=5)}
    assert said("JobConsumers:my.job:timeout=5").settings.jobs == {"my.job": JobSettings(timeout=5)}


def test_a_value_is_text_that_may_hold_anything() -> None:
    result = said("redis.connection_string=h:1,password=a=b", "jobs.A.routing_patterns.0=a", "rabbitmq.port=15")

    assert result.settings.redis == RedisSettings(connection_string="h:1,password=a=b")
    assert result.settings.rabbitmq == RabbitMQSettings(port=15)
    assert result.settings.jobs["A"].routing_patterns == ("a",)
    assert said("redis.connection_string=").settings.redis is None


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("rabitmq.host=x", "--set rabitmq.host is no setting; did you mean rabbitmq.host?"),
        ("Worker:RabitMQ:Host=x", "--set Worker:RabitMQ:Host is no setting; did you mean rabbitmq.host?"),
        ("jobs.A.max_retrys=1", "--set jobs.A.max_retrys is no setting; did you mean jobs.A.max_retries?"),
        ("xyzzy=1", "--set xyzzy is no setting."),
        ("a..b=1", "--set a..b is no setting."),
        (".=1", "--set . is no setting."),
        (":=1", "--set : is no setting."),
        ("rabbitmq.port=many", '--set rabbitmq.port is "many"; it must be a whole number, 1 to 65535.'),
        ("rabbitmq=x", "--set rabbitmq is a single value; it must be a section, with names below it."),
        ("rabbitmq.host=amqp://u:s3cret@h", "--set rabbitmq.host is not shown here; it must be a host's name or add"),
    ],
)
def test_a_mistake_names_the_option(assignment: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        said(assignment)

    (found,) = caught.value.problems
    assert found.startswith(f"command line: {problem}")


def test_one_setting_may_not_be_told_twice() -> None:
    with pytest.raises(SettingsError, match="--set worker_id is there twice, with different values"):
        said("worker_id=a", "worker_id=b")


@pytest.mark.parametrize("assignment", ["rabbitmq.host", "", "=x", " =x"])
def test_what_is_no_assignment_is_told_so(assignment: str) -> None:
    with pytest.raises(UsageError, match="One --set is no assignment: write --set KEY=VALUE"):
        overrides([assignment])


def test_an_option_that_is_a_setting_too_has_its_own_name() -> None:
    given = overrides((), {"--drain-timeout": ("shutdown.drain_timeout", -1), "--worker-id": ("worker_id", None)})

    assert given == [Override("shutdown.drain_timeout", "-1", "--drain-timeout")]
    with pytest.raises(SettingsError, match='command line: --drain-timeout is "-1"; it must be a number'):
        resolve(WorkerSettings(), environ={}, folder=Path("/nonexistent"), overrides=given)


# --- the order of all -----------------------------------------------------------------------------------------------

LAYERS = ("decorator", "constructor", "file", "dotnet", "ours", "command line")
"""From the lowest to the highest."""


@given(st.dictionaries(st.sampled_from(LAYERS), st.integers(0, 99)), st.sampled_from(["toml", "pyproject", "json"]))
def test_whatever_says_something_the_highest_source_wins(said: dict[str, int], kind: str) -> None:
    """For one setting of one job, over any choice of sources that say different things."""
    base, environ, given = WorkerSettings(), {}, []
    if "constructor" in said:
        base = WorkerSettings(jobs={"A": JobSettings(max_retries=said["constructor"])})
    if "dotnet" in said:
        environ["JobConsumers__A__MaxRetries"] = str(said["dotnet"])
    if "ours" in said:
        environ["MILVAION_TRIO__JOBS__A__MAX_RETRIES"] = str(said["ours"])
    if "command line" in said:
        given = [Override("jobs.a.max_retries", str(said["command line"]))]
    with tempfile.TemporaryDirectory() as folder:
        if "file" in said:
            name, text = {
                "toml": ("milvaion.toml", f"[jobs.A]\nmax_retries = {said['file']}"),
                "pyproject": ("pyproject.toml", f"[tool.milvaion-trio.jobs.A]\nmax_retries = {said['file']}"),
                "json": ("appsettings.json", json.dumps({"JobConsumers": {"A": {"MaxRetries": said["file"]}}})),
            }[kind]
            (Path(folder) / name).write_text(text)
        resolved = resolve(base, environ=environ, folder=Path(folder), overrides=given)

    registry = Registry()
    policy = JobSettings(max_retries=said["decorator"]) if "decorator" in said else JobSettings()
    registry.add(define_job(nothing, "A", None, {"max_retries": policy.max_retries}))
    registry.prepare(resolved.settings, context_type=object, provided=(), named=resolved.jobs)
    highest = max(said, key=LAYERS.index, default=None)
    assert registry.jobs[0].effective.retry.max_retries == (3 if highest is None else said[highest])


async def nothing() -> None:
    """Do so."""


# --- the worker -----------------------------------------------------------------------------------------------------


def test_a_worker_takes_a_file_and_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `run --config … --set …` does, at any time before the settings are used."""
    for name in [name for name in os.environ if name.upper().startswith(("WORKER__", "MILVAION_TRIO__"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text('worker_id = "toml"\nmax_parallel_jobs = 2')
    worker = Worker.from_file("mine.toml")

    worker.configure(overrides=[Override("worker_id", "line")])
    worker.configure(overrides=[Override("execution_timeout", "7")])

    settings = worker.settings
    assert (settings.worker_id, settings.max_parallel_jobs, settings.execution_timeout) == ("line", 2, 7)


def test_a_client_says_what_of_its_file_has_no_effect(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As a worker does: a misspelled name would lead it to another broker without a word."""
    (tmp_path / "app.json").write_text('{"Worker": {"RabbitMQ": {"Hots": "h"}}}')

    Client.from_file(tmp_path / "app.json")

    (record,) = caplog.records
    assert "Worker:RabbitMQ:Hots is no setting and is ignored; did you mean Worker:RabbitMQ:Host?" in record.message
