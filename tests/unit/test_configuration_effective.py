"""What holds and where it comes from, as `config show` has it; no secret is in it."""

import json
import string
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from milvaion_trio import JobSettings, Worker, WorkerSettings
from milvaion_trio.configuration import Override, resolve
from milvaion_trio.configuration.effective import Effective, effective_settings
from milvaion_trio.configuration.keys import MAPPINGS
from milvaion_trio.model.settings import RabbitMQSettings, RedisSettings, ReportingSettings
from milvaion_trio.model.settings_rules import section_of

Show = Callable[..., dict[str, tuple[object, str]]]

DEFAULT = "default"


@pytest.fixture
def shown(tmp_path: Path) -> Show:
    """Every effective setting by its name, with value and origin."""

    def showing(
        base: WorkerSettings | None = None,
        toml: str | None = None,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, str] | None = None,
        jobs: Callable[[Worker], object] | None = None,
    ) -> dict[str, tuple[object, str]]:
        if toml is not None:
            (tmp_path / "milvaion.toml").write_text(toml)
        given = [Override(key, text) for key, text in (overrides or {}).items()]
        resolved = resolve(base or WorkerSettings(), environ=environ or {}, folder=tmp_path, overrides=given)
        worker = Worker(settings=resolved.settings)
        worker.settings = resolved.settings
        if jobs is not None:
            jobs(worker)
            worker.prepare()
        return {each.name: (each.value, each.origin) for each in effective_settings(resolved, worker.registry.jobs)}

    return showing


def test_what_nobody_said_is_default(shown: Show) -> None:
    found = shown()

    assert {origin for _, origin in found.values()} == {DEFAULT}
    assert found["worker_id"] == ("worker", DEFAULT)
    assert found["rabbitmq"] == (None, DEFAULT)
    assert found["wire"] == ("1.1", DEFAULT)
    assert not any(name.startswith(("jobs", "job_defaults")) for name in found)


def test_every_value_names_the_source_that_holds(shown: Show) -> None:
    base = WorkerSettings(
        worker_id="code",
        max_parallel_jobs=2,
        redis=RedisSettings(database=3),
        reporting=ReportingSettings(local_occurrences=True),
        job_defaults=JobSettings(jitter=0.5),
        jobs={"A": JobSettings(max_retries=1)},
    )
    toml = 'worker_id = "toml"\nexecution_timeout = 5\n\n[rabbitmq]\nhost = "h"\nport = 1\n[jobs.A]\ntimeout = 2'
    environ = {"MILVAION_TRIO__RABBITMQ__HOST": "i", "Worker__Redis__Password": "p"}

    found = shown(base, toml, environ, {"rabbitmq.port": "2"})

    assert found["worker_id"] == ("toml", "milvaion.toml, line 1")
    assert found["execution_timeout"] == (5.0, "milvaion.toml, line 2")
    assert found["max_parallel_jobs"] == (2, "constructor")
    assert found["rabbitmq.host"] == ("i", "MILVAION_TRIO__RABBITMQ__HOST")
    assert found["rabbitmq.port"] == (2, "command line")
    assert found["rabbitmq.virtual_host"] == ("/", DEFAULT)
    assert found["redis.database"] == (3, "constructor")
    assert found["redis.password"] == ("***", "Worker__Redis__Password")
    assert found["reporting.local_occurrences"] == (True, "constructor")
    assert found["job_defaults.jitter"] == (0.5, "constructor")
    assert found["jobs.A.max_retries"] == (1, "constructor")
    assert found["jobs.A.timeout"] == (2.0, "milvaion.toml, line 8")


def test_a_value_that_follows_from_another_is_a_default_too(shown: Show) -> None:
    """Nobody gave the port; TLS has another one."""
    assert shown(WorkerSettings(rabbitmq=RabbitMQSettings(tls=True)))["rabbitmq.port"] == (5671, DEFAULT)
    assert shown(WorkerSettings(rabbitmq=RabbitMQSettings(port=5671)))["rabbitmq.port"] == (5671, "constructor")
    assert shown(toml="[rabbitmq]\ntls = true")["rabbitmq.port"] == (5671, DEFAULT)
    assert shown(toml="[rabbitmq]\ntls = true\nport = 5672")["rabbitmq.port"] == (5672, "milvaion.toml, line 3")


def test_several_hosts_and_tls_are_shown(shown: Show) -> None:
    """But for the password of the key."""
    toml = '[rabbitmq]\ntls_ca_file = "ca"\nfurther_hosts = ["b", "c:1"]\ntls_key_password = "s3cret"'
    environ = {"MILVAION_TRIO__RABBITMQ__FURTHER_HOSTS__1": "d:2"}

    found = shown(WorkerSettings(), toml, environ, {"rabbitmq.driver": "aio-pika"})

    assert found["rabbitmq.tls"] == (False, DEFAULT)
    assert found["rabbitmq.tls_ca_file"] == ("ca", "milvaion.toml, line 2")
    assert found["rabbitmq.tls_key_password"] == ("***", "milvaion.toml, line 4")
    assert found["rabbitmq.driver"] == ("aio-pika", "command line")
    hosts = (["b", "d:2"], "milvaion.toml, line 3, MILVAION_TRIO__RABBITMQ__FURTHER_HOSTS__1")
    assert found["rabbitmq.further_hosts"] == hosts


async def nothing() -> None:
    """Do so."""


def test_each_part_of_a_jobs_policy_names_its_source(shown: Show) -> None:
    base = WorkerSettings(
        max_parallel_jobs=4, job_defaults=JobSettings(jitter=0.5), jobs={"SendEmailJob": JobSettings(max_delay=9)}
    )
    toml = "execution_timeout = 7\n[job_defaults]\nretry_on_timeout = true\n[jobs.sendemailjob]\nmax_retries = 8"

    found = shown(
        base,
        toml,
        jobs=lambda worker: worker.job("SendEmailJob", max_retries=1, base_retry_delay=2, never_retry=[OSError])(
            nothing
        ),
    )

    assert {name: each for name, each in found.items() if name.startswith("jobs.")} == {
        "jobs.SendEmailJob.max_retries": (8, "milvaion.toml, line 5"),
        "jobs.SendEmailJob.base_retry_delay": (2, "decorator"),
        "jobs.SendEmailJob.timeout": (7.0, "milvaion.toml, line 1 (execution_timeout)"),
        "jobs.SendEmailJob.max_parallel": (4, "constructor (max_parallel_jobs)"),
        "jobs.SendEmailJob.consumer_id": ("sendemailjob-consumer", DEFAULT),
        "jobs.SendEmailJob.routing_patterns": (["worker.sendemail.*"], DEFAULT),
        "jobs.SendEmailJob.retry_on_timeout": (True, "milvaion.toml, line 3 (job_defaults)"),
        "jobs.SendEmailJob.jitter": (0.5, "constructor (job_defaults)"),
        "jobs.SendEmailJob.max_delay": (9, "constructor"),
        "jobs.SendEmailJob.never_retry": (["OSError"], "decorator"),
    }


def test_what_is_said_to_inherit_is_inherited(shown: Show) -> None:
    """A 0 for the runs at once means the worker's (WIRE.md 1.4), so the file is not where the number is from."""
    found = shown(
        toml="max_parallel_jobs = 3\n[jobs.A]\nmax_parallel = 0", jobs=lambda worker: worker.job("A")(nothing)
    )

    assert found["jobs.A.max_parallel"] == (3, "milvaion.toml, line 1 (max_parallel_jobs)")


def test_every_setting_is_shown(shown: Show) -> None:
    """None is forgotten, whatever the class has in a later version."""
    found = shown(WorkerSettings(rabbitmq=RabbitMQSettings(), redis=RedisSettings()))

    names = set()
    for attribute in WorkerSettings.__attrs_attrs__:
        section = section_of(attribute.type)
        below = [] if section is None else [f"{attribute.name}.{inner.name}" for inner in section.__attrs_attrs__]
        names |= set(below or [attribute.name])
    mappings = {mapped.attribute for mapped in MAPPINGS}
    assert found.keys() == {name for name in names - mappings if not name.startswith("job_defaults")}


SECRETS = st.text(string.ascii_letters + string.digits + "=@/+.,:", min_size=6, max_size=20).map("Zq{}".format)


@given(SECRETS, st.sampled_from(["toml", "json", "ours", "dotnet", "line", "code"]))
@effort(max_examples=150)
def test_no_secret_is_ever_shown(secret: str, source: str) -> None:
    """Whatever it is and whichever source says it: passwords, and the one in a connection string."""
    base, files, environ, given = WorkerSettings(), {}, {}, []
    string = f"h:1,password={secret},ssl=true"
    match source:
        case "toml":
            text = f'rabbitmq.password = "{secret}"\nredis.password = "{secret}"\nredis.connection_string = "{string}"'
            files = {"milvaion.toml": text}
        case "json":
            redis = {"Password": secret, "ConnectionString": string}
            files = {"appsettings.json": json.dumps({"Worker": {"RabbitMQ": {"Password": secret}, "Redis": redis}})}
        case "ours":
            environ["MILVAION_TRIO__REDIS__CONNECTION_STRING"] = string
            environ |= {f"MILVAION_TRIO__{name}__PASSWORD": secret for name in ("RABBITMQ", "REDIS")}
        case "dotnet":
            environ["Worker__Redis__ConnectionString"] = string
            environ |= {f"Worker__{name}__Password": secret for name in ("RabbitMQ", "Redis")}
        case "line":
            given = [Override(f"{name}.password", secret) for name in ("rabbitmq", "redis")]
            given.append(Override("redis.connection_string", f"redis://user:{secret}@h:1"))
        case _:
            redis_settings = RedisSettings(password=secret, connection_string=string)
            base = WorkerSettings(rabbitmq=RabbitMQSettings(password=secret), redis=redis_settings)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text)
        resolved = resolve(base, environ=environ, folder=Path(folder), overrides=given)

    found = effective_settings(resolved)

    assert secret not in f"{found} {resolved}"
    hidden = {each.name: each.value for each in found if "***" in str(each.value)}
    assert hidden.keys() == {"rabbitmq.password", "redis.password", "redis.connection_string"}
    assert str(hidden["redis.connection_string"]) in ("h:1,password=***", "redis://***@h:1", "redis://***")


def test_what_is_shown_is_json() -> None:
    """For `--json`: numbers are numbers, lists are lists."""
    found = effective_settings(resolve(WorkerSettings(), environ={}, folder=Path("/nonexistent")))

    assert all(isinstance(each, Effective) for each in found)
    assert json.loads(json.dumps([each.value for each in found])) == [each.value for each in found]
