"""Settings in the environment: in .NET's form, `Worker__RabbitMQ__Host`, and in ours over it.

Ours, `MILVAION_TRIO__WORKER__RABBITMQ__HOST`, is nobody else's, so there an unknown name is a mistake.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from milvaion_trio.configuration.connection_strings import with_history
from milvaion_trio.configuration.keys import is_of_named
from milvaion_trio.configuration.sources import Origin, Said, Source

__all__ = ["PREFIX", "overridden", "read", "variable"]

PREFIX: Final = "MILVAION_TRIO__"

_DOTNET: Final = Origin(name="environment", written="__".join, spelled="__".join, is_flat=True)
_SECTIONS: Final = ("worker", "jobconsumers", "schedules", "connectionstrings")


def read(environ: Mapping[str, str]) -> tuple[Source, Source]:
    """What the variables say, in .NET's form and in ours."""
    dotnet, ours = Source.of(with_history(_dotnet(environ), _DOTNET), _DOTNET), Source.of(_ours(environ), _OURS)
    ours.warnings += [
        f"{_OURS.name}: {name} is not read: after MILVAION_TRIO, and between sections, stand two underscores."
        for name in sorted(environ)
        if name.upper().startswith(PREFIX[:-1]) and not name.upper().startswith(PREFIX)
    ]
    return dotnet, ours


def overridden(dotnet: Source, ours: Source) -> Iterator[str]:
    """One line for each variable in .NET's form without effect, because ours says something else."""
    for key, leaf in ours.leaves.items():
        other = dotnet.leaves.get(key)
        if other is not None and other.text != leaf.text:
            yield f"{_DOTNET.name}: {leaf.name} is used, {other.name} says something else and is not."


def variable(path: tuple[str, ...]) -> str:
    """A path in our form."""
    # The name of a job is not divided: SendEmailJob is found as SENDEMAILJOB, not as SEND_EMAIL_JOB.
    names = [name if depth == 1 and is_of_named(path) else _divided(name) for depth, name in enumerate(path)]
    return PREFIX + "__".join(names).upper()


def _dotnet(environ: Mapping[str, str]) -> Iterator[Said]:
    for name, text in sorted(environ.items()):
        path = name.split("__")
        if len(path) > 1 and path[0].lower() in _SECTIONS:
            yield Said(tuple(path), text)


def _ours(environ: Mapping[str, str]) -> Iterator[Said]:
    for name, text in sorted(environ.items()):
        if name.upper().startswith(PREFIX):
            yield Said(tuple(name[len(PREFIX) :].split("__")), text)


def _divided(name: str) -> str:
    """`VirtualHost` as `Virtual_Host`, and `RabbitMQ` as one word."""
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name)


_OURS: Final = Origin(
    name="environment",
    written=lambda path: PREFIX + "__".join(path),
    spelled=variable,
    is_strict=True,
    is_short=True,
    is_flat=True,
)
