"""A runtime for background jobs on Trio.

General layout, from the bottom up; imports point down only:

    model      values: messages, wire, states, settings        (no I/O, no clock)
    policy     decisions: admit, conclude, retry, bind data    (no I/O, no clock)
    ports      what the runtime needs from the world
    broker, signals, outbox    adapters for these needs
    runtime    the nursery tree: intake, executor, reporting, shutdown
    worker     what you build and serve; client, what you enqueue with
    embed      the same in programs that run asyncio
    testing, cli    what you test with, and what you type
"""

from typing import TYPE_CHECKING

from milvaion_trio.client import Client as Client
from milvaion_trio.embed.asyncio_client import AsyncioClient as AsyncioClient
from milvaion_trio.model.errors import BrokerUnreachable as BrokerUnreachable
from milvaion_trio.model.errors import InvalidJobData as InvalidJobData
from milvaion_trio.model.errors import JobCancelled as JobCancelled
from milvaion_trio.model.errors import JobNotRegistered as JobNotRegistered
from milvaion_trio.model.errors import LinkLost as LinkLost
from milvaion_trio.model.errors import MilvaionError as MilvaionError
from milvaion_trio.model.errors import NoCurrentJob as NoCurrentJob
from milvaion_trio.model.errors import NoSuchSchedule as NoSuchSchedule
from milvaion_trio.model.errors import NotPublished as NotPublished
from milvaion_trio.model.errors import PermanentFailure as PermanentFailure
from milvaion_trio.model.errors import RetryLater as RetryLater
from milvaion_trio.model.errors import SettingsError as SettingsError
from milvaion_trio.model.errors import Snooze as Snooze
from milvaion_trio.model.outcome import JobResult as JobResult
from milvaion_trio.model.outcome import StopReason as StopReason
from milvaion_trio.model.settings import JobSettings as JobSettings
from milvaion_trio.model.settings import WorkerSettings as WorkerSettings
from milvaion_trio.runtime.context import JobContext as JobContext
from milvaion_trio.runtime.context import current_job as current_job
from milvaion_trio.runtime.definition import Job as Job
from milvaion_trio.runtime.definition import JobDefinition as JobDefinition
from milvaion_trio.runtime.definition import job as job
from milvaion_trio.worker import Worker as Worker

if TYPE_CHECKING:
    from milvaion_trio.external.scheduler import ExternalScheduler as ExternalScheduler

__all__ = [
    "Worker",
    "job",
    "Job",
    "JobDefinition",
    "JobContext",
    "current_job",
    "JobResult",
    "PermanentFailure",
    "RetryLater",
    "Snooze",
    "StopReason",
    "Client",
    "AsyncioClient",
    "ExternalScheduler",
    "WorkerSettings",
    "JobSettings",
    "MilvaionError",
    "SettingsError",
    "BrokerUnreachable",
    "InvalidJobData",
    "JobCancelled",
    "JobNotRegistered",
    "LinkLost",
    "NoCurrentJob",
    "NoSuchSchedule",
    "NotPublished",
]


def __getattr__(name: str) -> object:
    """What only some programs use is imported when it is."""
    if name == "ExternalScheduler":
        from milvaion_trio.external.scheduler import ExternalScheduler

        return ExternalScheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
