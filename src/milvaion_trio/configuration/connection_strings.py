"""The database that .NET programs name beside a worker's own settings: `ConnectionStrings:Default`.

Where it is a MongoDB, it is the one of the history, as Aevatar's worker has it (`Worker:Monitor:Mongodb`). Any other is
another program's, and so are all other connection strings.
"""

from collections.abc import Iterable
from typing import Final

from attrs import evolve

from milvaion_trio.configuration.keys import find
from milvaion_trio.configuration.sources import Origin, Said

__all__ = ["with_history"]

_DEFAULT: Final = ("connectionstrings", "default")
_OURS: Final = ("Worker", "Monitor", "Mongodb")
_MONGODB: Final = ("mongodb://", "mongodb+srv://")


def with_history(said: Iterable[Said], origin: Origin) -> list[Said]:
    """What was said, with that one read as ours, unless the same source says ours itself."""
    said = list(said)
    if any(find(one.path).place == find(_OURS).place for one in said):
        return said
    return [
        evolve(one, path=_OURS, name=origin.written(one.path))
        if tuple(name.lower() for name in one.path) == _DEFAULT and (one.text or "").startswith(_MONGODB)
        else one
        for one in said
    ]
