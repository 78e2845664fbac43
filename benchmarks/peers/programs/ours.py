"""milvaion-trio, as its own command runs it: outbox on disk, two connections, acknowledged last."""

import os
import time
from functools import partial

import trio
from benchmarks.peers.programs.marking import count_and_text, mark
from benchmarks.peers.programs.told import read

from milvaion_trio import JobSettings, Worker, WorkerSettings
from milvaion_trio.model import topology
from milvaion_trio.model.settings import (
    OfflineResilienceSettings,
    RabbitMQSettings,
    RedisSettings,
    ReportingSettings,
    ShutdownSettings,
)
from milvaion_trio.runtime.declaration import topology_of
from milvaion_trio.runtime.dispatching import Destination, dispatch_message

TOLD = read()


worker = Worker(
    settings=WorkerSettings(
        worker_id="bench",
        max_parallel_jobs=TOLD.in_flight + TOLD.sleepers,
        rabbitmq=RabbitMQSettings(host="127.0.0.1", port=TOLD.port, virtual_host=TOLD.vhost, driver=TOLD.driver),
        redis=RedisSettings(connection_string=f"127.0.0.1:{TOLD.redis_port}") if TOLD.redis_port else None,
        offline_resilience=OfflineResilienceSettings(local_storage_path=TOLD.storage, durability="NORMAL"),
        reporting=ReportingSettings(local_occurrences=TOLD.is_reported, running_after=TOLD.running_after),
        shutdown=ShutdownSettings(drain_timeout=0.0),
        job_defaults=JobSettings(max_parallel=TOLD.in_flight),
    )
)


@worker.job("Bench")
async def bench(text: str) -> None:
    """Compute for as long as told, which is not at all in most rounds."""
    mark()
    if TOLD.computing:
        over = time.thread_time() + TOLD.computing
        while time.thread_time() < over:
            pass


async def sleep(text: str) -> None:
    """Sleep until cancelled."""
    mark()
    await trio.sleep_forever()


for name, count in TOLD.sleeping_jobs.items():
    worker.job(name, timeout=0, max_parallel=count)(sleep)


async def enqueue(count: int, text: str, job_name: str = "Bench") -> None:
    """Declare what the worker would, and enqueue so many."""
    worker.prepare()
    pattern = topology.routing_pattern("bench", job_name)
    to = Destination(worker_id="bench", job_name=job_name, pattern=pattern)
    async with worker.broker.consuming() as consumer:
        await consumer.declare(topology_of(worker.registry.jobs))
    async with worker.broker.publishing() as publisher:
        await publisher.publish([dispatch_message(to, text) for _ in range(count)])


if __name__ == "__main__":
    trio.run(partial(enqueue, *count_and_text(), job_name=os.environ.get("BENCH_JOB", "Bench")))
