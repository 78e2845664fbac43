"""Where the settings come from that an error names, for mistakes that only a server can find.

A value that our own rules refuse is told with its source at once (`reading`). That a password is wrong is not known
before RabbitMQ says so; then it is the source that somebody wants to know, most of all when a variable is over a file.
"""

import re

from attrs import fields

from milvaion_trio.configuration.keys import find
from milvaion_trio.configuration.resolution import Resolved
from milvaion_trio.model.settings import RabbitMQSettings
from milvaion_trio.model.settings_rules import is_usual

__all__ = ["whence"]

_DEFAULT = "the default"


def whence(text: str, resolved: Resolved) -> str:
    """A sentence that says it of each setting of RabbitMQ that the text names; nothing where it names none."""
    said = resolved.settings.rabbitmq
    known = {attribute.name for attribute in fields(RabbitMQSettings)}
    sources: dict[str, list[str]] = {}
    for name in dict.fromkeys(re.findall(r"Worker:RabbitMQ:(\w+)", text)):
        place = find(("Worker", "RabbitMQ", name)).place
        if said is None or place[-1] not in known:
            continue
        origin = resolved.origins.get(place, _DEFAULT if is_usual(said, place[-1]) else "the code")
        spelled_name = resolved.names.get(place) or resolved.spell(("Worker", "RabbitMQ", name))
        sources.setdefault(origin, []).append(re.split(r"[:.]|__", spelled_name)[-1])
    parts = [f"{' and '.join(names)} {_is(origin, len(names))}" for origin, names in sources.items()]
    return f" {', '.join(parts)}." if parts else ""


def _is(origin: str, count: int) -> str:
    verb, plural = ("is", "") if count == 1 else ("are", "s")
    return f"{verb} {origin}{plural}" if origin == _DEFAULT else f"{verb} from {origin}"
