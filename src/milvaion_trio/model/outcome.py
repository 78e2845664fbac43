"""How one attempt of a job ended, and why it was told to stop.

`policy.lifecycle` turns an outcome into what is published; the runtime only finds out which one it was.
"""

import enum
from typing import TypeAlias

from attrs import frozen

__all__ = [
    "Cancelled",
    "Completed",
    "Failed",
    "Interrupted",
    "JobResult",
    "Outcome",
    "RetryRequested",
    "Snoozed",
    "StopReason",
    "TimedOut",
]


class StopReason(enum.Enum):
    """Why a running job's scope was cancelled. Recorded before the scope is cancelled; the first one stays."""

    CANCELLED = "cancelled"
    """Somebody asked for it: a cancel signal."""
    TIMEOUT = "timeout"
    """Its time limit passed."""
    SHUTDOWN = "shutdown"
    """The worker is leaving; the job goes back to its queue."""
    LEASE_LOST = "lease-lost"
    """Its exclusive key may be somebody else's from now on; the job goes back to its queue."""


@frozen
class JobResult:
    """What a job may return instead of a plain value, to say success or failure without raising."""

    succeeded: bool
    value: object = None
    message: object = None
    """A text, or what has one."""

    @classmethod
    def success(cls, value: object = None) -> "JobResult":
        """The job did its work; `value` is its result, anything JSON-able."""
        return cls(succeeded=True, value=value)

    @classmethod
    def failure(cls, message: object) -> "JobResult":
        """The job failed; it is retried like one that raised. `message` is a text, or an error that has one."""
        return cls(succeeded=False, message=f"{message}")


@frozen
class Completed:
    """The job returned; `result` is the text that is reported, `None` when it returned nothing."""

    result: str | None = None


@frozen
class Failed:
    """The job raised, returned a failure, or could not be started with its data."""

    error: str
    """The text that is reported (form: WIRE.md 3.1)."""
    error_type: str = "Exception"
    """Short class name, for the log entry."""
    permanent: bool = False


@frozen
class RetryRequested:
    """The job raised `RetryLater`: as `Failed`, but the delay is given."""

    delay: float
    error: str
    error_type: str = "RetryLater"


@frozen
class Snoozed:
    """The job raised `Snooze`: run again after the delay, the attempt does not count."""

    delay: float


@frozen
class Cancelled:
    """A cancel signal stopped the job; `error` is what it raised on its way out, if it raised something."""

    reason: str
    error: str | None = None
    still_runs: bool = False
    """Whether the job was given up instead: its code did not stop, and runs on in its thread, say."""


@frozen
class TimedOut:
    """The time limit stopped the job."""

    limit: float
    """Seconds."""
    elapsed: float
    """Seconds."""
    error: str | None = None
    still_runs: bool = False
    """As of one that was cancelled."""


@frozen
class Interrupted:
    """The shutdown stopped the job, or the loss of its exclusive key: it goes back to its queue.

    Its attempt is not counted, nothing is reported.
    """


Outcome: TypeAlias = Completed | Failed | RetryRequested | Snoozed | Cancelled | TimedOut | Interrupted
