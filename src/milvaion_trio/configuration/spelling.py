"""Settings in texts for people, called as whoever wrote them calls them.

What stops a start or a command is told by parts that know no sources, and name settings as the table does,
`Worker:RabbitMQ:Host`. Before somebody reads it, each is called as its source has it, and what nobody said as the
first source would.
"""

import re
from typing import Final, TypeVar

from milvaion_trio.configuration.keys import find
from milvaion_trio.configuration.resolution import Resolved
from milvaion_trio.model.errors import MilvaionError, SettingsError

__all__ = ["respelled", "spelled"]

E = TypeVar("E", bound=MilvaionError)

_NAME: Final = re.compile(r"\bWorker(?::\w+)+")


def spelled(text: str, resolved: Resolved) -> str:
    """The text with every setting in it called as these sources have it."""

    def name(match: re.Match[str]) -> str:
        path = tuple(match[0].split(":"))
        found = find(path)
        if found.rest:  # a host or a job of such a name
            return match[0]
        return resolved.names.get(found.place) or resolved.spell(path)

    return _NAME.sub(name, text)


def respelled(error: E, resolved: Resolved) -> E:
    """The error, with its text so."""
    error.args = tuple(spelled(each, resolved) if isinstance(each, str) else each for each in error.args)
    if isinstance(error, SettingsError):
        error.problems = tuple(spelled(problem, resolved) for problem in error.problems)
    return error
