"""Which jobs a worker has, and under which names messages find them.

A decorator only records; nothing is judged before all jobs are known, so that one report names every mistake.
"""

import difflib
import enum
import functools
import inspect
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Final, Generic, Literal, ParamSpec, TypeAlias, TypeVar, Unpack, get_args

from attrs import define, field, fields, frozen

from milvaion_trio.model.errors import JobNotRegistered, SettingsError
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.settings import JobPolicy, JobSettings, WorkerSettings
from milvaion_trio.model.topology import queue_name, routing_pattern
from milvaion_trio.policy.binding import DataReader, Parameters, inspect_parameters
from milvaion_trio.policy.retry import RetryPolicy

__all__ = [
    "Dispatch",
    "EffectiveJob",
    "Job",
    "JobDefinition",
    "RegisteredJob",
    "Registry",
    "RunMode",
    "RunWord",
    "define_job",
    "job",
    "resolve",
]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

_DEFAULTS: Final = JobSettings(
    max_retries=3, base_retry_delay=60.0, retry_on_timeout=False, jitter=0.0, never_retry=(), routing_patterns=()
)
_NOTHING_SAID: Final = JobSettings()
_LONGEST_NAME: Final = 200
"""The width of the API's column (WIRE.md 1.3)."""
_LONGEST_QUEUE_NAME: Final = 255
"""Bytes of an AMQP short string."""
_CONSTRUCTOR: Final = "constructor "
"""Marks the constructor's parameters among all that a job needs; no parameter of `execute` has a blank in its name."""


# --- what the decorators make ---------------------------------------------------------------------------------------


class RunMode(enum.StrEnum):
    """Where a job's code runs."""

    TASK = "task"
    """In Trio's thread, as a task: `async def`."""
    THREAD = "thread"
    """In a worker thread: `def`."""
    PROCESS = "process"
    """In a process of its own."""
    ASYNCIO = "asyncio"
    """An asyncio coroutine function, on the bridge."""


RunWord: TypeAlias = Literal["task", "thread", "process", "asyncio"]


class Job:
    """Base of jobs written as classes: constructor parameters are provided, `execute` is called once per attempt.

    Write `async def execute(self, ctx, data=None)`, or `def execute(…)` to run in a thread.
    Its parameters follow the rules of functions.
    """

    execute: Callable[..., object]


Dispatch: TypeAlias = Callable[["JobDefinition[..., object]", object, float | None], Awaitable[OccurrenceId]]
"""What `enqueue` hands over to: the job, its data, and the seconds to wait before it may run."""


@define(eq=False)
class JobDefinition(Generic[P, R_co]):
    """A job as its decorator saw it. Calling it calls the function, so it is tested like any function."""

    name: str
    target: Callable[P, R_co]
    """The function, or the class."""
    policy: JobSettings = field(factory=JobSettings)
    mode: RunMode = field(kw_only=True)
    _dispatch: Dispatch | None = field(default=None, init=False, repr=False)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function, or make an instance of the class; no worker is involved."""
        return self.target(*args, **kwargs)

    @property
    def __wrapped__(self) -> Callable[P, R_co]:
        return self.target

    @property
    def is_class(self) -> bool:
        """Whether the job is a class, made anew for each attempt."""
        return isinstance(self.target, type)

    @property
    def code(self) -> Callable[..., object] | None:
        """The function that does the work; `None` for a class without `execute`."""
        return getattr(self.target, "execute", None) if self.is_class else self.target

    async def enqueue(self, data: object = None, *, delay: float | None = None) -> OccurrenceId:
        """Dispatch the job through the worker's client, to run after `delay` seconds; returns the occurrence's id.

        Raises `SettingsError` while no worker has been bound.
        If cancelled, the message may or may not have been sent.
        """
        if self._dispatch is None:
            raise SettingsError(
                [
                    f"{self.name}.enqueue() was called, but no worker that has the job is being served, so there is no "
                    "connection to send it with. Enqueue from inside a running worker, or from any program with "
                    f"`async with Client.from_file(…) as client: await client.enqueue({self.name!r}, data)`."
                ]
            )
        return await self._dispatch(self, data, delay)

    def bind(self, dispatch: Dispatch | None) -> None:
        """Set what `enqueue` sends with; `None` takes it away."""
        self._dispatch = dispatch


def define_job(
    target: Callable[P, R_co], name: str | None = None, run: RunWord | None = None, policy: JobPolicy | None = None
) -> JobDefinition[P, R_co]:
    """What every decorator does: record a function or class with its name and policy."""
    if not callable(target):
        raise SettingsError([f"{target!r} is no job: decorate a function or a class with `execute`."])
    policy, shown = policy or {}, _name_of(target)
    known = [attribute.name for attribute in fields(JobSettings)]
    problems = [f"{shown}: a job has no setting {key!r}{_suggestion(key, known)}" for key in policy if key not in known]
    if run is not None and run not in get_args(RunWord):
        problems.append(f"{shown}: run is {run!r}; it must be one of {', '.join(map(repr, get_args(RunWord)))}.")
    if problems:
        raise SettingsError(problems)
    code = getattr(target, "execute", None) if isinstance(target, type) else target
    mode = RunMode(run) if run is not None else RunMode.TASK if _is_async(code) else RunMode.THREAD
    return JobDefinition(shown if name is None else name, target, JobSettings(**policy), mode=mode)


def job(
    name: str | None = None, *, run: RunWord | None = None, **policy: Unpack[JobPolicy]
) -> Callable[[Callable[P, R_co]], JobDefinition[P, R_co]]:
    """Make a function or a class a job of whichever worker discovers it."""
    if callable(name):
        raise SettingsError([f"{_name_of(name)}: write @job() with parentheses."])
    return lambda target: define_job(target, name, run, policy)


def _name_of(target: object) -> str:
    target = getattr(target, "func", target)  # of a partial
    return str(getattr(target, "__name__", None) or type(target).__name__)


def _is_async(code: object) -> bool:
    call = vars(type(code)).get("__call__")  # of an object that is called like a function
    return inspect.iscoroutinefunction(code) or inspect.iscoroutinefunction(call)


def _suggestion(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else "."


# --- what a worker makes of them ------------------------------------------------------------------------------------


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

    def check(self, worker_id: str, configured: Mapping[str, JobSettings] | None = None) -> list[str]:
        """One line per mistake in names, queues and run modes, and in what a file has configured for single jobs."""
        policies = _Policies(configured or {})
        problems: list[str] = []
        first: dict[str, JobDefinition[..., object]] = {}
        queues: dict[str, str] = {}
        for definition in self._definitions:
            name = definition.name
            problems += _name_problems(name) + _mode_problems(definition)
            same = first.setdefault(name.lower(), definition)
            if same is not definition:
                problems.append(f"Two jobs are called {same.name!r} and {name!r}; names are the same in any case.")
                continue
            for pattern in _patterns(worker_id, name, policies.of(definition)):
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
                hint = _suggestion(name, [definition.name for definition in self._definitions])
                problems.append(f"The settings name a job {name!r} that this worker does not have{hint}")
        return problems

    def prepare(self, settings: WorkerSettings, *, context_type: type, provided: Collection[object]) -> None:
        """Look everything up, so that the jobs can run; raises `SettingsError` with every mistake of every job."""
        problems = self.check(settings.worker_id, settings.jobs)
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
    patterns = _patterns(settings.worker_id, definition.name, policy)
    return RegisteredJob(
        definition=definition,
        name=definition.name,
        effective=resolve(policy, settings),
        consumer_id=policy.consumer_id or f"{definition.name.lower()}-consumer",
        patterns=patterns,
        queue=queue_name(patterns[0]),
        parameters=parameters,
        needed=needed,
        reader=None if parameters.data is None else DataReader.build(definition.name, parameters.data),
    )


def _patterns(worker_id: str, name: str, policy: JobSettings) -> tuple[str, ...]:
    return policy.routing_patterns or (routing_pattern(worker_id, name),)


def _name_problems(name: str) -> list[str]:
    if not name.strip() or name == "<lambda>":
        return [f"A job is called {name!r}; give it a name."]
    problems = [f"{name!r} contains {sign!r}; Milvaion separates names with it." for sign in ":*#" if sign in name]
    if name.lower() == "job":
        problems.append(f"A job cannot be called {name!r}: without its trailing `Job` nothing is left for its queue.")
    if len(name) > _LONGEST_NAME:
        problems.append(f"{name[:40]}… has {len(name)} characters; Milvaion stores {_LONGEST_NAME}.")
    return problems


def _mode_problems(definition: JobDefinition[..., object]) -> list[str]:
    name, code = definition.name, definition.code
    if inspect.isasyncgenfunction(code) or inspect.isgeneratorfunction(code):
        return [f"{name!r} contains `yield`; a job returns its result."]
    match definition.mode:
        case RunMode.TASK if not _is_async(code):
            return [f'{name!r} has run="task" but is no `async def`; write async def, or run="thread".']
        case RunMode.THREAD if _is_async(code):
            return [f'{name!r} has run="thread" but is an `async def`; write def, or run="task".']
        case RunMode.PROCESS | RunMode.ASYNCIO as mode:
            return [f'{name!r} has run="{mode}", which this version cannot do yet; use "task" or "thread".']
    return []
