"""What tests share: a place in RabbitMQ and the way to it, with each driver; a disk outbox, and a disk that fails."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support import servers
from tests.support.brokers import DRIVERS
from tests.support.proxy import Proxy, open_proxy
from tests.support.stored import FailingDisk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tests.outbox.db"


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FailingDisk:
    return FailingDisk(monkeypatch)


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async with open_proxy(servers.rabbitmq().port) as proxy:
        yield proxy


@pytest.fixture
def vhost() -> str:
    return servers.new_vhost()


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name
