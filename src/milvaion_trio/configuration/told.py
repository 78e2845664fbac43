"""What a worker was told about its settings, and by whom; read when it is first needed.

Separate from `Worker`, which only hands it on: building one records its sources, and nothing is read before serving.
"""

import logging
import os
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Final, TypeVar

from attrs import define, evolve, field

from milvaion_trio.configuration.command_line import Override
from milvaion_trio.configuration.resolution import Resolved, resolve
from milvaion_trio.configuration.spelling import respelled, spelled
from milvaion_trio.configuration.whence import whence
from milvaion_trio.model.errors import BrokerUnreachable, MilvaionError, SettingsError
from milvaion_trio.model.settings import WorkerSettings

__all__ = ["Told"]

E = TypeVar("E", bound=BaseException)

_log = logging.getLogger("milvaion_trio")
_NOTHING: Final = Resolved(WorkerSettings())


@define(eq=False)
class Told:
    """The sources of one worker's settings."""

    _given: WorkerSettings
    _config: Path | None
    _overrides: tuple[Override, ...] = field(default=(), init=False)
    _settings: WorkerSettings | None = field(default=None, init=False)
    resolved: Resolved = field(default=_NOTHING, init=False)
    """What was read last, and where from."""

    @classmethod
    def by_code(
        cls, worker_id: str | None, settings: WorkerSettings | None, config: str | PathLike[str] | None
    ) -> "Told":
        """What a constructor says; raises `SettingsError` where it names the worker in two ways."""
        given = settings or WorkerSettings()
        if worker_id is not None and given.worker_id not in (worker_id, WorkerSettings().worker_id):
            raise SettingsError([f"The worker is called {worker_id!r} here and {given.worker_id!r} in its settings."])
        given = given if worker_id is None else evolve(given, worker_id=worker_id)
        return cls(given, None if config is None else Path(config))

    @property
    def settings(self) -> WorkerSettings:
        """All of it together; on first use it is read, and what has no effect is logged. Raises `SettingsError`."""
        if self._settings is None:
            self._settings = self.read().settings
            for warning in self.resolved.warnings:
                _log.warning("%s", warning)
        return self._settings

    @settings.setter
    def settings(self, settings: WorkerSettings) -> None:
        self._settings = settings

    def read(self) -> Resolved:
        """Read the sources, whether or not that was done before; raises `SettingsError`."""
        self.resolved = resolve(self._given, config=self._config, environ=os.environ, overrides=self._overrides)
        return self.resolved

    def with_sources(self, error: E) -> E:
        """The error, with settings called as they are where they come from; of a server that says no, with where."""
        if isinstance(error, BrokerUnreachable):
            error.append(whence(str(error), self.resolved))
        return respelled(error, self.resolved) if isinstance(error, MilvaionError) else error

    def spelled(self, texts: Iterable[str]) -> list[str]:
        """The texts so."""
        return [spelled(text, self.resolved) for text in texts]

    def configure(self, config: str | PathLike[str] | None, overrides: Iterable[Override]) -> None:
        """Have the settings read from this file instead, if one is named, and lay these over all others."""
        self._config = self._config if config is None else Path(config)
        self._overrides, self._settings = (*self._overrides, *overrides), None
