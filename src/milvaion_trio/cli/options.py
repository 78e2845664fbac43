"""What several commands take: the worker to load, the settings file, and the socket to meet at."""

from pathlib import Path, PurePath
from typing import Annotated, TypeAlias, TypeGuard

from cyclopts import Parameter

from milvaion_trio.cli.failures import UsageError
from milvaion_trio.loading import load_worker
from milvaion_trio.worker import Worker

__all__ = ["ConfigOption", "SocketOption", "WorkerArgument", "load"]

WorkerArgument: TypeAlias = Annotated[
    str,
    Parameter(name="MODULE:WORKER", help="The module to import from here, and its variable that holds your Worker(…)."),
]

ConfigOption: TypeAlias = Annotated[
    Path | None,
    Parameter(
        name="--config",
        metavar="FILE",
        help="The settings file, e.g. of a .NET worker; appsettings.json in this folder unless given.",
    ),
]

SocketOption: TypeAlias = Annotated[
    Path | None,
    Parameter(
        name="--socket",
        metavar="PATH",
        help="The Unix socket where dev, enqueue and cancel meet; one in your runtime directory unless given.",
    ),
]


def load(target: str, config: Path | None = None) -> Worker:
    """Import the module and return its worker, told to take its settings from the file if there is one.

    Raises `SettingsError`, and `UsageError` for a file's name. What is wrong in the settings is found when they are
    needed.
    """
    name, _, attribute = target.partition(":")
    if name.endswith(".py") or "/" in name:
        path = PurePath(name).with_suffix("") if name.endswith(".py") else PurePath(name)
        parts = path.parts[-1:] if path.is_absolute() or ".." in path.parts else path.parts
        where = "" if parts == path.parts else f" from the folder {path.parent}"
        raise UsageError(
            f"{target!r} names a file, not a module: write {'.'.join(parts)}:{attribute or 'worker'}{where}."
        )
    worker = load_worker(target, _is_worker)
    if config is not None:
        worker.configure(config)
    return worker


def _is_worker(value: object) -> TypeGuard[Worker]:
    return isinstance(value, Worker)
