"""The order of the sources: command line, environment, one settings file, what the code says.

Everything that is wrong in any of them is one report, since whoever starts a worker wants to hear it once.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from attrs import field, frozen

from milvaion_trio.configuration import command_line, environment, files
from milvaion_trio.configuration.command_line import Override
from milvaion_trio.configuration.keys import Place
from milvaion_trio.configuration.reading import settings_over
from milvaion_trio.configuration.sources import Source, merged
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.settings import WorkerSettings

__all__ = ["Resolved", "resolve"]


@frozen
class Resolved:
    """Settings with nothing left to read."""

    settings: WorkerSettings
    warnings: tuple[str, ...] = ()
    """One line for each thing that has no effect: unknown keys, and values that another source is over."""
    sources: tuple[str, ...] = ()
    """What was read and said something, in the order in which later ones win."""
    notes: tuple[str, ...] = ()
    """One line for each key that has no effect and is missed by nobody."""
    origins: Mapping[Place, str] = field(default=MappingProxyType({}), repr=False)
    """Where each value comes from that the code did not say: the file with its line, or the variable."""
    names: Mapping[Place, str] = field(default=MappingProxyType({}), repr=False)
    """What each of these is called where it stands."""
    spell: Callable[[tuple[str, ...]], str] = field(default=":".join, repr=False, eq=False)
    """What a setting that nobody said would be called: its path in the table, as the first source has paths."""
    jobs: Mapping[str, str] = field(default=MappingProxyType({}), repr=False)
    """Where single jobs are named, by their names in lower case."""
    schedules: Mapping[str, str] = field(default=MappingProxyType({}), repr=False)
    """Where schedules are named, by their names in lower case."""


def resolve(
    base: WorkerSettings,
    *,
    config: Path | None = None,
    environ: Mapping[str, str],
    folder: Path = Path(),
    overrides: Iterable[Override] = (),
) -> Resolved:
    """The base, under the settings file, the environment and what the command line said.

    Without `config` the file is the first of `milvaion.toml`, `pyproject.toml` with a table `[tool.milvaion-trio]`, and
    `appsettings.json` in the folder, the current one unless given.
    Raises `SettingsError` with every mistake in all of them; a file that was asked for and is not there is one.
    """
    dotnet, ours = environment.read(environ)
    sources = [*files.sources(config, environ, folder), dotnet, ours, command_line.read(overrides)]
    reading = settings_over(base, sources)
    problems = [problem for source in sources for problem in source.problems] + reading.problems
    warnings = [warning for source in sources for warning in source.warnings]
    without_effect = environment.overridden(dotnet, ours)
    if problems or reading.settings is None:
        raise SettingsError(problems + reading.overridden, [*warnings, *without_effect])
    return Resolved(
        settings=reading.settings,
        warnings=(*warnings, *reading.overridden, *without_effect),
        sources=tuple(dict.fromkeys(source.origin.name for source in sources if source.sections)),
        notes=tuple(note for source in sources for note in source.notes),
        origins=_origins(sources),
        names={place: next(iter(slot.values())).name for place, slot in merged(sources).items()},
        spell=next((source.origin.spelled for source in sources if source.sections), ":".join),
        jobs=_named("jobs", sources),
        schedules=_named("schedules", sources),
    )


def _named(attribute: str, sources: Iterable[Source]) -> Mapping[str, str]:
    return {place[1]: where for source in sources for place, where in source.named.items() if place[0] == attribute}


def _origins(sources: Iterable[Source]) -> Mapping[Place, str]:
    return {
        place: ", ".join(dict.fromkeys(leaf.short_origin for leaf in slot.values()))
        for place, slot in merged(sources).items()
    }
