"""When a worker's jobs run by themselves: what decorators declare, and settings over it.

A decorator only records; nothing is looked up before all jobs and settings are known, so that one report names every
mistake. What comes of it is written into the book by the scheduler.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from attrs import define, field, frozen

from milvaion_trio.model.errors import InvalidJobData, SettingsError
from milvaion_trio.model.schedule import Schedule
from milvaion_trio.model.schedule_settings import ScheduleSettings
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.model.settings_rules import shown_name
from milvaion_trio.model.topology import routing_pattern
from milvaion_trio.policy.schedule_making import make_schedule, said_with
from milvaion_trio.runtime.definition import JobDefinition, suggestion
from milvaion_trio.runtime.registry import RegisteredJob

__all__ = ["JobPlace", "Timetable", "job_places"]

_NOTHING: Final = ScheduleSettings()


@frozen
class JobPlace:
    """A job, as schedules have to know it."""

    name: str
    pattern: str
    """The routing pattern of its queue."""
    job: RegisteredJob | None = None
    """Where it is known, so that data can be tried on it."""


def job_places(patterns: Mapping[str, Sequence[str]], jobs: Iterable[RegisteredJob]) -> dict[str, JobPlace]:
    """The jobs of a worker, by their names in lower case."""
    known = {job.name: job for job in jobs}
    return {name.lower(): JobPlace(name, each[0], known.get(name)) for name, each in patterns.items()}


@frozen(kw_only=True)
class _Declared:
    """A schedule as its decorator saw it."""

    id: str
    is_named: bool
    """Whether code gives it this id; else it is the job's name."""
    whence: str
    """The decorator and what it stands on."""
    said: ScheduleSettings
    problems: tuple[str, ...]


@define(eq=False)
class Timetable:
    """The schedules of one worker."""

    schedules: tuple[Schedule, ...] = field(default=(), init=False)
    """Complete; empty before `prepare`."""
    _declared: list[_Declared] = field(factory=list, init=False)

    @property
    def declared(self) -> Mapping[str, ScheduleSettings]:
        """What code says, by the ids of the schedules."""
        return {each.id: each.said for each in self._declared}

    def declare(self, definition: JobDefinition[..., object], decorator: str, values: Mapping[str, object]) -> None:
        """Record what a decorator says, `id` included; mistakes in it are told by `prepare`."""
        schedule_id = values.get("id")
        said, problems = _NOTHING, list[str]()
        try:
            said = said_with({**{name: values[name] for name in values if name != "id"}, "job": definition.name})
        except SettingsError as error:
            problems += error.problems
        if schedule_id is not None and not isinstance(schedule_id, str):
            problems.append(f"id is {schedule_id!r}; it must be a text.")
        function = getattr(definition.target, "__name__", definition.name)
        self._declared.append(
            _Declared(
                id=schedule_id if isinstance(schedule_id, str) else definition.name,
                is_named=schedule_id is not None,
                whence=f"@worker.{decorator} on {function}",
                said=said,
                problems=tuple(problems),
            )
        )

    def prepare(
        self,
        settings: WorkerSettings,
        jobs: Mapping[str, JobPlace] | None,
        named: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Complete all schedules, those of the settings too; raises `SettingsError` with every mistake in them.

        `jobs` are those of the worker; without them, any name is taken for one of the settings' worker id.
        `named` says which source of settings names a schedule, by its name in lower case.
        """
        by_code = {each.id.lower(): each for each in reversed(self._declared)}
        problems = list(self._twice(by_code))
        by_settings = {name.lower(): name for name in settings.schedules}
        schedules: list[Schedule] = []
        for lower in dict.fromkeys([*(each.id.lower() for each in self._declared), *by_settings]):
            code, name = by_code.get(lower), by_settings.get(lower)
            schedule_id = code.id if code is not None else str(name)
            said = _NOTHING if name is None else settings.schedules[name]
            whence = ([] if code is None else [code.whence]) + ([] if name is None else [named.get(lower, "the code")])
            found = [] if code is None else list(code.problems)
            if not found:
                said = said if code is None else said.over(code.said)
                origin = "code" if name is None else "settings"
                try:
                    schedules.append(_completed(schedule_id, said, settings, jobs, origin))
                except SettingsError as error:
                    found += error.problems
            problems += [f"Schedule {shown_name(repr(schedule_id))} ({'; '.join(whence)}): {each}" for each in found]
        if problems:
            raise SettingsError(problems)
        self.schedules = tuple(schedules)

    def _twice(self, first: Mapping[str, _Declared]) -> Iterator[str]:
        for each in self._declared:
            same = first[each.id.lower()]
            if same is each:
                continue
            yield from (f"Schedule {each.id!r} ({each.whence}): {problem}" for problem in each.problems)
            both = f"{same.whence}, and {each.whence}"
            if same.is_named or each.is_named:
                yield f"Two schedules are called {same.id!r} and {each.id!r} ({both}); give each an id of its own."
            else:
                yield (
                    f"{each.id} has two schedules without an id ({both}), and both would be called {each.id!r}: give "
                    'one of them an id, @worker.cron(…, id="…").'
                )


def _completed(
    schedule_id: str,
    said: ScheduleSettings,
    settings: WorkerSettings,
    jobs: Mapping[str, JobPlace] | None,
    origin: str,
) -> Schedule:
    problems: list[str] = []
    place = JobPlace("unknown", "unknown")
    if said.job is None:
        or_code = "" if jobs is not None else "; or name the worker whose code has this schedule, MODULE:WORKER"
        problems.append(f'it names no job: add one, job = "SendEmailJob"{or_code}.')
    elif jobs is None:
        place = _elsewhere(said.job, settings)
    elif (known := jobs.get(said.job.lower())) is not None:
        place = known
    else:
        names = [each.name for each in jobs.values()]
        problems.append(f"this worker has no job {shown_name(repr(said.job))}{suggestion(said.job, names)}")
    try:
        schedule = make_schedule(
            schedule_id, said, job=place.name, worker_id=settings.worker_id, pattern=place.pattern, origin=origin
        )
    except SettingsError as error:
        problems += error.problems
    if place.job is not None and place.job.reader is not None:
        try:
            place.job.reader.read(said.data)
        except InvalidJobData as error:
            problems += [f"its data does not fit {place.name}: {problem}." for problem in error.problems]
    if problems:
        raise SettingsError(problems)
    return schedule


def _elsewhere(name: str, settings: WorkerSettings) -> JobPlace:
    """A job of workers whose code is not at hand."""
    for known, job in settings.jobs.items():
        if known.lower() == name.lower() and job.routing_patterns:
            return JobPlace(known, job.routing_patterns[0])
    return JobPlace(name, routing_pattern(settings.worker_id, name))
