"""Monitors in virtual time, and where they keep what they read."""

from pathlib import Path

import pytest
from tests.support.monitored import FailingHistory, inline

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.history.sqlite import SQLiteHistory


@pytest.fixture(autouse=True)
def _inline(monkeypatch: pytest.MonkeyPatch) -> None:
    inline(monkeypatch)


@pytest.fixture
def broker() -> EmbeddedBroker:
    return EmbeddedBroker()


@pytest.fixture
def store(tmp_path: Path) -> FailingHistory:
    return FailingHistory(SQLiteHistory(tmp_path / "history.db"))
