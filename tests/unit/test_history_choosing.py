"""Which history the settings ask for."""

import sys
from pathlib import Path

import pytest

from milvaion_trio.history.choosing import history_for
from milvaion_trio.history.mongodb import MongoDBHistory
from milvaion_trio.history.sqlite import SQLiteHistory
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.settings import MonitorSettings, WorkerSettings


def settings(*, store: str = "history.db", mongodb: str = "") -> WorkerSettings:
    return WorkerSettings(worker_id="reports", monitor=MonitorSettings(store=store, mongodb=mongodb))


def test_a_file_unless_told_otherwise(tmp_path: Path) -> None:
    store = history_for(settings(store=str(tmp_path / "history.db")))

    assert isinstance(store, SQLiteHistory)
    assert store.name == str(tmp_path / "history.db")
    assert not list(tmp_path.iterdir()), "nothing is opened"


def test_mongodb_where_it_is_named() -> None:
    store = history_for(settings(mongodb="mongodb://127.0.0.1:1/history"))

    assert isinstance(store, MongoDBHistory)
    assert store.name == "mongodb://127.0.0.1:1/history"


def test_without_its_client_mongodb_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("milvaion_trio.history.mongodb")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pymongo", None)

    with pytest.raises(SettingsError, match=r"pip install 'milvaion-trio\[mongodb\]'"):
        history_for(settings(mongodb="mongodb://127.0.0.1:1/history"))
