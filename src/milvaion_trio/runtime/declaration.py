"""What a worker declares: its queues to the broker, and itself to the Milvaion API."""

import os
import platform
import socket
from collections.abc import Iterator, Sequence

from milvaion_trio.model import topology
from milvaion_trio.model.identity import Identity
from milvaion_trio.model.json_text import MAX_DEPTH
from milvaion_trio.model.messages import JobConfig, WorkerMetadata, WorkerRegistration
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.ports import Binding, Exchange, Queue, Topology
from milvaion_trio.runtime.registry import RegisteredJob

__all__ = ["cut_schemas", "registration_of", "topology_of"]

REPORT_QUEUES = (
    topology.STATUS_QUEUE,
    topology.LOGS_QUEUE,
    topology.REGISTRATION_QUEUE,
    topology.HEARTBEAT_QUEUE,
    topology.FAILED_QUEUE,
)

MOST_CUTS_TOLD = 3


def topology_of(jobs: Sequence[RegisteredJob]) -> Topology:
    """Everything these jobs consume from and everything a worker publishes to (WIRE.md 1)."""
    return Topology(
        exchanges=(Exchange(topology.JOBS_EXCHANGE, "topic"), Exchange(topology.DEAD_LETTER_EXCHANGE, "direct")),
        queues=(
            *(Queue(name) for name in REPORT_QUEUES),
            Queue(topology.QUARANTINE_QUEUE, topology.QUARANTINE_QUEUE_ARGUMENTS),
            Queue(topology.HOP_QUEUE, topology.HOP_QUEUE_ARGUMENTS),
            *(Queue(job.queue, topology.JOB_QUEUE_ARGUMENTS) for job in jobs),
        ),
        bindings=(
            Binding(topology.DEAD_LETTER_EXCHANGE, topology.FAILED_QUEUE, topology.DEAD_LETTER_KEY),
            *(Binding(topology.JOBS_EXCHANGE, job.queue, pattern) for job in jobs for pattern in job.patterns),
        ),
    )


def registration_of(
    identity: Identity, jobs: Sequence[RegisteredJob], settings: WorkerSettings, version: str
) -> WorkerRegistration:
    """The worker as the API's registry wants to know it (WIRE.md 3.6)."""
    return WorkerRegistration(
        worker_id=identity.worker_id,
        instance_id=identity.instance_id,
        display_name=f"{identity.worker_id} ({identity.instance_id})",
        host_name=socket.gethostname(),
        ip_address=_ip_address(),
        routing_patterns={job.name: job.patterns[0] for job in jobs},
        job_data_definitions={job.name: job.data_schema.text for job in jobs if job.data_schema is not None},
        job_result_definitions={job.name: job.result_schema.text for job in jobs if job.result_schema is not None},
        job_types=tuple(job.name for job in jobs),
        max_parallel_jobs=settings.max_parallel_jobs,
        version=version,
        metadata=WorkerMetadata(
            processor_count=os.cpu_count() or 1,
            os_version=platform.platform(),
            runtime_version=f"Python {platform.python_version()}",
            # 0 would have the instance dropped at every sweep of the API.
            heartbeat_interval=max(1, round(settings.heartbeat.interval)),
            job_configs=tuple(
                JobConfig(
                    job_type=job.name,
                    consumer_id=job.consumer_id,
                    max_parallel_jobs=job.effective.max_parallel,
                    execution_timeout_seconds=round(job.effective.timeout or 0),
                )
                for job in jobs
            ),
        ),
    )


def cut_schemas(jobs: Sequence[RegisteredJob]) -> Iterator[str]:
    """A sentence per registered schema that ends although its type goes on: recursive types have no flat one."""
    for job in jobs:
        for what, schema in (("data", job.data_schema), ("result", job.result_schema)):
            if schema is not None and schema.cuts:
                more = len(schema.cuts) - MOST_CUTS_TOLD
                places = ", ".join(schema.cuts[:MOST_CUTS_TOLD]) + (f" and {more} more places" if more > 0 else "")
                yield (
                    f"{job.name}: the schema of its {what} ends at {places}. The dashboard shows no form for what is "
                    f"inside; the {what} itself may go on, {MAX_DEPTH} levels deep."
                )


def _ip_address() -> str:
    """The address of the interface that leads outside, as far as the kernel's routes say; nothing is sent."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1 (RFC 5737); connecting UDP only looks up the route
            return str(probe.getsockname()[0])
    except OSError:
        return "Unknown"
