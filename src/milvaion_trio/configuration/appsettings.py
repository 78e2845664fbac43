"""The settings file of a .NET worker, `appsettings.json`, and the one for an environment that is laid over it.

As .NET reads them (WIRE.md 10): names in any case, values as text, null for what is not set.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from milvaion_trio.configuration import dotnet_json
from milvaion_trio.configuration.connection_strings import with_history
from milvaion_trio.configuration.inert import foreign
from milvaion_trio.configuration.keys import find
from milvaion_trio.configuration.sources import Origin, Said, Source

__all__ = ["DEFAULT_NAME", "files", "read"]

DEFAULT_NAME: Final = "appsettings.json"

_SECTIONS: Final = {"worker": "Worker", "jobconsumers": "JobConsumers", "schedules": "Schedules"}
"""Others belong to somebody else, unless they look like one of these."""

_NATURAL: Final = {"jobs": "jobconsumers"}
"""What is right elsewhere. Here it may be another program's section, so it is not read."""

_CONNECTIONS: Final = {("rabbitmq",): "RabbitMQ", ("redis",): "Redis"}
"""A .NET worker always connects to both, to those of its defaults where the file names none."""


def files(path: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """The file, and the one for the environment, `appsettings.Production.json`, over it.

    The environment is `DOTNET_ENVIRONMENT`, else `ASPNETCORE_ENVIRONMENT`, else `Production`, as for a .NET host.
    """
    yield path
    environment = environ.get("DOTNET_ENVIRONMENT") or environ.get("ASPNETCORE_ENVIRONMENT") or "Production"
    yield path.parent / f"{path.stem}.{environment}{path.suffix}"


def read(path: Path, name: str) -> Source | None:
    """What the file says; `None` where there is no such file. One that cannot be read is a source with a problem."""
    origin = Origin(name=name)
    try:
        said = with_history(dotnet_json.read(path.read_bytes()), origin)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Source.unreadable(origin, error)
    except dotnet_json.NotJson as error:
        return Source.refused(origin, error)
    source = Source.of(said, origin)
    source.sections = _CONNECTIONS | source.sections
    for section in dict.fromkeys(one.path[0] for one in said if one.path):
        if section.lower() not in _SECTIONS:
            _tell_section(section, [one for one in said if one.path and one.path[0] == section], source)
    if not any(find(one.path).path for one in said if one.name is None):  # one with a name stands in another section
        source.warnings.append(f"{name}: there is no section Worker and none JobConsumers, so everything is default.")
    return source


def _tell_section(section: str, said: Sequence[Said], source: Source) -> None:
    """What becomes of a section that is not read: one of ours by another name or in another place, or not ours."""
    name = source.origin.name
    inside = ("Worker", section)
    if any((found := find(("Worker", *one.path))).meaning is not None and not found.rest for one in said):
        upper = ":".join(find(inside).path)
        source.warnings.append(f"{name}: {section} is read inside of Worker only; write {upper}.")
        return
    near = _NATURAL.get(section.lower()) or next(
        iter(difflib.get_close_matches(section.lower(), _SECTIONS, n=1, cutoff=0.75)), None
    )
    if near:
        source.warnings.append(f"{name}: {section} is no section that is read here; did you mean {_SECTIONS[near]}?")
        return
    known = [(one, foreign(one.path)) for one in said]
    for key in dict.fromkeys(key for _, key in known if key is not None):
        written = next(one for one, other in known if other is key).path[: len(key.path)]
        line = f"{name}: {':'.join(written)} has no effect; {key.why}."
        (source.warnings if key.is_missed else source.notes).append(line)
    if not any(key for _, key in known):
        source.notes.append(f"{name}: {section} has no effect; it is another program's.")
