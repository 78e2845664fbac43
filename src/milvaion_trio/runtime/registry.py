"""Which jobs a worker has, and under which names messages find them.

Each definition is looked at with the worker's settings, and all of them together, before any of them is served.
"""

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from attrs import frozen

from milvaion_trio.model.errors import JobNotRegistered, SettingsError
from milvaion_trio.model.settings import JobSettings, WorkerSettings
from milvaion_trio.model.settings_rules import shown_name
from milvaion_trio.model.topology import queue_name, routing_pattern
from milvaion_trio.policy.binding import DataReader
from milvaion_trio.policy.key_template import KeyTemplate
from milvaion_trio.policy.parameters import Parameters, inspect_parameters, returned_type
from milvaion_trio.policy.retry import RetryPolicy
from milvaion_trio.policy.schema import Schema, data_schema, result_schema
from milvaion_trio.runtime.definition import JobDefinition, RunMode, definition_problems, suggestion

__all__ = ["EffectiveJob", "RegisteredJob", "Registry", "resolve"]

_DEFAULTS: Final = JobSettings(
    max_retries=3, base_retry_delay=60.0, retry_on_timeout=False, jitter=0.0, never_retry=(), routing_patterns=()
)
_NOTHING_SAID: Final = JobSettings()
_LONGEST_QUEUE_NAME: Final = 255
"""Bytes of an AMQP short string."""
_CONSTRUCTOR: Final = "constructor "
"""Marks the constructor's parameters among all that a job needs; no parameter of `execute` has a blank in its name."""


@frozen
class EffectiveJob:
    """A job's settings with nothing left to inherit."""

    max_parallel: int
    timeout: float | None
    """Seconds; `None` for no limit."""
    retry: RetryPolicy


def resolve(job: JobSettings, worker: WorkerSettings) -> EffectiveJob:
    """Fill in what the job inherits: from the worker's job defaults, then the worker, then the readme."""
    full = job.over(worker.job_defaults).over(_DEFAULTS)
    timeout = worker.execution_timeout if full.timeout is None else full.timeout
    return EffectiveJob(
        max_parallel=full.max_parallel or worker.max_parallel_jobs,
        timeout=timeout or None,
        retry=RetryPolicy(
            max_retries=full.max_retries or 0,
            base_delay=full.base_retry_delay or 0.0,
            cap=full.max_delay,
            jitter=full.jitter or 0.0,
            retry_on_timeout=bool(full.retry_on_timeout),
            never=full.never_retry or (),
        ),
    )


@frozen(kw_only=True)
class RegisteredJob:
    """A job of a worker that is about to serve: everything about it is looked up."""

    definition: JobDefinition[..., object]
    name: str
    effective: EffectiveJob
    consumer_id: str
    patterns: tuple[str, ...]
    """The first names the queue and is registered; all are bound to it."""
    queue: str
    parameters: Parameters
    """Of the function, or of `execute`."""
    needed: Mapping[str, object]
    """What must be provided for a run: a key to hand to `callable_for`, and the provided type."""
    reader: DataReader | None
    """`None` where no parameter takes data."""
    data_schema: Schema | None
    """What the dashboard shows about the data; `None` where it can show nothing."""
    result_schema: Schema | None
    exclusive: KeyTemplate | None = None
    """What its exclusive key is made from, where its client names none."""
    unique: str | None = None
    """What clients make its unique key from, where they name none."""

    def callable_for(self, arguments: Mapping[str, object]) -> Callable[[], object]:
        """The job, ready to be called once: `arguments` are those of `parameters`, and a value per key of `needed`."""
        if not self.definition.is_class:
            return functools.partial(self.definition.target, **arguments)
        constructor = {key.removeprefix(_CONSTRUCTOR): arguments[key] for key in self.needed if _CONSTRUCTOR in key}
        instance = self.definition.target(**constructor)
        own = {name: value for name, value in arguments.items() if _CONSTRUCTOR not in name}
        return functools.partial(instance.execute, **own)  # type: ignore[attr-defined] # checked at start


class Registry:
    """The jobs of one worker."""

    def __init__(self) -> None:
        self._definitions: list[JobDefinition[..., object]] = []
        self._found: dict[str, RegisteredJob] = {}
        self._jobs: tuple[RegisteredJob, ...] = ()
        self._names: tuple[str, ...] = ()

    def add(self, definition: JobDefinition[..., object]) -> None:
        """Collect a job; the same one twice counts once."""
        if not any(known is definition for known in self._definitions):
            self._definitions.append(definition)

    @property
    def definitions(self) -> tuple[JobDefinition[..., object], ...]:
        """Everything that was added, in that order."""
        return tuple(self._definitions)

    @property
    def jobs(self) -> tuple[RegisteredJob, ...]:
        """The jobs to serve; empty before `prepare`."""
        return self._jobs

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the jobs to serve."""
        return self._names

    def knows(self, name: str) -> bool:
        """Whether there is a job of that name, in any case."""
        return name in self._found or name.lower() in self._found

    def resolve(self, name: str) -> RegisteredJob:
        """The job of that name, in any case; raises `JobNotRegistered`."""
        found = self._found.get(name) or self._found.get(name.lower())
        if found is None:
            raise JobNotRegistered(name, self.names)
        return found

    def patterns(self, settings: WorkerSettings) -> dict[str, tuple[str, ...]]:
        """The routing patterns of every job that was added, by its name; the first one names its queue."""
        policies = _Policies(settings.jobs)
        return {
            definition.name: _patterns(settings.worker_id, definition.name, policies.of(definition))
            for definition in self._definitions
        }

    def uniques(self, settings: WorkerSettings) -> dict[str, str]:
        """What the unique keys of jobs that were added are made from, by job name, of those that have one."""
        policies = _Policies(settings.jobs)
        found = {each.name: policies.of(each).over(settings.job_defaults).unique for each in self._definitions}
        return {name: template for name, template in found.items() if template is not None}

    def check(
        self,
        worker_id: str,
        configured: Mapping[str, JobSettings] | None = None,
        named: Mapping[str, str] = MappingProxyType({}),
    ) -> list[str]:
        """One line per mistake in names, queues and run modes, and in what a file has configured for single jobs.

        `named` says which source names a job, by its name in lower case; what is not in it, the code itself names.
        """
        policies = _Policies(configured or {})
        problems: list[str] = []
        first: dict[str, JobDefinition[..., object]] = {}
        queues: dict[str, str] = {}
        for definition in self._definitions:
            name = definition.name
            problems += definition_problems(definition)
            same = first.setdefault(name.lower(), definition)
            if same is not definition:
                problems.append(f"Two jobs are called {same.name!r} and {name!r}; names are the same in any case.")
                continue
            policy = policies.of(definition)
            problems += [
                f"{name!r}: no message can reach the routing pattern {pattern!r}: it must be words with dots between "
                "them, where * stands for one whole word and # for any number."
                for pattern in policy.routing_patterns or ()
                if any(not word or (len(word) > 1 and ("*" in word or "#" in word)) for word in pattern.split("."))
            ]
            for pattern in _patterns(worker_id, name, policy):
                queue = queue_name(pattern)
                if len(queue.encode()) > _LONGEST_QUEUE_NAME:
                    problems.append(
                        f"{name!r}: its queue {queue[:60]}… has a name of over {_LONGEST_QUEUE_NAME} bytes."
                    )
                if (other := queues.setdefault(queue, name)) != name:
                    problems.append(
                        f"{other!r} and {name!r} share the queue {queue}, so each gets messages of the other. "
                        "Rename one (a trailing `Job` does not count) or give it routing_patterns of its own."
                    )
        for name in configured or {}:
            if name.lower() not in first:
                hint = suggestion(name, [definition.name for definition in self._definitions])
                remedy = "" if hint.strip(".") else " Add it, or give this worker a settings file without it."
                where = f" ({named[name.lower()]})" if name.lower() in named else ""
                shown = shown_name(repr(name))
                problems.append(f"The settings name a job {shown} that this worker does not have{where}{hint}{remedy}")
        return problems

    def prepare(
        self,
        settings: WorkerSettings,
        *,
        context_type: type,
        provided: Collection[object],
        named: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Look everything up, so that the jobs can run; raises `SettingsError` with every mistake of every job.

        `named` is as for `check`.
        """
        problems = self.check(settings.worker_id, settings.jobs, named)
        policies = _Policies(settings.jobs)
        inspected = functools.partial(inspect_parameters, context_type=context_type, provided=provided)
        jobs: list[RegisteredJob] = []
        for definition in self._definitions:
            try:
                jobs.append(_registered(definition, policies.of(definition), settings, inspected, context_type))
            except SettingsError as error:
                problems += [_about(definition.name, problem) for problem in error.problems]
        if problems:
            raise SettingsError(problems)
        self._jobs = tuple(jobs)
        self._names = tuple(job.name for job in jobs)
        # By the name as it is in nearly all messages, and by its lower case for the rest.
        self._found = {key: job for job in jobs for key in (job.name.lower(), job.name)}


class _Policies:
    """What a file says about jobs, over what their decorators say; names in any case."""

    def __init__(self, configured: Mapping[str, JobSettings]) -> None:
        self._configured = {name.lower(): settings for name, settings in configured.items()}

    def of(self, definition: JobDefinition[..., object]) -> JobSettings:
        return self._configured.get(definition.name.lower(), _NOTHING_SAID).over(definition.policy)


def _about(name: str, problem: str) -> str:
    return problem if problem.startswith(name) else f"{name}: {problem}"


def _registered(
    definition: JobDefinition[..., object],
    policy: JobSettings,
    settings: WorkerSettings,
    inspected: Callable[..., Parameters],
    context_type: type,
) -> RegisteredJob:
    if definition.code is None:
        raise SettingsError([f"{definition.name} has no `async def execute(self, ctx, data=None)`."])
    parameters = inspected(definition.code)
    needed = dict(parameters.provided)
    if definition.is_class:
        constructor = inspected(definition.target, takes_data=False)
        needed |= {_CONSTRUCTOR + name: kind for name, kind in constructor.provided.items()}
        if constructor.context is not None:
            needed[_CONSTRUCTOR + constructor.context] = context_type
    if definition.mode is RunMode.PROCESS:
        lent = sorted(str(getattr(kind, "__name__", kind)) for kind in needed.values() if kind is not context_type)
        if lent:
            raise SettingsError(
                [
                    f"{definition.name} needs {', '.join(lent)}, which cannot cross into the process of a job with "
                    'run="process"; make it in the job, or once in its module.'
                ]
            )
    patterns, full = _patterns(settings.worker_id, definition.name, policy), policy.over(settings.job_defaults)
    reader = None if parameters.data is None else DataReader.build(definition.name, parameters.data)
    if problems := list(_key_problems(full, parameters)):
        raise SettingsError(problems)
    return RegisteredJob(
        definition=definition,
        name=definition.name,
        effective=resolve(policy, settings),
        consumer_id=policy.consumer_id or f"{definition.name.lower()}-consumer",
        patterns=patterns,
        queue=queue_name(patterns[0]),
        parameters=parameters,
        needed=needed,
        reader=reader,
        data_schema=None if parameters.data is None else data_schema(parameters.data.annotation),
        result_schema=result_schema(returned_type(definition.code)),
        exclusive=None if full.exclusive is None else KeyTemplate.parse(full.exclusive),
        unique=full.unique,
    )


def _key_problems(policy: JobSettings, parameters: Parameters) -> Iterator[str]:
    """One line per key whose parts no message can have."""
    for word, text in (("exclusive", policy.exclusive), ("unique", policy.unique)):
        if text is None:
            continue
        try:
            template = KeyTemplate.parse(text)
        except ValueError as error:
            yield f"{word} is {text!r}: {error}."
            continue
        if word == "unique" and template.has_occurrence:
            yield f"unique is {text!r}: every occurrence has another occurrence_id, so it would keep nobody out."
        if parameters.data is not None:
            for name in template.missing_in(parameters.data.annotation):
                yield f"{word} is {text!r}, and the data of this job has no field {name!r}."


def _patterns(worker_id: str, name: str, policy: JobSettings) -> tuple[str, ...]:
    return policy.routing_patterns or (routing_pattern(worker_id, name),)
