"""What a simulated worker must not get from the machine: a disk, an outbox of its own choice, a place for its log.

Separate from the world, in which only simulated things happen.
"""

import logging
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from milvaion_trio import composition
from torture.simulation.jobs import LIFE
from torture.simulation.plan import Plan

if TYPE_CHECKING:
    from torture.simulation.trace import Trace

__all__ = ["ErrorsNoted", "folder_for", "outboxes_of_lives"]

MEMORY: Final = Path("/dev/shm")
"""Where files cost no disk, if the system has it."""

_ASIDE: Final = re.compile(r"corrupt-[-0-9TZ]+")
"""The end of a file's name that says when, by the real clock, it was set aside."""


@contextmanager
def folder_for(plan: Plan) -> Iterator[Path]:
    """A folder for the disks of the hosts, if they have any; gone afterwards."""
    if not plan.with_disk:
        yield Path()
        return
    with tempfile.TemporaryDirectory(prefix="mtrio-sim-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


@contextmanager
def outboxes_of_lives() -> Iterator[None]:
    """While inside, each worker gets the outbox of the life that it is."""
    name = "outbox_for"
    before = getattr(composition, name)
    setattr(composition, name, lambda settings: LIFE.get().outbox())
    try:
        yield
    finally:
        setattr(composition, name, before)


class ErrorsNoted(logging.Handler):
    """While inside, what the library logs as an error is noted, unless a dead worker says it, and shown nowhere."""

    def __init__(self, folder: str) -> None:
        super().__init__(logging.ERROR)
        self._folder = folder
        self.trace: Trace | None = None
        self._logger = logging.getLogger("milvaion_trio")
        self._before = (True, logging.NOTSET)

    def __enter__(self) -> Self:
        self._before = self._logger.propagate, self._logger.level
        self._logger.propagate = False
        self._logger.setLevel(logging.ERROR)
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate, level = self._before
        self._logger.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Note it."""
        life = LIFE.get(None)
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" [{type(record.exc_info[1]).__name__}: {record.exc_info[1]}]"
        text = _ASIDE.sub("corrupt", text.replace(self._folder, "disk")) if self._folder != "." else text
        if life is not None:
            life.note("error", "", text)
        elif self.trace is not None:
            self.trace.note("world", "error", "", text)
