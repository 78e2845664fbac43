"""The history as commands open it: where the settings say, beside a monitor that may be writing."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from milvaion_trio import configuration
from milvaion_trio.cli.dev_data import DATA_FOLDER, HISTORY_FILE, dev_history
from milvaion_trio.cli.failures import CommandFailed, UsageError
from milvaion_trio.configuration import Override
from milvaion_trio.history.choosing import history_for
from milvaion_trio.model.history import OccurrenceRecord
from milvaion_trio.model.ids import OccurrenceId, parse_guid
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.ports.history import HistoryStore

__all__ = ["check_count", "occurrence_id_of", "occurrence_in", "opened_history", "settings_here"]

MOST_SHOWN: Final = 1_000_000


def settings_here(config: Path | None, overrides: Sequence[Override]) -> WorkerSettings:
    """The settings that hold here; raises `SettingsError` with every mistake in them.

    Where nothing is said of a cluster, and a dev worker was started here, with the history of that one.
    """
    told = configuration.resolve(WorkerSettings(), config=config, environ=os.environ, overrides=overrides).settings
    return told if config is not None or overrides else dev_history(told)


@contextlib.contextmanager
def opened_history(settings: WorkerSettings) -> Iterator[HistoryStore]:
    """The history of these settings, open. Raises `CommandFailed` where there is none, and makes none."""
    if not settings.monitor.mongodb and not (place := Path(settings.monitor.store).absolute()).exists():
        raise CommandFailed(
            f"There is no history {place}. A monitor keeps one: start `milvaion-trio monitor` "
            "with the same settings, and leave it running. A dev worker keeps its own in the folder where it was "
            f"started: go there, or name it: --set monitor.store={DATA_FOLDER / HISTORY_FILE}"
        )
    with history_for(settings) as store:
        yield store


def check_count(option: str, count: int) -> None:
    """Raise `UsageError` for a number of rows that nobody can be shown."""
    if not 1 <= count <= MOST_SHOWN:
        raise UsageError(f"{option} is {count}; it must be from 1 to {MOST_SHOWN}.")


def occurrence_id_of(text: str) -> OccurrenceId:
    """The id as everything else writes it; raises `UsageError`."""
    parsed = parse_guid(text)
    if parsed is None:
        raise UsageError(f"{text!r} is no occurrence id; that is the 36 characters which history and enqueue print.")
    return OccurrenceId(parsed)


def occurrence_in(store: HistoryStore, text: str) -> OccurrenceRecord:
    """The occurrence with this id; raises `UsageError` or `CommandFailed`."""
    occurrence_id = occurrence_id_of(text)
    row = store.load([occurrence_id]).get(occurrence_id)
    if row is None:
        raise CommandFailed(
            f"The history {store.name} knows no occurrence {occurrence_id}. It knows what was dispatched or reported "
            "while a monitor ran, and was not deleted by age (Worker:Monitor:RetentionDays)."
        )
    return row
