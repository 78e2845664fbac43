"""Any settings that text can say are the same after having been written and read."""

import json
import tempfile
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import cast

from attrs import AttrsInstance, evolve, fields
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from tests.support.toml_text import written

from milvaion_trio.configuration import resolve
from milvaion_trio.configuration.environment import variable
from milvaion_trio.configuration.keys import SETTINGS
from milvaion_trio.model.settings import (
    HeartbeatSettings,
    JobSettings,
    OfflineResilienceSettings,
    RabbitMQSettings,
    RedisSettings,
    ReportingSettings,
    ShutdownSettings,
    WorkerSettings,
)
from milvaion_trio.model.settings_rules import section_of
from milvaion_trio.model.wire import Dialect

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FULL_TEXTS = TEXTS.filter(bool)
WHOLE = st.integers(0, 2**70)
COUNTS = st.integers(1, 2**70)
SECONDS = st.floats(0, 1e300) | st.integers(0, 2**53)

# Without `:` and `__`, which divide paths.
JOB_NAMES = st.text("abcXYZ019.-äß", min_size=1, max_size=10)

JOBS = st.builds(
    JobSettings,
    max_retries=st.none() | WHOLE,
    base_retry_delay=st.none() | SECONDS,
    timeout=st.none() | SECONDS,
    max_parallel=st.none() | COUNTS,
    consumer_id=st.none() | FULL_TEXTS,
    routing_patterns=st.none() | st.lists(FULL_TEXTS, min_size=1, max_size=12),
    retry_on_timeout=st.none() | st.booleans(),
    jitter=st.none() | st.floats(0, 1),
    max_delay=st.none() | SECONDS,
)

SETTINGS_OF_WORKERS = st.builds(
    WorkerSettings,
    worker_id=st.from_regex(r"[A-Za-z0-9._-]{1,100}", fullmatch=True),
    max_parallel_jobs=COUNTS,
    execution_timeout=SECONDS,
    startup_connection_timeout=st.floats(-1e300, 1e300),
    wire=st.sampled_from(Dialect),
    rabbitmq=st.none()
    | st.builds(
        RabbitMQSettings,
        host=st.from_regex(r"[a-z][a-z0-9.-]{0,20}|::[0-9a-f:]{1,9}", fullmatch=True),
        port=st.integers(1, 65535),
        username=TEXTS,
        password=TEXTS,
        virtual_host=FULL_TEXTS,
        consumer_timeout=SECONDS,
        tls=st.booleans(),
        further_hosts=st.lists(
            st.from_regex(r"([a-z][a-z0-9.-]{0,9}|\[::[0-9a-f]\])(:[1-9][0-9]{0,3})?", fullmatch=True)
        ),
        authentication=st.sampled_from(["PLAIN", "EXTERNAL"]),
        tls_ca_file=TEXTS,
        tls_certificate_file=TEXTS,
        tls_key_file=TEXTS,
        tls_key_password=TEXTS,
        tls_server_name=TEXTS,
        driver=st.sampled_from(["amqp", "aio-pika"]),
    ),
    redis=st.none()
    | st.builds(
        RedisSettings,
        connection_string=FULL_TEXTS,
        password=TEXTS,
        database=WHOLE,
        cancellation_channel=FULL_TEXTS,
    ),
    heartbeat=st.builds(
        HeartbeatSettings, enabled=st.booleans(), interval=st.floats(0.001, 1e300), job_interval=SECONDS
    ),
    offline_resilience=st.builds(
        OfflineResilienceSettings,
        enabled=st.booleans(),
        local_storage_path=FULL_TEXTS,
        durability=st.sampled_from(["NORMAL", "FULL"]),
    ),
    reporting=st.builds(ReportingSettings, local_occurrences=st.booleans()),
    shutdown=st.builds(ShutdownSettings, drain_timeout=SECONDS, cleanup_timeout=SECONDS, flush_timeout=SECONDS),
    job_defaults=JOBS,
    jobs=st.dictionaries(JOB_NAMES, JOBS, max_size=3).filter(
        lambda jobs: len({name.lower() for name in jobs}) == len(jobs)
    ),
)


def said(settings: WorkerSettings) -> Iterator[tuple[tuple[str, ...], object]]:
    """Path in .NET's names and value of everything that is neither `None` nor an empty list, which says nothing."""
    paths = {setting.place: setting.path for setting in SETTINGS}

    def below(value: AttrsInstance, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
        for attribute in fields(type(value)):
            inner: object = getattr(value, attribute.name)
            deeper = (*place, attribute.name)
            if section_of(type(inner)) is not None:
                yield from below(cast("AttrsInstance", inner), deeper)
            elif inner not in (None, ()) and attribute.name != "jobs":
                yield paths[deeper], inner.value if isinstance(inner, Enum) else inner

    yield from below(settings, ())
    for name, job in settings.jobs.items():
        for path, value in below(job, ("jobs", "<job>")):
            yield (path[0], name, path[2]), value


def nested(said: Iterable[tuple[tuple[str, ...], object]]) -> dict[str, object]:
    """The same, section by section."""
    values: dict[str, object] = {}
    sections: dict[str, list[tuple[tuple[str, ...], object]]] = {}
    for (name, *rest), value in said:
        if rest:
            sections.setdefault(name, []).append((tuple(rest), value))
        else:
            values[name] = value
    return values | {name: nested(below) for name, below in sections.items()}


def nested_by_attribute(settings: WorkerSettings) -> dict[str, object]:
    """The same with the names of the attributes, as TOML has them."""
    places = {setting.path: setting.place for setting in SETTINGS}
    values: dict[str, object] = {}

    def put(value: object, *place: str) -> None:
        table = values
        for name in place[:-1]:
            inner = table.setdefault(name, {})
            assert isinstance(inner, dict)
            table = inner
        table[place[-1]] = list(value) if isinstance(value, tuple) else value

    for name in settings.jobs:
        values.setdefault("jobs", {})[name] = {}  # type: ignore[index] # made here
    for path, value in said(settings):
        if path[0] == "JobConsumers":
            put(value, "jobs", path[1], places["JobConsumers", "<job>", path[2]][-1])
        else:
            put(value, *places[path])
    return values


def plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@given(SETTINGS_OF_WORKERS)
@effort(max_examples=40)
def test_settings_written_as_a_file_are_read_as_they_were(settings: WorkerSettings) -> None:
    """A file cannot say that there is no RabbitMQ, and says by an empty text that there is no Redis."""
    settings = evolve(settings, rabbitmq=settings.rabbitmq or RabbitMQSettings())
    everything = [*said(settings), *((("JobConsumers", name, "ConsumerId"), None) for name in settings.jobs)]
    if settings.redis is None:
        everything.append((("Worker", "Redis", "ConnectionString"), ""))
    # What is said twice counts as said last, so null comes first.
    file = nested(sorted(everything, key=lambda path_and_value: path_and_value[1] is not None))

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "mine.json").write_text(json.dumps(file))
        resolved = resolve(WorkerSettings(), config=Path("mine.json"), environ={}, folder=Path(folder))

    assert resolved.settings == settings
    assert resolved.warnings == ()


@given(SETTINGS_OF_WORKERS)
@effort(max_examples=40)
def test_toml_and_json_of_the_same_settings_are_equal(settings: WorkerSettings) -> None:
    """Where both name the servers; only JSON always means both."""
    settings = evolve(
        settings, rabbitmq=settings.rabbitmq or RabbitMQSettings(), redis=settings.redis or RedisSettings()
    )
    everything = [*said(settings), *((("JobConsumers", name, "ConsumerId"), None) for name in settings.jobs)]
    file = nested(sorted(everything, key=lambda path_and_value: path_and_value[1] is not None))

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.json").write_text(json.dumps(file))
        (Path(folder) / "a.toml").write_text(written(nested_by_attribute(settings)), encoding="utf-8")
        results = [
            resolve(WorkerSettings(), config=Path(name), environ={}, folder=Path(folder))
            for name in ("a.json", "a.toml")
        ]

    assert [result.settings for result in results] == [settings, settings]
    assert results[0].origins.keys() == results[1].origins.keys()


@given(SETTINGS_OF_WORKERS, st.booleans())
@effort(max_examples=40)
def test_settings_written_as_variables_are_read_as_they_were(settings: WorkerSettings, is_ours: bool) -> None:
    """In either form; of a job somebody must say something."""
    settings = evolve(settings, jobs={name: job for name, job in settings.jobs.items() if job != JobSettings()})
    environ: dict[str, str] = {}
    for path, value in said(settings):
        for number, item in enumerate(value) if isinstance(value, tuple) else [(None, value)]:
            full = path if number is None else (*path, str(number))
            name = "__".join(full)
            if is_ours:
                name = variable(full).replace(full[1].upper(), full[1]) if path[0] == "JobConsumers" else variable(full)
            environ[name] = plain(item)

    resolved = resolve(WorkerSettings(), config=None, environ=environ, folder=Path("/nonexistent"))

    assert resolved.settings == settings
    assert resolved.warnings == ()
