"""How messages change what is known of workers (WIRE.md 4.7): the row before and the message in, the row after out.

Separate from occurrences, of which workers know nothing here. All times but those of a good-bye are the monitor's: a
worker whose clock is wrong is not lost for that.
"""

from typing import Final

from attrs import evolve

from milvaion_trio.model.history import InstanceRecord, WorkerRecord
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.messages import WorkerHeartbeat, WorkerRegistration

__all__ = ["INTERVALS", "heartbeat_seen", "instance_lost", "is_instance_lost", "registered"]

INTERVALS: Final = 3
"""Heartbeats that may be missing before an instance is lost."""
_DEFAULT_INTERVAL: Final = 30.0
"""Seconds: .NET's default, for registrations that do not tell it (WIRE.md 14)."""


def registered(
    instance: InstanceRecord | None, registration: WorkerRegistration, now: Instant
) -> tuple[WorkerRecord, InstanceRecord]:
    """A registration was read: the group as it tells, and the instance that sent it, alive and without jobs."""
    told = registration.metadata
    worker = WorkerRecord(
        worker_id=registration.worker_id,
        display_name=registration.display_name,
        registered_at=now,
        routing_patterns=registration.routing_patterns,
        job_types=registration.job_types,
        max_parallel_jobs=registration.max_parallel_jobs,
        version=registration.version,
        heartbeat_interval=float(told.heartbeat_interval) if told.heartbeat_interval > 0 else _DEFAULT_INTERVAL,
        is_external=told.is_external,
    )
    return worker, InstanceRecord(
        worker_id=registration.worker_id,
        instance_id=registration.instance_id,
        host_name=registration.host_name or (instance.host_name if instance else None),
        ip_address=registration.ip_address or (instance.ip_address if instance else None),
        last_heartbeat=now,
    )


def heartbeat_seen(instance: InstanceRecord | None, heartbeat: WorkerHeartbeat, now: Instant) -> InstanceRecord:
    """A heartbeat was read: of an unknown instance too, whose registration is then still to come."""
    instance = instance or InstanceRecord(
        worker_id=heartbeat.worker_id, instance_id=heartbeat.instance_id, last_heartbeat=now
    )
    left = instance.stopped_at
    if left is not None and heartbeat.timestamp.utc_ticks <= left.utc_ticks:
        return instance  # sent before its good-bye, and come after it
    return evolve(
        instance,
        current_jobs=0 if heartbeat.is_stopping else heartbeat.current_jobs,
        last_heartbeat=now,
        lost_at=None,
        stopped_at=heartbeat.timestamp if heartbeat.is_stopping else None,
    )


def is_instance_lost(instance: InstanceRecord, worker: WorkerRecord | None, now: Instant) -> bool:
    """Whether it has just been silent for too long; one that said good-bye or is known to be lost is not."""
    if instance.stopped_at is not None or instance.lost_at is not None:
        return False
    interval = _DEFAULT_INTERVAL if worker is None else worker.heartbeat_interval
    return now.utc_ticks - instance.last_heartbeat.utc_ticks > INTERVALS * interval * 10_000_000


def instance_lost(instance: InstanceRecord, now: Instant) -> InstanceRecord:
    """The instance is taken for lost, until its next heartbeat."""
    return evolve(instance, current_jobs=0, lost_at=now)
