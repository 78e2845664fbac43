"""Finding jobs and workers by name: modules, packages, entry points, and the `MODULE:WORKER` of the command line.

Importing somebody's code may fail in any way; here that becomes a `SettingsError` that names the module.
"""

import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TypeGuard, TypeVar

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.runtime.definition import Job, JobDefinition, define_job

__all__ = ["ENTRY_POINT_GROUP", "ModuleRaised", "discover", "entry_point_jobs", "load_worker"]

W = TypeVar("W")

ENTRY_POINT_GROUP = "milvaion_trio.jobs"
"""Installed packages announce their jobs under this name: a definition, a `Job` class, or a module of them."""


class ModuleRaised(SettingsError):
    """A module exists and raised while it was imported; what it raised is the cause."""


def discover(package_name: str) -> list[JobDefinition[..., object]]:
    """Import a module, or a package with all its submodules, and return the jobs defined in it, each once.

    Jobs that a module only imports, to enqueue them, are not its own.
    Raises `SettingsError` with every module that cannot be imported.
    """
    problems: list[str] = []
    definitions: list[JobDefinition[..., object]] = []
    classes: list[type[Job]] = []
    for module in _modules(package_name, problems):
        for value in vars(module).values():
            if isinstance(value, JobDefinition) and _is_within(value.target, package_name):
                definitions.append(value)
            elif _is_job_class(value) and _is_within(value, package_name):
                classes.append(value)
    if problems:
        raise SettingsError(problems)
    decorated = {definition.target for definition in definitions}
    definitions += [define_job(kind) for kind in classes if kind not in decorated]
    return list({id(definition.target): definition for definition in definitions}.values())


def entry_point_jobs() -> list[JobDefinition[..., object]]:
    """The jobs that installed packages announce; raises `SettingsError` with every announcement that is wrong."""
    problems: list[str] = []
    found: list[JobDefinition[..., object]] = []
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            value: object = entry.load()
        except Exception as error:  # whatever importing foreign code raises
            problems.append(f"The entry point {entry.name} = {entry.value} cannot be loaded: {_one_line(error)}")
            continue
        if isinstance(value, JobDefinition):
            found.append(value)
        elif _is_job_class(value):
            found.append(define_job(value))
        elif isinstance(value, ModuleType):
            try:
                found += discover(value.__name__)
            except SettingsError as error:
                problems += error.problems
        else:
            problems.append(f"The entry point {entry.name} = {entry.value} is neither a job nor a module with jobs.")
    if problems:
        raise SettingsError(problems)
    return found


def load_worker(target: str, is_worker: Callable[[object], TypeGuard[W]]) -> W:
    """The worker named `module:attribute`, looked for from the current directory too; raises `SettingsError`."""
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise SettingsError([f"{target!r} names no worker. Write MODULE:WORKER, e.g. app.jobs:worker."])
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    module = _imported(module_name)
    value: object = module
    for name in attribute.split("."):
        if not hasattr(value, name):
            workers = [name for name, member in vars(module).items() if is_worker(member)]
            near = difflib.get_close_matches(attribute, workers or list(vars(module)), n=1) or workers[:1]
            hint = f" Did you mean {module_name}:{near[0]}?" if near else " It has no worker: worker = Worker(…)."
            raise SettingsError([f"The module {module_name} has no {attribute!r}.{hint}"])
        value = getattr(value, name)
    if not is_worker(value):
        raise SettingsError(
            [f"{target} is no Worker but a {type(value).__name__}. Name the variable that holds your Worker(…)."]
        )
    return value


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ModuleRaised([f"The module {name} imports {error.name}, which is not installed."]) from error
        raise SettingsError(
            [f"There is no module {error.name!r} here ({os.getcwd()}) or among the installed packages."]
        ) from error
    except Exception as error:  # whatever importing foreign code raises
        raise ModuleRaised([f"The module {name} cannot be imported: {_one_line(error)}"]) from error


def _modules(name: str, problems: list[str]) -> Iterator[ModuleType]:
    try:
        module = _imported(name)
    except SettingsError as error:
        problems += error.problems
        return
    yield module
    for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
        if not found.name.endswith(".__main__"):  # running it is not importing it
            yield from _modules(found.name, problems)


def _is_job_class(value: object) -> TypeGuard[type[Job]]:
    return (
        isinstance(value, type)
        and issubclass(value, Job)
        and value is not Job
        and hasattr(value, "execute")
        and not inspect.isabstract(value)
    )


def _is_within(value: object, package_name: str) -> bool:
    return f"{getattr(value, '__module__', '')}.".startswith(f"{package_name}.")


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
