"""Settings on the command line: `--set rabbitmq.host=localhost`, and options that are settings too.

Over all other sources, and as strict as our variables: an unknown name is a mistake.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from attrs import frozen

from milvaion_trio.configuration.keys import dotted
from milvaion_trio.configuration.sources import Origin, Said, Source

__all__ = ["Override", "read"]

_PART: Final = re.compile(r'"([^"]*)"|([^.]+|(?<=\.)(?=\.|$)|^(?=\.))')
_COMMAND_LINE: Final = Origin(name="command line", spelled=dotted, is_strict=True, is_short=True)


@frozen
class Override:
    """One setting over all others."""

    key: str
    """Its name in TOML's form, `rabbitmq.host`, or in .NET's, `Worker:RabbitMQ:Host`."""
    text: str
    name: str | None = None
    """How it was said, for errors: `--drain-timeout`; the key unless given."""


def read(overrides: Iterable[Override]) -> Source:
    """What they say."""
    return Source.of(_said(overrides), _COMMAND_LINE)


def _said(overrides: Iterable[Override]) -> Iterator[Said]:
    for override in overrides:
        yield Said(_path(override.key), override.text, name=override.name or override.key)


def _path(key: str) -> tuple[str, ...]:
    """The parts of a name; in TOML's form one with a dot stands in quotes: `jobs."send.email".timeout`."""
    if ":" in key:
        return tuple(key.split(":"))
    return tuple(match[1] if match[1] is not None else match[2] for match in _PART.finditer(key)) or ("",)
