"""A Milvaion cluster for one test: a vhost of RabbitMQ, a channel of Redis, the played API, and workers to join it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio
from attrs import evolve, frozen
from tests.support import servers
from tests.support.api_model import ApiSettings
from tests.support.api_model.server import ApiServer, api_server
from tests.support.commands import environment, forked_command
from tests.support.folders import new_folder
from tests.support.readmes import SDK_README
from tests.support.resp import redis_publish
from tests.support.servers import HOST, RabbitMQServer, RedisServer

from milvaion_trio import Worker
from milvaion_trio.model.settings import OfflineResilienceSettings, RabbitMQSettings, RedisSettings, WorkerSettings

__all__ = ["Cluster", "RunningWorker", "cluster", "running", "serving"]

SOON = 20.0
"""Seconds for anything that takes well under one on an idle machine."""


@frozen(kw_only=True)
class Cluster:
    """The servers as a test uses them."""

    rabbitmq: RabbitMQServer
    redis: RedisServer
    vhost: str
    channel: str
    """Of cancel signals; a test has its own, since Redis is shared."""
    api: ApiServer

    @property
    def rabbitmq_settings(self) -> RabbitMQSettings:
        """For a worker of this cluster."""
        return RabbitMQSettings(host=HOST, port=self.rabbitmq.port, virtual_host=self.vhost)

    @property
    def redis_settings(self) -> RedisSettings:
        """For a worker of this cluster."""
        return RedisSettings(connection_string=f"{HOST}:{self.redis.port}", cancellation_channel=self.channel)

    def worker(self, worker_id: str = "tests", **settings: Any) -> Worker:
        """A worker of this cluster, without jobs yet."""
        outbox = OfflineResilienceSettings(local_storage_path=str(new_folder()))
        told = WorkerSettings(
            worker_id=worker_id,
            rabbitmq=self.rabbitmq_settings,
            redis=self.redis_settings,
            **{"offline_resilience": outbox, **settings},
        )
        return Worker(settings=told)

    def write_appsettings(self, folder: Path, **changes: Any) -> Path:
        """The readme's settings file with nothing changed but where the servers are, and what the test changes."""
        settings = json.loads(SDK_README)
        worker = settings["Worker"]
        worker["RabbitMQ"] |= {"Host": HOST, "Port": self.rabbitmq.port, "VirtualHost": self.vhost}
        worker["Redis"] |= {"ConnectionString": f"{HOST}:{self.redis.port}", "CancellationChannel": self.channel}
        for name, value in changes.items():
            worker[name] = {**worker[name], **value} if isinstance(value, dict) else value
        path = folder / "appsettings.json"
        path.write_text(json.dumps(settings, indent=2))
        return path

    async def cancel(self, occurrence_id: str, reason: str | None = None) -> int:
        """Cancel as the API does: recorded at once, then sent; returns how many listened."""
        return await self.signal(self.api.cancel_text(occurrence_id, reason))

    async def signal(self, text: str) -> int:
        """Send any text on the cancel channel; returns how many listened."""
        return await redis_publish(self.redis.port, self.channel, text.encode("utf-8", "surrogatepass"))


@asynccontextmanager
async def cluster(
    *,
    rabbitmq: RabbitMQServer | None = None,
    redis: RedisServer | None = None,
    api_settings: ApiSettings | None = None,
) -> AsyncIterator[Cluster]:
    """A cluster for as long as the context is open, on the run's servers unless others are given.

    On leaving, the API must be content: nothing requeued for ever, nothing dropped, no rule broken. A test that
    provokes it looks itself and clears what it found.
    """
    broker = rabbitmq or servers.rabbitmq()
    vhost = broker.new_vhost()
    async with api_server(broker.port, vhost, api_settings) as api:
        yield Cluster(rabbitmq=broker, redis=redis or servers.redis(), vhost=vhost, channel=f"cancel-{vhost}", api=api)
        await api.until_idle()
        api.assert_content()


@asynccontextmanager
async def serving(worker: Worker, *, drain: float = 5.0) -> AsyncIterator[Worker]:
    """Serve a worker in this process while the context is open, then drain it."""
    worker.settings = evolve(worker.settings, shutdown=evolve(worker.settings.shutdown, drain_timeout=drain))
    async with trio.open_nursery() as nursery:
        with trio.fail_after(SOON):
            await nursery.start(partial(worker.serve, handle_signals=False))
        yield worker
        worker.drain()


@frozen(eq=False)
class RunningWorker:
    """A `milvaion-trio run` in a process of its own."""

    process: trio.Process
    log: Path
    """What it wrote to stderr."""

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code. If cancelled, it may still run."""
        self.process.send_signal(number)
        with trio.fail_after(2 * SOON):
            return await self.process.wait()

    @property
    def told(self) -> str:
        """What it wrote so far."""
        return self.log.read_text()


@asynccontextmanager
async def running(
    target: str, config: Path, *options: str, cwd: Path, env: Mapping[str, str] | None = None
) -> AsyncIterator[RunningWorker]:
    """Run `milvaion-trio run target --config …` while the context is open; killed on leaving if it still runs."""
    log = config.with_suffix(".log")
    with log.open("w") as stderr:
        process = await trio.lowlevel.open_process(
            forked_command("run", target, "--config", config, *options),
            cwd=cwd,
            env={**environment(), "PYTHONPATH": os.pathsep.join([str(cwd), *sys.path]), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
        )
    try:
        yield RunningWorker(process, log)
    finally:
        if process.poll() is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
