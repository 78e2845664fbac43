"""What the tests of the disk outbox share: where its file is, and a disk that fails on demand."""

from pathlib import Path

import pytest
from tests.support.stored import FailingDisk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tests.outbox.db"


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FailingDisk:
    return FailingDisk(monkeypatch)
