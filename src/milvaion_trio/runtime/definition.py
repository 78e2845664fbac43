"""A job as its decorator saw it: the code, a name, a policy, and where the code runs.

A decorator only records; nothing is judged before all jobs are known, so that one report names every mistake.
"""

import difflib
import enum
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Generic, Literal, ParamSpec, TypeAlias, TypedDict, TypeVar, Unpack, get_args

from attrs import define, field, fields

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.settings import JobPolicy, JobSettings
from milvaion_trio.runtime.addresses import address_problem

__all__ = [
    "Dispatch",
    "EnqueueOptions",
    "Job",
    "JobDefinition",
    "OnDuplicate",
    "RunMode",
    "RunWord",
    "define_job",
    "definition_problems",
    "job",
    "nearest",
    "suggestion",
]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

_LONGEST_NAME: Final = 200
"""The width of the API's column (WIRE.md 1.3)."""


class RunMode(enum.StrEnum):
    """Where a job's code runs."""

    TASK = "task"
    """In Trio's thread, as a task: `async def`."""
    THREAD = "thread"
    """In a worker thread: `def`."""
    PROCESS = "process"
    """In a process of its own, which is reused: `def`."""
    ASYNCIO = "asyncio"
    """An asyncio coroutine function, on the bridge."""


RunWord: TypeAlias = Literal["task", "thread", "process", "asyncio"]


OnDuplicate: TypeAlias = Literal["refuse", "merge"]
"""A second occurrence with a unique key: `AlreadyDispatched` is raised, or the id of the first returned."""


class Job:
    """Base of jobs written as classes: constructor parameters are provided, `execute` is called once per attempt.

    Write `async def execute(self, ctx, data=None)`, or `def execute(…)` to run in a thread.
    Its parameters follow the rules of functions.
    """

    execute: Callable[..., object]


class EnqueueOptions(TypedDict, total=False):
    """The keywords of `enqueue`, wherever it is called."""

    delay: float | None
    """Seconds to wait before it may run."""
    exclusive: str | None
    """Only one run with this key goes on at a time; over the job's own."""
    unique: str | None
    """Only one occurrence with this key waits or runs at a time; over the job's own."""
    on_duplicate: OnDuplicate
    unique_for: float | None
    """Seconds, beyond the delay, after which a unique key is free whatever became of its occurrence; a day."""


Dispatch: TypeAlias = Callable[["JobDefinition[..., object]", object, EnqueueOptions], Awaitable[OccurrenceId]]
"""What `enqueue` hands over to: the job, its data, and how it is dispatched."""


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

    async def enqueue(self, data: object = None, **options: Unpack[EnqueueOptions]) -> OccurrenceId:
        """Dispatch the job through the worker's client; returns the occurrence's id.

        The options are those of `Client.enqueue`: `delay`, `exclusive`, `unique`, `on_duplicate`, `unique_for`.
        Raises what that raises, and `SettingsError` while no worker has been bound.
        If cancelled, the message may or may not have been sent.
        """
        if self._dispatch is None:
            raise SettingsError(
                [
                    f"{self.name}.enqueue() was called, but no worker has this job, so it has no broker to send it to. "
                    "Make it with `@worker.job()`, or add it with `worker.add(...)` or `worker.discover(...)`."
                ]
            )
        return await self._dispatch(self, data, options)

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
    problems = [f"{shown}: a job has no setting {key!r}{suggestion(key, known)}" for key in policy if key not in known]
    if run is not None and run not in get_args(RunWord):
        problems.append(f"{shown}: run is {run!r}; it must be one of {', '.join(map(repr, get_args(RunWord)))}.")
    if name is not None and type(name) is not str:
        problems.append(f"{shown}: the name is {name!r}; it must be a text.")
    if problems:
        raise SettingsError(problems)
    code = getattr(target, "execute", None) if isinstance(target, type) else target
    mode = RunMode(run) if run is not None else RunMode.TASK if _is_async(code) else RunMode.THREAD
    try:
        settings = JobSettings(**policy)
    except SettingsError as error:
        raise SettingsError([f"{shown}: {problem}" for problem in error.problems]) from None
    return JobDefinition(shown if name is None else name, target, settings, mode=mode)


def job(
    name: str | None = None, *, run: RunWord | None = None, **policy: Unpack[JobPolicy]
) -> Callable[[Callable[P, R_co]], JobDefinition[P, R_co]]:
    """Make a function or a class a job of whichever worker discovers it."""
    if callable(name):
        raise SettingsError([f"{_name_of(name)}: write @job() with parentheses."])
    return lambda target: define_job(target, name, run, policy)


def definition_problems(definition: JobDefinition[..., object]) -> list[str]:
    """One line per mistake in a job's name and run mode, whatever other jobs there are."""
    return _name_problems(definition.name) + _mode_problems(definition)


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word, with the nearest known one where one is near, in any case."""
    near = nearest(word, known)
    return "." if near is None else f"; did you mean {near!r}?"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that somebody may have meant, in any case."""
    spelled = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), spelled, n=1)
    return spelled[near[0]] if near else None


def _name_of(target: object) -> str:
    target = getattr(target, "func", target)  # of a partial
    return str(getattr(target, "__name__", None) or type(target).__name__)


def _is_async(code: object) -> bool:
    call = vars(type(code)).get("__call__")  # of an object that is called like a function
    return inspect.iscoroutinefunction(code) or inspect.iscoroutinefunction(call)


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
        case RunMode.ASYNCIO if not _is_async(code):
            return [f'{name!r} has run="asyncio" but is no `async def`; write async def, or run="thread".']
        case RunMode.ASYNCIO if sys.version_info >= (3, 14):  # python-trio/trio-asyncio#160
            return [f'{name!r} has run="asyncio", which needs trio-asyncio and so Python 3.11 to 3.13.']
        case RunMode.PROCESS if _is_async(code):
            return [f'{name!r} has run="process" but is an `async def`; write def, or run="task".']
        case RunMode.PROCESS if (problem := address_problem(definition.target)) is not None:
            return [f'{name!r} has run="process", but its process would not find it: {problem}']
    return []
