"""What several commands take: the worker to load, its settings, and the socket to meet at."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated, TypeAlias, TypeGuard

from cyclopts import Parameter

from milvaion_trio.cli.failures import UsageError
from milvaion_trio.configuration import LOOKED_FOR, Override
from milvaion_trio.loading import load_worker
from milvaion_trio.model.errors import InvalidMessage
from milvaion_trio.model.json_text import JsonValue, read
from milvaion_trio.worker import Worker

__all__ = ["ConfigOption", "SetOption", "SocketOption", "WorkerArgument", "load", "overrides", "parsed_data"]

WorkerArgument: TypeAlias = Annotated[
    str,
    Parameter(name="MODULE:WORKER", help="The module to import from here, and its variable that holds your Worker(…)."),
]

ConfigOption: TypeAlias = Annotated[
    Path | None,
    Parameter(
        name="--config",
        metavar="FILE",
        help=f"The settings file; unless given the first there is of {LOOKED_FOR}.",
    ),
]

SetOption: TypeAlias = Annotated[
    list[str] | None,
    Parameter(
        name="--set",
        negative="",
        metavar="KEY=VALUE",
        help="A setting, over file and environment: rabbitmq.host=localhost. Repeatable.",
    ),
]

SocketOption: TypeAlias = Annotated[
    Path | None,
    Parameter(
        name="--socket",
        metavar="PATH",
        help="The Unix socket where dev and the commands for it meet; if not given, one of this folder.",
    ),
]


def overrides(
    settings: Sequence[str] | None = None, options: Mapping[str, tuple[str, object]] | None = None
) -> list[Override]:
    """What `--set` says, and options that are settings too: by their names, which setting and which value if given.

    Raises `UsageError` for one without a value.
    """
    given = [
        Override(key=key, text=str(value), name=option)
        for option, (key, value) in (options or {}).items()
        if value is not None
    ]
    for assignment in settings or ():
        key, separator, text = assignment.partition("=")
        if not separator or not key.strip() or "://" in key:
            # Without what was written, as it may be a password in the wrong place.
            raise UsageError("One --set is no assignment: write --set KEY=VALUE, e.g. --set rabbitmq.host=localhost.")
        given.append(Override(key=key.strip(), text=text, name=f"--set {key.strip()}"))
    return given


def load(target: str, config: Path | None = None, overrides: Sequence[Override] = ()) -> Worker:
    """Import the module and return its worker, told what the command line says about its settings.

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
    if config is not None or overrides:
        worker.configure(config, overrides)
    return worker


def _is_worker(value: object) -> TypeGuard[Worker]:
    return isinstance(value, Worker)


def parsed_data(data: str | None) -> JsonValue:
    """What `--data` says; raises `UsageError` where that is no JSON."""
    if data is None:
        return None
    try:
        return read(data, case_matters=True, keep_digits=True)
    except InvalidMessage as error:
        raise UsageError(
            f"--data cannot be read. {error.problem} Quote it for the shell, e.g. --data '{{\"to\": 1}}'."
        ) from error
