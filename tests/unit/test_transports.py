"""Which adapter the settings ask for."""

import os
import sys
from pathlib import Path

import pytest

from milvaion_trio import Worker
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.broker.rabbitmq import RabbitMQBroker
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.settings import OfflineResilienceSettings, RabbitMQSettings, RedisSettings, WorkerSettings
from milvaion_trio.transports import NO_CLIENT, broker_for, coordination_for, outbox_for


def test_a_python_without_a_client_for_rabbitmq_is_named_as_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a module that is missing: nothing of trio-asyncio and aio-pika is installed on Python 3.14.

    Our own client is there.
    """
    for module in ("aio_pika", "aiormq", "trio_asyncio", "milvaion_trio.bridge", "milvaion_trio.broker.aiopika"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))

    with pytest.raises(SettingsError) as refused:
        broker_for(WorkerSettings(rabbitmq=RabbitMQSettings(driver="aio-pika")), "tests")

    with pytest.raises(SettingsError) as prepared:  # without a broker, so `list` and `run` find it too
        Worker(settings=WorkerSettings(rabbitmq=RabbitMQSettings(driver="aio-pika"))).prepare()

    assert refused.value.problems == (NO_CLIENT,)
    assert NO_CLIENT in prepared.value.problems
    assert isinstance(broker_for(WorkerSettings(rabbitmq=RabbitMQSettings()), "tests"), RabbitMQBroker)


def test_a_python_without_a_client_for_rabbitmq_has_the_embedded_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 14, 0, "final", 0))

    assert isinstance(broker_for(WorkerSettings(), "tests"), EmbeddedBroker)


@pytest.mark.parametrize(("next_process", "deaths"), [(1, 0), (2, 1)])
async def test_processes_forked_from_one_that_imported_it_all_count_each_others_deaths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, next_process: int, deaths: int
) -> None:
    """As those of servers that load an application before they fork. Sabotage: tell processes apart by the import."""
    settings = WorkerSettings(
        rabbitmq=RabbitMQSettings(), offline_resilience=OfflineResilienceSettings(local_storage_path=str(tmp_path))
    )
    attempt = AttemptKey(OccurrenceId("019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193"), "1000", 0, 0)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    earlier = outbox_for(settings)
    async with earlier.open():
        await earlier.started(attempt)
    (tmp_path / "worker.outbox.lock").write_bytes(b"")  # as one leaves it that is killed
    monkeypatch.setattr(os, "getpid", lambda: next_process)
    later = outbox_for(settings)
    async with later.open():
        assert later.deaths(attempt) == deaths


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (WorkerSettings(), "the memory of this process"),
        (WorkerSettings(redis=RedisSettings()), "the memory of this process"),
        (WorkerSettings(rabbitmq=RabbitMQSettings(), redis=RedisSettings()), "Redis at localhost:6379"),
        (WorkerSettings(rabbitmq=RabbitMQSettings()), None),
    ],
    ids=["nothing", "redis", "both", "rabbitmq"],
)
def test_who_keeps_leases_and_schedules(settings: WorkerSettings, name: str | None) -> None:
    """Redis for those on RabbitMQ, which alone cannot; no other process reaches the queues of an embedded broker."""
    coordination = coordination_for(settings)

    assert (coordination and coordination.name) == name


async def test_schedules_are_kept_in_the_folder_for_data(tmp_path: Path) -> None:
    coordination = coordination_for(WorkerSettings(), tmp_path)
    assert coordination is not None
    async with coordination.open():
        await coordination.claims.claim("k", OccurrenceId("019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193"), 10)

    assert (tmp_path / "coordination.db").exists()
