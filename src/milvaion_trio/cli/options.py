"""What several commands take: the worker to load, and the socket to meet at."""

from pathlib import Path
from typing import Annotated, TypeAlias, TypeGuard

from cyclopts import Parameter

from milvaion_trio.loading import load_worker
from milvaion_trio.worker import Worker

__all__ = ["SocketOption", "WorkerArgument", "load"]

WorkerArgument: TypeAlias = Annotated[
    str,
    Parameter(name="MODULE:WORKER", help="The module to import from here, and its variable that holds your Worker(…)."),
]

SocketOption: TypeAlias = Annotated[
    Path | None,
    Parameter(
        name="--socket",
        metavar="PATH",
        help="The Unix socket where dev, enqueue and cancel meet; one in your runtime directory unless given.",
    ),
]


def load(target: str) -> Worker:
    """Import the module and return its worker; raises `SettingsError`."""
    return load_worker(target, _is_worker)


def _is_worker(value: object) -> TypeGuard[Worker]:
    return isinstance(value, Worker)
