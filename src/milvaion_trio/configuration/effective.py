"""Every setting with the value that holds and where it comes from, for a person to read.

Separate from resolving, which serving needs: here nothing is decided, and no secret is shown.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from enum import Enum
from types import MappingProxyType

from attrs import AttrsInstance, fields, frozen

from milvaion_trio.configuration.keys import Place, dotted
from milvaion_trio.configuration.resolution import Resolved
from milvaion_trio.model.schedule_settings import ScheduleSettings
from milvaion_trio.model.settings import JobSettings, WorkerSettings
from milvaion_trio.model.settings_rules import is_usual, section_of, shown_name
from milvaion_trio.runtime.registry import RegisteredJob

__all__ = ["Effective", "effective_settings"]

_DEFAULT = "default"
_CONSTRUCTOR = "constructor"
_DECORATOR = "decorator"
_WORKERS = {"timeout": "execution_timeout", "max_parallel": "max_parallel_jobs"}
"""What a job inherits from its worker."""


@frozen
class Effective:
    """One setting as it holds."""

    name: str
    """In TOML's form: `rabbitmq.host`."""
    value: object
    """A number, a text, true or false, a list, or `None` for nothing; a secret is `***`."""
    origin: str
    """`default`, `constructor`, `decorator`, a file with its line, a variable, or `command line`."""


def effective_settings(
    resolved: Resolved,
    jobs: Iterable[RegisteredJob] = (),
    schedules: Mapping[str, ScheduleSettings] = MappingProxyType({}),
) -> list[Effective]:
    """All settings of a worker, then those of these jobs; without any, what is said about single jobs.

    `schedules` is what code says of them; only what somebody says is told.
    """
    settings, prepared = resolved.settings, list(jobs)
    found = list(_section(settings, (), resolved.origins))
    for name, job in settings.jobs.items():
        if all(each.name.lower() != name.lower() for each in prepared):
            found += _said_of_job(name, job, resolved.origins)
    for each in prepared:
        found += _job(each, resolved)
    spelled = {name.lower(): name for name in (*settings.schedules, *schedules)}
    for name in spelled.values():
        found += _schedule(name, schedules.get(name), resolved)
    return found


def _section(section: AttrsInstance, place: Place, origins: Mapping[Place, str]) -> Iterator[Effective]:
    for attribute in fields(type(section)):
        value: object = getattr(section, attribute.name)
        here = (*place, attribute.name)
        kind = section_of(attribute.type)
        if kind is not None and isinstance(value, kind):
            yield from _section(value, here, origins)
        elif attribute.name not in ("jobs", "schedules") and (value is not None or kind is not None):
            origin = origins.get(here, _DEFAULT if is_usual(section, attribute.name) else _CONSTRUCTOR)
            yield Effective(".".join(here), _shown(section, attribute.name), origin)


def _said_of_job(name: str, job: JobSettings, origins: Mapping[Place, str]) -> Iterator[Effective]:
    for attribute in fields(JobSettings):
        if getattr(job, attribute.name) is not None:
            origin = origins.get(("jobs", name.lower(), attribute.name), _CONSTRUCTOR)
            yield Effective(_job_name(name, attribute.name), _shown(job, attribute.name), origin)


def _schedule(name: str, code: ScheduleSettings | None, resolved: Resolved) -> Iterator[Effective]:
    lower = name.lower()
    said = next((each for other, each in resolved.settings.schedules.items() if other.lower() == lower), None)
    whole = (said or ScheduleSettings()).over(code or ScheduleSettings())
    for field in whole.said:
        by_code = _CONSTRUCTOR if said is not None and field in said.said else _DECORATOR
        origin = resolved.origins.get(("schedules", lower, field), by_code)
        yield Effective(f"{shown_name(dotted(('Schedules', name)))}.{field}", _shown(whole, field), origin)


def _job(job: RegisteredJob, resolved: Resolved) -> Iterator[Effective]:
    """The whole policy of a job, each part with the first of the sources that says anything about it."""
    settings, origins, lower = resolved.settings, resolved.origins, job.name.lower()
    said = next((each for name, each in settings.jobs.items() if name.lower() == lower), JobSettings())
    for name, value in _policy(job).items():
        origin = _DEFAULT
        if getattr(said, name) is not None:
            origin = origins.get(("jobs", lower, name), _CONSTRUCTOR)
        elif getattr(job.definition.policy, name) is not None:
            origin = _DECORATOR
        elif getattr(settings.job_defaults, name) is not None:
            origin = f"{origins.get(('job_defaults', name), _CONSTRUCTOR)} (job_defaults)"
        elif (workers := _WORKERS.get(name)) is not None:
            is_usual = getattr(settings, workers) == getattr(WorkerSettings(), workers)
            origin = f"{origins.get((workers,), _DEFAULT if is_usual else _CONSTRUCTOR)} ({workers})"
        yield Effective(_job_name(job.name, name), value, origin)


def _policy(job: RegisteredJob) -> dict[str, object]:
    """By the names of `JobSettings`, in their order."""
    effective, retry = job.effective, job.effective.retry
    return {
        "max_retries": retry.max_retries,
        "base_retry_delay": retry.base_delay,
        "timeout": effective.timeout or 0,
        "max_parallel": effective.max_parallel,
        "consumer_id": job.consumer_id,
        "routing_patterns": list(job.patterns),
        "retry_on_timeout": retry.retry_on_timeout,
        "jitter": retry.jitter,
        "max_delay": retry.cap,
        "never_retry": [kind.__qualname__ for kind in retry.never],
    }


def _shown(section: AttrsInstance, name: str) -> object:
    value: object = getattr(section, name)
    hide = getattr(fields(type(section)), name).repr
    if callable(hide):
        return str(hide(value)).removeprefix("'").removesuffix("'")
    if isinstance(value, tuple):
        return [item.__qualname__ if isinstance(item, type) else item for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, Enum) else value


def _job_name(job: str, setting: str) -> str:
    return f"{shown_name(dotted(('JobConsumers', job)))}.{setting}"
