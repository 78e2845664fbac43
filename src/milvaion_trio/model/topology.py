"""Names of exchanges and queues, and how a job's queue is named after its pattern (WIRE.md 1).

Any other flag or argument than these makes the second declarer fail with 406 and lose its channel.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = [
    "JOBS_EXCHANGE",
    "DEAD_LETTER_EXCHANGE",
    "DEAD_LETTER_KEY",
    "FAILED_QUEUE",
    "STATUS_QUEUE",
    "LOGS_QUEUE",
    "REGISTRATION_QUEUE",
    "HEARTBEAT_QUEUE",
    "EXTERNAL_REGISTRATION_QUEUE",
    "EXTERNAL_OCCURRENCE_QUEUE",
    "EXTERNAL_PATTERN",
    "QUARANTINE_QUEUE",
    "QUARANTINE_QUEUE_ARGUMENTS",
    "DISPATCHES_QUEUE",
    "DISPATCHES_QUEUE_ARGUMENTS",
    "HOP_QUEUE",
    "HOP_QUEUE_ARGUMENTS",
    "JOB_QUEUE_PREFIX",
    "JOB_QUEUE_ARGUMENTS",
    "routing_pattern",
    "queue_name",
    "routing_key",
]

JOBS_EXCHANGE: Final = "jobs.topic"
"""Topic exchange; each job queue is bound with its routing pattern."""

DEAD_LETTER_EXCHANGE: Final = "dlx_scheduled_jobs"
"""Direct exchange."""
DEAD_LETTER_KEY: Final = "failed_jobs"
FAILED_QUEUE: Final = "failed_jobs_queue"

STATUS_QUEUE: Final = "job_status_updates_queue"
LOGS_QUEUE: Final = "worker_logs_queue"
REGISTRATION_QUEUE: Final = "worker_registration_queue"
HEARTBEAT_QUEUE: Final = "worker_heartbeat_queue"

EXTERNAL_REGISTRATION_QUEUE: Final = "external_job_registration_queue"
EXTERNAL_OCCURRENCE_QUEUE: Final = "external_job_occurrence_queue"
EXTERNAL_PATTERN: Final = "external.job.*"
"""The pattern of every job of an external scheduler; nothing consumes it."""

QUARANTINE_QUEUE: Final = "mtrio.quarantine.v1"
"""Ours: messages without a usable id. Dead-lettered as they are, they would hang the API's handler (WIRE.md 4.5)."""
QUARANTINE_QUEUE_ARGUMENTS: Final[Mapping[str, str | int]] = MappingProxyType(
    {"x-queue-type": "quorum", "x-message-ttl": 1_209_600_000, "x-max-length": 10_000, "x-overflow": "drop-head"}
)
"""Two weeks to look, and never a full disk (RELIABILITY.md 3.2)."""

HOP_QUEUE: Final = "mtrio.hop.v1"
"""Ours: messages on their way through a long delay, which any of our workers sends on (RELIABILITY.md 3.3)."""
HOP_QUEUE_ARGUMENTS: Final[Mapping[str, str | int]] = MappingProxyType({"x-queue-type": "quorum"})

DISPATCHES_QUEUE: Final = "mtrio.dispatches.v1"
"""Ours: a copy of every dispatch to a worker that has registered, which a monitor reads."""
DISPATCHES_QUEUE_ARGUMENTS: Final[Mapping[str, str | int]] = MappingProxyType(
    {
        "x-queue-type": "classic",
        "x-max-length": 100_000,
        "x-max-length-bytes": 268_435_456,
        "x-overflow": "drop-head",
        "x-expires": 604_800_000,
    }
)
"""Of a monitor that is gone it keeps 256 MB at most, and after a week nothing. What is dropped is a copy."""

JOB_QUEUE_PREFIX: Final = "scheduled_jobs_queue."

JOB_QUEUE_ARGUMENTS: Final[Mapping[str, str | int]] = MappingProxyType(
    {"x-dead-letter-exchange": DEAD_LETTER_EXCHANGE, "x-dead-letter-routing-key": DEAD_LETTER_KEY}
)
"""Of every job queue; all other queues of Milvaion have no arguments."""


def routing_pattern(worker_id: str, job_name: str) -> str:
    """The pattern of a job that has none configured, e.g. `report-worker.generatereport.*`."""
    bare = job_name[:-3] if _lower(job_name).endswith("job") else job_name
    return f"{_lower(worker_id)}.{_lower(bare)}.*"


def queue_name(pattern: str) -> str:
    """The queue of all jobs with this pattern, e.g. `scheduled_jobs_queue.report-worker.generatereport.wildcard`."""
    return JOB_QUEUE_PREFIX + pattern.replace("*", "wildcard").replace("#", "all")


def routing_key(pattern: str) -> str:
    """The key that a dispatcher publishes with, e.g. `report-worker.generatereport.job`. `#` stays as it is."""
    return pattern.replace("*", "job").replace("..", ".")


def _lower(text: str) -> str:
    """Lower case as .NET's invariant culture has it: each character alone, and those that would become two stay.

    A .NET worker and ours must arrive at the same queue name for any job name.
    """
    if text.isascii():
        return text.lower()
    return "".join(lower if len(lower := letter.lower()) == 1 else letter for letter in text)
