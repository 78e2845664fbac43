"""Which adapter the settings ask for: where they name no server, everything stays in this process."""

import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.outbox.memory import MemoryOutbox
from milvaion_trio.ports import Broker, Signals
from milvaion_trio.ports.coordination import Coordination
from milvaion_trio.signals.local import LocalSignals

if TYPE_CHECKING:  # it brings sqlite3 along
    from milvaion_trio.outbox.disk import DiskOutbox

__all__ = [
    "COORDINATION_FILE",
    "broker_for",
    "coordination_for",
    "lasting_outbox_for",
    "missing_client",
    "outbox_for",
    "outbox_place",
    "signals_for",
]

BOOT = secrets.token_hex(8)
"""With the process id, this process, by which the starts that it noted are told from those of processes that died. A
process id comes again, in containers at every start; and what a host imports before it forks is the same in all forks.
"""

COORDINATION_FILE = "coordination.db"
"""In the folder for data."""

NO_CLIENT = (
    "Worker:RabbitMQ:Driver is aio-pika, which is to be had on Python 3.11 to 3.13 only: newer ones cannot import "
    "trio-asyncio, which it stands on (python-trio/trio-asyncio#160). Use one of these, or the driver amqp."
)


def missing_client(settings: WorkerSettings) -> tuple[str, ...]:
    """What is wrong where this Python has not the driver that is asked for."""
    if settings.rabbitmq is not None and settings.rabbitmq.driver == "aio-pika" and sys.version_info >= (3, 14):
        return (NO_CLIENT,)  # not installed there: pyproject.toml
    return ()


def broker_for(settings: WorkerSettings, client_name: str, patience: float | None = None) -> Broker:
    """The broker of these settings; nothing is connected. `client_name` is shown by RabbitMQ's own tools.

    A connection that takes longer than `patience` seconds counts as failed; the time for the start where it is short.
    Raises `SettingsError` where this Python has not the driver that is asked for.
    """
    if settings.rabbitmq is None:
        return EmbeddedBroker()
    if problems := missing_client(settings):
        raise SettingsError(problems)
    from milvaion_trio.broker.rabbitmq import CONNECT_TIMEOUT, RabbitMQBroker

    limit = settings.startup_connection_timeout if patience is None else patience
    timeout = min(limit, CONNECT_TIMEOUT) if limit > 0 else CONNECT_TIMEOUT
    return RabbitMQBroker(settings.rabbitmq, client_name=client_name, connect_timeout=timeout)


def signals_for(settings: WorkerSettings) -> Signals:
    """Where these settings say that cancel signals come from; nothing is connected."""
    if settings.redis is None:
        return LocalSignals()
    from milvaion_trio.signals.redis import RedisSignals

    return RedisSignals(settings.redis)


def outbox_for(settings: WorkerSettings) -> "MemoryOutbox | DiskOutbox":
    """The outbox of these settings; no file is opened. What the embedded broker holds ends with the process anyway."""
    return MemoryOutbox() if settings.rabbitmq is None else lasting_outbox_for(settings)


def lasting_outbox_for(settings: WorkerSettings) -> "MemoryOutbox | DiskOutbox":
    """The outbox of these settings where the queues outlive the process; no file is opened."""
    offline = settings.offline_resilience
    if not offline.enabled:
        return MemoryOutbox()
    from milvaion_trio.outbox.disk import DiskOutbox  # imports sqlite3
    from milvaion_trio.outbox.file import OutboxFile

    boot = f"{BOOT}-{os.getpid()}"
    return DiskOutbox(OutboxFile(outbox_place(settings), offline.durability, boot))


def outbox_place(settings: WorkerSettings) -> Path:
    """The file of the outbox of these settings."""
    return Path(settings.offline_resilience.local_storage_path) / f"{settings.worker_id}.outbox.db"


def coordination_for(
    settings: WorkerSettings, data_folder: Path | None = None, *, is_embedded: bool | None = None
) -> Coordination | None:
    """What keeps leases, claims and schedules by these settings; nothing is connected, and no file is opened.

    With an embedded broker, which these settings ask for unless it is said, a file in that folder, or memory, which is
    another one at every call: no other process could lead, as it could not reach the queues.
    Else Redis where they name it; who uses another virtual host of RabbitMQ has another book there, for the same
    reason. Without Redis, workers on RabbitMQ have nothing in common that could do it: then `None`.
    """
    if not (settings.rabbitmq is None if is_embedded is None else is_embedded):
        if settings.redis is None:
            return None
        from milvaion_trio.coordination.redis.adapter import PREFIX, RedisCoordination

        virtual_host = "" if settings.rabbitmq is None else settings.rabbitmq.virtual_host
        return RedisCoordination(settings.redis, f"{PREFIX}{virtual_host}:")
    from milvaion_trio.coordination.sqlite import SqliteCoordination  # imports sqlite3

    return SqliteCoordination() if data_folder is None else SqliteCoordination(data_folder / COORDINATION_FILE)
