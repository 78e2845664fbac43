"""Milvaion's exchanges and queues as the API declares them (WIRE.md 1), for whoever plays the API.

Written out again and not taken from the worker: a worker that declares anything else must fail with 406.
"""

from collections.abc import Mapping
from typing import Final

from attrs import frozen

__all__ = [
    "API_QUEUES",
    "DEAD_LETTER_EXCHANGE",
    "DEAD_LETTER_KEY",
    "EXTERNAL_OCCURRENCES",
    "EXTERNAL_REGISTRATIONS",
    "FAILED_JOBS",
    "HEARTBEATS",
    "JOBS_EXCHANGE",
    "LOGS",
    "REGISTRATIONS",
    "STATUSES",
    "UNBOUND_JOB_QUEUE",
    "UNBOUND_JOB_QUEUE_ARGUMENTS",
    "routing_key",
    "routing_pattern",
]

JOBS_EXCHANGE: Final = "jobs.topic"
"""Topic, durable."""
DEAD_LETTER_EXCHANGE: Final = "dlx_scheduled_jobs"
"""Direct, durable."""
DEAD_LETTER_KEY: Final = "failed_jobs"

STATUSES: Final = "job_status_updates_queue"
LOGS: Final = "worker_logs_queue"
REGISTRATIONS: Final = "worker_registration_queue"
HEARTBEATS: Final = "worker_heartbeat_queue"
FAILED_JOBS: Final = "failed_jobs_queue"
EXTERNAL_REGISTRATIONS: Final = "external_job_registration_queue"
EXTERNAL_OCCURRENCES: Final = "external_job_occurrence_queue"

UNBOUND_JOB_QUEUE: Final = "scheduled_jobs_queue"
"""A leftover that the API declares and nobody uses."""
UNBOUND_JOB_QUEUE_ARGUMENTS: Final[Mapping[str, tuple[str, object]]] = {
    "x-dead-letter-exchange": ("S", DEAD_LETTER_EXCHANGE),
    "x-dead-letter-routing-key": ("S", DEAD_LETTER_KEY),
}


@frozen
class ApiQueue:
    """A queue that the API reads; durable and without arguments."""

    name: str
    prefetch: int
    exchange: str = ""
    """Where workers publish to."""
    key: str = ""


API_QUEUES: Final = {
    queue.name: queue
    for queue in [
        ApiQueue(STATUSES, 10, key=STATUSES),
        ApiQueue(LOGS, 10, key=LOGS),
        ApiQueue(REGISTRATIONS, 10, key=REGISTRATIONS),
        ApiQueue(HEARTBEATS, 500, key=HEARTBEATS),
        ApiQueue(FAILED_JOBS, 1, DEAD_LETTER_EXCHANGE, DEAD_LETTER_KEY),
        ApiQueue(EXTERNAL_REGISTRATIONS, 10, key=EXTERNAL_REGISTRATIONS),
        ApiQueue(EXTERNAL_OCCURRENCES, 20, key=EXTERNAL_OCCURRENCES),
    ]
}


def routing_pattern(worker_id: str, job_name: str) -> str:
    """The pattern of a job without a configured one; for ASCII names."""
    return f"{worker_id}.{job_name[:-3] if job_name.lower().endswith('job') else job_name}.*".lower()


def routing_key(pattern: str) -> str:
    """The key that the dispatcher publishes with."""
    return pattern.replace("*", "job").replace("..", ".")
