"""Any settings that text can say are the same after having been written and read."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
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
from milvaion_trio.configuration.keys import MAPPINGS, SETTINGS, is_of_named
from milvaion_trio.model.schedule import Misfire, Overlap
from milvaion_trio.model.schedule_settings import ScheduleSettings
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

DATES = st.datetimes(timezones=st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))))

SCHEDULES = st.builds(
    ScheduleSettings,
    job=st.none() | FULL_TEXTS,
    cron=st.none() | FULL_TEXTS,
    timezone=st.none() | FULL_TEXTS,
    every=st.none() | st.floats(0.1, 1e300),
    at=st.none() | DATES,
    data=st.none() | st.sampled_from(["null", "1", '{"to": "ä"}', '["a", null]']),
    overlap=st.none() | st.sampled_from(Overlap),
    misfire=st.none() | st.sampled_from(Misfire),
    misfire_limit=st.none() | st.integers(1, 10_000),
    grace=st.none() | SECONDS,
    jitter=st.none() | SECONDS,
    start=st.none() | DATES,
    end=st.none() | DATES,
    max_runs=st.none() | COUNTS,
    disable_after=st.none() | WHOLE,
    failure_window=st.none() | SECONDS,
    lost_after=st.none() | st.floats(1, 1e300),
)


def once_in_any_case(named: Mapping[str, object]) -> bool:
    return len({name.lower() for name in named}) == len(named)


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
    jobs=st.dictionaries(JOB_NAMES, JOBS, max_size=3).filter(once_in_any_case),
    schedules=st.dictionaries(JOB_NAMES, SCHEDULES, max_size=2).filter(once_in_any_case),
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
            elif inner not in (None, ()) and attribute.name not in ("jobs", "schedules"):
                yield paths[deeper], plain_value(inner)

    yield from below(settings, ())
    for mapped in MAPPINGS:
        for name, one in getattr(settings, mapped.attribute).items():
            for path, value in below(one, (mapped.attribute, mapped.any_name)):
                yield (path[0], name, path[2]), value


def plain_value(value: object) -> object:
    """As files hold it."""
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, Enum) else value


def only_named(settings: WorkerSettings) -> Iterator[tuple[tuple[str, ...], object]]:
    """Something of every job and schedule that says nothing: that they are there."""
    for mapped in MAPPINGS:
        first = next(iter(fields(mapped.kind))).name
        for name in getattr(settings, mapped.attribute):
            yield (mapped.section, name, first), None


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

    for mapped in MAPPINGS:
        for name in getattr(settings, mapped.attribute):
            values.setdefault(mapped.attribute, {})[name] = {}  # type: ignore[index] # made here
    named = {mapped.section: mapped for mapped in MAPPINGS}
    for path, value in said(settings):
        if (one := named.get(path[0])) is not None:
            put(value, one.attribute, path[1], places[one.section, one.any_name, path[2]][-1])
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
    everything = [*said(settings), *only_named(settings)]
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
    everything = [*said(settings), *only_named(settings)]
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
    settings = evolve(
        settings,
        jobs={name: job for name, job in settings.jobs.items() if job != JobSettings()},
        schedules={name: one for name, one in settings.schedules.items() if one != ScheduleSettings()},
    )
    environ: dict[str, str] = {}
    for path, value in said(settings):
        for number, item in enumerate(value) if isinstance(value, tuple) else [(None, value)]:
            full = path if number is None else (*path, str(number))
            name = "__".join(full)
            if is_ours:
                name = variable(full)
                if is_of_named(path):  # as it is written, since names of ours keep their case
                    name = name.replace(f"__{full[1].upper()}__", f"__{full[1]}__", 1)
            environ[name] = plain(item)

    resolved = resolve(WorkerSettings(), config=None, environ=environ, folder=Path("/nonexistent"))

    assert resolved.settings == settings
    assert resolved.warnings == ()
