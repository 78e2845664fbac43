"""What a worker is made of, as code declares it: its jobs, when they run by themselves, what they are provided with.

Separate from `Worker`, which serves it: declaring only records, and no mistake in it is told before serving starts.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import ParamSpec, TypeVar, Unpack

from milvaion_trio import loading
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.schedule import Schedule
from milvaion_trio.model.schedule_settings import Moment, ScheduleOptions
from milvaion_trio.model.settings import JobPolicy, WorkerSettings
from milvaion_trio.runtime.context import JobContext
from milvaion_trio.runtime.definition import Dispatch, JobDefinition, RunWord, define_job
from milvaion_trio.runtime.providers import ProviderFactory, Providers, ProviderScope
from milvaion_trio.runtime.registry import Registry
from milvaion_trio.runtime.timetable import JobPlace, Timetable, job_places

__all__ = ["Roster"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Roster:
    """Collects what a worker is to run; `dispatch` is what the jobs' own `enqueue` sends with."""

    def __init__(self, dispatch: Dispatch) -> None:
        self.registry: Registry = Registry()
        self.providers: Providers = Providers()
        self.timetable: Timetable = Timetable()
        self._dispatch = dispatch

    def job(
        self, name: str | None = None, *, run: RunWord | None = None, **policy: Unpack[JobPolicy]
    ) -> Callable[[Callable[P, R]], JobDefinition[P, R]]:
        """Make a function or a class a job of this worker; the name is the function's or class's unless given.

        `run` says where its code runs: `"task"` (default for `async def`), `"thread"` (default for `def`), `"process"`
        (`def`), or `"asyncio"` (`async def` of asyncio's).
        The rest is the job's policy, see `JobSettings`. What does not fit is reported when serving starts.
        """
        if callable(name):
            raise SettingsError(["Write @worker.job() with parentheses."])

        def decorate(target: Callable[P, R]) -> JobDefinition[P, R]:
            if isinstance(target, JobDefinition):
                raise SettingsError([f"{target.name} is a job already: write its schedules above @worker.job()."])
            definition = define_job(target, name, run, policy)
            self.add(definition)
            return definition

        return decorate

    # --- when jobs run by themselves --------------------------------------------------------------------------------

    def cron(
        self, expression: str, *, timezone: str = "UTC", **options: Unpack[ScheduleOptions]
    ) -> Callable[[Callable[P, R]], JobDefinition[P, R]]:
        """Run a job at the times of a cron expression, on the clocks of the time zone.

        The expression has five fields, or six with seconds first: `"0 9 * * MON"`, `"*/10 * * * * *"`; or it is a
        macro, `"@daily"`. Fields for day of month and day of week have to fit both.

        Decorates a job, `@worker.job(…)` stands below, or a function or class, which becomes a job by its name.
        Several may stand above each other. A schedule is called like its job unless it is given an `id`; the rest of
        the options is that of `ScheduleSettings`. Mistakes are reported when serving starts.
        """
        return self._scheduled("cron", {"cron": expression, "timezone": timezone, **options})

    def every(
        self, seconds: float, **options: Unpack[ScheduleOptions]
    ) -> Callable[[Callable[P, R]], JobDefinition[P, R]]:
        """Run a job every so many seconds, 0.1 or more, counted from when the schedule was first seen or its `start`.

        Otherwise as `cron`.
        """
        return self._scheduled("every", {"every": seconds, **options})

    def at(self, moment: Moment, **options: Unpack[ScheduleOptions]) -> Callable[[Callable[P, R]], JobDefinition[P, R]]:
        """Run a job once: at this aware datetime, text like `"2027-05-04T09:00:00+03:00"`, or `Instant`.

        Otherwise as `cron`.
        """
        return self._scheduled("at", {"at": moment, **options})

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """The schedules of code and settings, complete; empty before `prepare`."""
        return self.timetable.schedules

    # --- what else --------------------------------------------------------------------------------------------------

    def provide(self, provided: type[T], factory: ProviderFactory[T], scope: ProviderScope = "job") -> None:
        """Give a `provided` to every job that has a parameter of this type; the factory makes it.

        A factory is a plain callable, an async function, or a function that returns a (sync or async) context manager.
        `scope="job"` makes one per run, closed before the job is concluded; `"worker"` one for all, closed at the end.
        """
        self.providers.provide(provided, factory, scope)

    def discover(self, package: str | None = None) -> None:
        """Add the jobs that the package's modules define with the free `@job` or as classes deriving from `Job`.

        Without a package, the jobs that installed distributions announce in the entry-point group
        `milvaion_trio.jobs`. Raises `SettingsError` when a module cannot be imported.
        """
        for definition in loading.entry_point_jobs() if package is None else loading.discover(package):
            self.add(definition)

    def add(self, definition: JobDefinition[P, R]) -> None:
        """Add a job that was defined elsewhere; its `enqueue` sends through the worker it was added to last."""
        if not isinstance(definition, JobDefinition):
            raise SettingsError([f"{definition!r} is no job definition: decorate it with @job() first."])
        self.registry.add(definition)
        definition.bind(self._dispatch)

    def look_up(self, settings: WorkerSettings, jobs: Mapping[str, str], schedules: Mapping[str, str]) -> Iterator[str]:
        """Complete all that was declared, or yield a line for every mistake in it.

        `jobs` and `schedules` say which source of settings names one, by their names in lower case.
        """
        prepare = partial(self.registry.prepare, settings, context_type=JobContext, provided=self.providers.types)
        steps: tuple[Callable[[], object], ...] = (
            partial(self.providers.check, JobContext),
            partial(prepare, named=jobs),
            lambda: self.timetable.prepare(settings, self._job_places(settings), schedules),  # tries data on these jobs
        )
        for step in steps:
            try:
                step()
            except SettingsError as error:
                yield from error.problems

    def _job_places(self, settings: WorkerSettings) -> dict[str, JobPlace]:
        return job_places(self.registry.patterns(settings), self.registry.jobs)

    def _scheduled(self, word: str, values: dict[str, object]) -> Callable[[Callable[P, R]], JobDefinition[P, R]]:
        if callable(values[word]):
            raise SettingsError([f"@worker.{word} says when in its parentheses: {_EXAMPLES[word]}."])

        def decorate(target: Callable[P, R]) -> JobDefinition[P, R]:
            definition = target if isinstance(target, JobDefinition) else define_job(target)
            if not any(known is definition for known in self.registry.definitions):
                self.add(definition)
            self.timetable.declare(definition, word, values)
            return definition

        return decorate


_EXAMPLES = {
    "cron": '@worker.cron("0 9 * * MON", timezone="Europe/Istanbul")',
    "every": "@worker.every(60)",
    "at": '@worker.at("2027-05-04T09:00:00+03:00")',
}
