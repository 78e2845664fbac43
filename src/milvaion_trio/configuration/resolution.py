"""The order of the sources: the environment over the settings file, the file over what the code says.

Everything that is wrong in any of them is one report, since whoever starts a worker wants to hear it once.
"""

from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from milvaion_trio.configuration import appsettings, environment
from milvaion_trio.configuration.reading import settings_over
from milvaion_trio.configuration.sources import Origin, Source
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


def resolve(
    base: WorkerSettings,
    *,
    config: Path | None = None,
    environ: Mapping[str, str],
    folder: Path = Path(),
) -> Resolved:
    """The base, under the settings file and the environment.

    Without `config` the file is `appsettings.json` in the folder, the current one unless given, if it is there.
    Raises `SettingsError` with every mistake in all of them; a file that was asked for and is not there is one.
    """
    sources = [*_files(config, environ, folder), *environment.read(environ)]
    reading = settings_over(base, sources)
    problems = [problem for source in sources for problem in source.problems] + reading.problems
    if problems or reading.settings is None:
        raise SettingsError(problems + reading.overridden)
    warnings = [warning for source in sources for warning in source.warnings]
    dotnet, ours = sources[-2:]
    return Resolved(
        settings=reading.settings,
        warnings=(*warnings, *reading.overridden, *environment.overridden(dotnet, ours)),
        sources=tuple(dict.fromkeys(source.origin.name for source in sources if source.sections)),
    )


def _files(config: Path | None, environ: Mapping[str, str], folder: Path) -> list[Source]:
    first, *others = appsettings.files(config, environ)
    found = appsettings.read(folder / first, str(first))
    if found is None and config is not None:
        found = Source(Origin(name=str(config)), problems=[f"{config}: there is no such file."])
    return [source for source in (found, *(appsettings.read(folder / path, str(path)) for path in others)) if source]
