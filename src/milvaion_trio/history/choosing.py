"""Which store the settings ask for: MongoDB where they name one, else a file."""

from pathlib import Path

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.ports.history import HistoryStore

__all__ = ["history_for"]


def history_for(settings: WorkerSettings) -> HistoryStore:
    """The history of these settings; nothing is opened.

    Raises `SettingsError` for an address that cannot be used, and where MongoDB's client is not installed.
    """
    monitor = settings.monitor
    if not monitor.mongodb:
        from milvaion_trio.history.sqlite import SQLiteHistory  # imports sqlite3

        return SQLiteHistory(Path(monitor.store))
    try:
        from milvaion_trio.history.mongodb import MongoDBHistory
    except ModuleNotFoundError as error:
        if error.name != "pymongo":
            raise
        raise SettingsError(
            [
                "Worker:Monitor:Mongodb is set, and MongoDB's client is not installed: pip install "
                "'milvaion-trio[mongodb]'. Without the setting the history is a file (Worker:Monitor:Store)."
            ]
        ) from error
    return MongoDBHistory(monitor.mongodb)
