"""What `dev` keeps in its folder: the queues, what is still to be reported, the schedules, and the history.

Separate from `dev`, which serves and tells: what stands around its worker is opened here, and found again by commands
of other terminals.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio
from attrs import evolve

from milvaion_trio.broker.embedded.durable import QUEUES_FILE, DurableBroker
from milvaion_trio.coordination.sqlite import SqliteCoordination
from milvaion_trio.history.choosing import history_for
from milvaion_trio.model.errors import StoreUnavailable
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.monitor import Monitor
from milvaion_trio.monitor.queues import QUEUES
from milvaion_trio.transports import COORDINATION_FILE
from milvaion_trio.worker import Worker

__all__ = ["DATA_FOLDER", "HISTORY_FILE", "dev_history", "is_of_dev", "keep_in", "kept"]

DATA_FOLDER: Final = Path(".milvaion-dev")
"""In the folder where `dev` is started, as its jobs are those of a project."""
HISTORY_FILE: Final = "history.db"
READ_OUT: Final = 2.0
"""Seconds for the monitor to read what a worker reported at last; what it does not, waits for the next start."""
LOOK: Final = 0.02
"""Seconds between two looks whether it has."""


def keep_in(worker: Worker, folder: Path) -> DurableBroker:
    """Make the folder, and let the worker keep all it has in it. Raises `StoreUnavailable` where it cannot be made."""
    folder = folder.absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(folder / ".gitignore", "x", encoding="ascii") as ignored:
            ignored.write("*\n")
    except FileExistsError:
        if not folder.is_dir():
            raise StoreUnavailable(f"{folder} is no folder. Name another one with --data, or use --no-data.") from None
    except OSError as error:
        raise StoreUnavailable(
            f"Nothing can be kept in {folder}: {error.strerror}. Name another folder with --data, or use --no-data."
        ) from error
    settings = worker.settings
    worker.settings = evolve(
        settings,
        offline_resilience=evolve(settings.offline_resilience, enabled=True, local_storage_path=os.fspath(folder)),
        monitor=evolve(settings.monitor, mongodb="", store=os.fspath(folder / HISTORY_FILE)),
    )
    worker.coordination = SqliteCoordination(folder / COORDINATION_FILE)
    broker = DurableBroker(folder, durability=settings.offline_resilience.durability)
    worker.broker = broker
    return broker


@asynccontextmanager
async def kept(worker: Worker) -> AsyncIterator[None]:
    """Have the folder while the context is open, where there is one, and a monitor that writes the history.

    Raises `StoreUnavailable` where a file in it cannot be had. If cancelled, all that was taken is kept.
    """
    broker, coordination = worker.broker, worker.coordination
    if not isinstance(broker, DurableBroker) or not isinstance(coordination, SqliteCoordination):
        yield
        return
    async with broker.open(), coordination.open():
        await coordination.end_leases()  # as the folder is ours alone, whoever held one has died
        worker.prepare()
        monitor = Monitor(
            broker=broker,
            store=history_for(worker.settings),
            coordination=coordination,
            settings=worker.settings.monitor,
            patterns=frozenset(pattern for job in worker.registry.jobs for pattern in job.patterns),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(monitor.run)
            yield
            with trio.move_on_after(READ_OUT):
                while any(broker.queue(queue).depth for queue in QUEUES):  # noqa: ASYNC110  # a queue tells nobody
                    await trio.sleep(LOOK)
            nursery.cancel_scope.cancel()


def is_of_dev(settings: WorkerSettings) -> bool:
    """Whether the history of these settings is that of a dev worker."""
    return not settings.monitor.mongodb and Path(settings.monitor.store).with_name(QUEUES_FILE).exists()


def dev_history(settings: WorkerSettings) -> WorkerSettings:
    """The settings with the history of the dev worker that was started here.

    Not where they name a MongoDB, or RabbitMQ and a file that a monitor has made.
    """
    here = DATA_FOLDER / HISTORY_FILE
    is_of_monitor = settings.rabbitmq is not None and Path(settings.monitor.store).exists()
    if settings.monitor.mongodb or is_of_monitor or not here.exists():
        return settings
    return evolve(settings, rabbitmq=None, redis=None, monitor=evolve(settings.monitor, store=os.fspath(here)))
