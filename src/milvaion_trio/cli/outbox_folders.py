"""Where the processes of one worker keep their outboxes: the first in the folder of the settings, like a worker that is
alone, the others in one each below it.

By number, so that a process that is started again finds what the one before left, and so that changing their number
moves no file. Only what lies in folders of numbers that are no longer started waits for somebody to look.
"""

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from attrs import evolve

from milvaion_trio.cli import lifeline
from milvaion_trio.cli.failures import CommandFailed
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.transports import outbox_place

__all__ = ["left_behind", "of_all", "of_process", "wait_for_leaving"]

LEAVING = lifeline.BETWEEN + lifeline.LEAVING + 1.0
"""Seconds: as long as a process without a supervisor may live, and one for its end."""

_log = logging.getLogger("milvaion_trio")

_FOLDER = re.compile(r"process-([1-9][0-9]{0,3})")


def of_process(settings: WorkerSettings, number: int) -> WorkerSettings:
    """These settings, with the folder of the process of this number; they count from 1."""
    if number == 1:
        return settings
    offline = settings.offline_resilience
    folder = str(Path(offline.local_storage_path) / f"process-{number}")
    return evolve(settings, offline_resilience=evolve(offline, local_storage_path=folder))


def of_all(settings: WorkerSettings) -> list[tuple[int, WorkerSettings]]:
    """The settings of every process that has an outbox here by its number, whether it runs or not; first the first."""
    return [
        (number, own)
        for number in sorted({1, *_numbers(Path(settings.offline_resilience.local_storage_path))})
        if outbox_place(own := of_process(settings, number)).exists()
    ]


def wait_for_leaving(settings: WorkerSettings, is_enough: Callable[[], bool]) -> None:
    """Give a process that has this outbox time to leave: its supervisor may have been killed just now.

    Raises `CommandFailed` when it stays: it may still drain, so that another try is worth it. Returns too when it is
    enough. It blocks.
    """
    if settings.rabbitmq is None or not settings.offline_resilience.enabled:
        return
    from milvaion_trio.outbox.file import is_taken  # imports sqlite3

    place, end, has_told = outbox_place(settings), time.monotonic() + LEAVING, False
    with contextlib.suppress(OSError):  # which the opening tells of, too
        while is_taken(place) and not is_enough():
            if not has_told:
                _log.info("another process has the outbox %s; it may be leaving, and has %.0f s for it", place, LEAVING)
                has_told = True
            if time.monotonic() >= end:
                raise CommandFailed(
                    f"The outbox {place.absolute()} belongs to another worker that runs. Give each a folder of its own "
                    "(Worker:OfflineResilience:LocalStoragePath)."
                )
            time.sleep(0.05)


def left_behind(settings: WorkerSettings) -> Iterator[tuple[Path, int]]:
    """Files of processes that these settings do not start, and how many reports wait in each; none without any.

    It blocks.
    """
    if settings.rabbitmq is None or not settings.offline_resilience.enabled:
        return
    from milvaion_trio.outbox.inspection import NoOutbox, look_into  # imports sqlite3

    for number, own in of_all(settings):
        if number > max(settings.processes, 1):
            place = outbox_place(own)
            with contextlib.suppress(NoOutbox):
                if (contents := look_into(place, 0)) is not None and contents.count:
                    yield place, contents.count


def _numbers(folder: Path) -> Iterator[int]:
    if not folder.is_dir():
        return
    for below in folder.iterdir():
        if match := _FOLDER.fullmatch(below.name):
            yield int(match[1])
