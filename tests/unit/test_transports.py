"""Which adapter the settings ask for."""

import sys

import pytest

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.settings import RabbitMQSettings, WorkerSettings
from milvaion_trio.transports import NO_CLIENT, broker_for


def test_a_python_without_a_client_for_rabbitmq_is_named_as_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a module that is missing: nothing of trio-asyncio and aio-pika is installed on Python 3.14."""
    for module in ("aio_pika", "aiormq", "trio_asyncio", "milvaion_trio.bridge", "milvaion_trio.broker.aiopika"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))

    with pytest.raises(SettingsError) as refused:
        broker_for(WorkerSettings(rabbitmq=RabbitMQSettings()), "tests")

    assert refused.value.problems == (NO_CLIENT,)


def test_a_python_without_a_client_for_rabbitmq_has_the_embedded_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))

    assert isinstance(broker_for(WorkerSettings(), "tests"), EmbeddedBroker)
