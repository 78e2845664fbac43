"""The settings file of a .NET worker, `appsettings.json`, and the one for an environment that is laid over it.

As .NET reads them (WIRE.md 10): names in any case, values as text, null for what is not set.
"""

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from milvaion_trio.configuration import dotnet_json
from milvaion_trio.configuration.keys import find
from milvaion_trio.configuration.sources import Origin, Source

__all__ = ["DEFAULT_NAME", "files", "read"]

DEFAULT_NAME: Final = "appsettings.json"

_SECTIONS: Final = {"worker": "Worker", "jobconsumers": "JobConsumers"}
"""Others belong to somebody else, unless they look like one of these."""

_CONNECTIONS: Final = {("rabbitmq",): "RabbitMQ", ("redis",): "Redis"}
"""A .NET worker always connects to both, to those of its defaults where the file names none."""


def files(config: Path | None, environ: Mapping[str, str]) -> Iterator[Path]:
    """The file, and the one for the environment, `appsettings.Production.json`, over it.

    The environment is `DOTNET_ENVIRONMENT`, else `ASPNETCORE_ENVIRONMENT`, else `Production`, as for a .NET host.
    """
    path = config or Path(DEFAULT_NAME)
    yield path
    environment = environ.get("DOTNET_ENVIRONMENT") or environ.get("ASPNETCORE_ENVIRONMENT") or "Production"
    yield path.parent / f"{path.stem}.{environment}{path.suffix}"


def read(path: Path, name: str) -> Source | None:
    """What the file says; `None` where there is no such file. One that cannot be read is a source with a problem."""
    origin = Origin(name=name)
    try:
        said = dotnet_json.read(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        return Source(origin, problems=[f"{name}: the file cannot be read: {error.strerror}."])
    except dotnet_json.NotJson as error:
        return Source(origin, problems=[f"{name}: {error}"])
    source = Source.of(said, origin)
    source.sections = _CONNECTIONS | source.sections
    for section in dict.fromkeys(one.path[0] for one in said if one.path):
        near = difflib.get_close_matches(section.lower(), _SECTIONS, n=1, cutoff=0.75)
        if near and near[0] != section.lower():
            source.warnings.append(
                f"{name}: {section} is no section that is read here; did you mean {_SECTIONS[near[0]]}?"
            )
    if not any(find(one.path).path for one in said):
        source.warnings.append(f"{name}: there is no section Worker and none JobConsumers, so everything is default.")
    return source
