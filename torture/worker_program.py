"""The program of the worker processes: `milvaion-trio run torture.worker_program:worker`, told by one variable.

A worker as any user would write it, but for what `torture.installing` puts around the functions of the library.
"""

import json
import os
import secrets
from pathlib import Path
from typing import Any, Final

import cattrs
import trio

from milvaion_trio import JobContext, JobSettings, Worker, WorkerSettings
from milvaion_trio.model.events import Event, WorkerReady
from milvaion_trio.model.settings import (
    HeartbeatSettings,
    OfflineResilienceSettings,
    RabbitMQSettings,
    RedisSettings,
    SchedulerSettings,
    ShutdownSettings,
)
from torture import crash_points, link_recording, probes, recording, sabotages, scheduler_recording
from torture.effects import append
from torture.endings import ENDINGS
from torture.expectations import Act
from torture.telling import VARIABLE, Told

__all__ = ["worker"]

TOLD: Final = cattrs.structure(json.loads(os.environ[VARIABLE]), Told)


def note(what: str, **facts: Any) -> None:
    """Write a line into the effects file."""
    append(TOLD.effects, TOLD.name, what, **facts)


def _settings() -> WorkerSettings:
    return WorkerSettings(
        worker_id=TOLD.worker_id,
        max_parallel_jobs=TOLD.max_parallel,
        rabbitmq=RabbitMQSettings(
            host=TOLD.host,
            port=TOLD.rabbitmq_port,
            username=TOLD.username,
            password=TOLD.password,
            virtual_host=TOLD.vhost,
            driver=TOLD.driver,
        ),
        redis=RedisSettings(
            connection_string=f"{TOLD.host}:{TOLD.redis_port}", cancellation_channel=TOLD.cancel_channel
        ),
        startup_connection_timeout=0,
        heartbeat=HeartbeatSettings(interval=5.0, job_interval=TOLD.job_heartbeat),
        offline_resilience=OfflineResilienceSettings(enabled=TOLD.disk, local_storage_path=TOLD.storage),
        scheduler=SchedulerSettings(enabled=TOLD.schedules, lease=TOLD.lease),
        shutdown=ShutdownSettings(drain_timeout=TOLD.drain, cleanup_timeout=TOLD.cleanup, flush_timeout=TOLD.flush),
        job_defaults=JobSettings(
            max_parallel=TOLD.max_parallel,
            max_retries=TOLD.max_retries,
            base_retry_delay=TOLD.base_delay,
            timeout=TOLD.time_limit,
            exclusive=TOLD.exclusive or None,
        ),
        exclusive_lease=TOLD.exclusive_lease,
    )


def tell(event: Event) -> None:
    """Write down when the process is ready."""
    if isinstance(event, WorkerReady):
        note("ready")


worker = Worker(settings=_settings(), observers=(tell,))


@worker.job("TortureJob")
async def torture(ctx: JobContext, act: Act) -> str:
    """Do what the data says, and write down that it was done. If cancelled, it ends."""
    run = {
        "occurrence": ctx.occurrence_id,
        "attempt": ctx.attempt,
        "run": ctx.run_number,
        "redelivered": ctx._run.delivery.redelivered,
        "token": secrets.token_hex(6),
        "how": act.ending(ctx.attempt),
        "key": act.key,
        "fence": ctx.fencing_token,
    }
    note("begin", **run)
    code_begins()
    for number in range(act.lines):
        ctx.log.info("line", number=number, token=run["token"])
    try:
        await trio.sleep(act.takes)
    except trio.Cancelled:
        if act.key:  # its lease was lost
            note("out", **run)
        raise
    code_goes_on()
    try:
        return await ENDINGS[act.ending(ctx.attempt)](ctx, act)
    finally:
        note("end", **run)
        code_ends()


def code_begins() -> None:
    """A place for a crash point."""


def code_goes_on() -> None:
    """A place for a crash point."""


def code_ends() -> None:
    """A place for a crash point."""


note("start")
recording.install(note)
link_recording.install(worker, note)
if TOLD.amqp_heartbeat:
    link_recording.set_heartbeat(worker, TOLD.amqp_heartbeat)
if TOLD.probes:
    probes.add(worker, note)
if TOLD.schedules:
    scheduler_recording.install(note, Path(TOLD.storage).with_name(scheduler_recording.DIES))
for sabotage in TOLD.sabotages:
    sabotages.install(sabotage)
if TOLD.crash:
    crash_points.install(TOLD.crash, note)
if TOLD.records_deliveries:
    recording.install_deliveries(note)
