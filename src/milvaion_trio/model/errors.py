"""One tree of errors, named for the cause a user can act on.

Separate because every layer raises or catches some of them.
Messages are built from facts: what happened, which value, what was allowed, what to do.
"""

import signal
from collections.abc import Sequence

__all__ = [
    "BrokerUnreachable",
    "DeliverySettled",
    "InvalidJobData",
    "InvalidMessage",
    "InvalidTransition",
    "JobCancelled",
    "JobNotRegistered",
    "JobProcessDied",
    "LinkLost",
    "LinkRefused",
    "MilvaionError",
    "NoCurrentJob",
    "NoSuchSchedule",
    "NotPublished",
    "PermanentFailure",
    "ReportsLost",
    "RetryLater",
    "SettingsError",
    "Snooze",
    "StoreUnavailable",
    "AlreadyDispatched",
]


class MilvaionError(Exception):
    """Base of every error this package raises on purpose."""


# --- raised by job code to say how it ended -------------------------------------------------------------------------


class PermanentFailure(MilvaionError):
    """Raise it in a job: the job failed and no retry can help. The message goes to the dead letter queue at once."""


class RetryLater(MilvaionError):
    """Raise it in a job: try again after exactly `delay` seconds.

    It counts as an attempt: when the retries are used up, the job has failed.
    """

    def __init__(self, delay: float, reason: str = "") -> None:
        self.delay: float = _positive_delay("RetryLater", delay)
        self.reason = reason
        super().__init__(reason or f"asked to be tried again in {delay:g} s")


class Snooze(MilvaionError):
    """Raise it in a job: run again after `delay` seconds, without counting an attempt."""

    def __init__(self, delay: float) -> None:
        self.delay: float = _positive_delay("Snooze", delay)
        super().__init__(f"asked to be run again in {delay:g} s")


def _positive_delay(name: str, delay: object) -> float:
    if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay < float("inf"):  # also NaN
        raise ValueError(f"{name}: delay is {delay!r}; it must be a finite number of seconds, 0 or more.")
    return float(delay)


class JobCancelled(MilvaionError):
    """Raised in a job that was told to stop: by `JobContext.check_cancelled()`, and anywhere in one in a process."""


class JobProcessDied(MilvaionError):
    """The process of a job with `run="process"` ended before the job did; `exit_code` is below 0 for a signal."""

    def __init__(self, exit_code: int | None) -> None:
        self.exit_code = exit_code
        super().__init__(f"The job's process {_how_it_ended(exit_code)} before the job ended.")


def _how_it_ended(exit_code: int | None) -> str:
    if exit_code is None:
        return "closed its connection to the worker"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:  # e.g. a real-time one
        name = f"signal {-exit_code}"
    hint = "; the system does that when memory runs out," if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"


# --- about jobs and their data --------------------------------------------------------------------------------------


class InvalidJobData(MilvaionError):
    """The data of a message does not fit the job's parameter; `problems` holds one line per mistake, with its path."""

    def __init__(self, job_name: str, problems: Sequence[str]) -> None:
        self.job_name = job_name
        self.problems: tuple[str, ...] = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"The data of this {job_name} message does not fit the job:{lines}")


class JobNotRegistered(MilvaionError):
    """A message or a call names a job this worker does not have."""

    def __init__(self, job_name: str, known: Sequence[str]) -> None:
        self.job_name = job_name
        self.known: tuple[str, ...] = tuple(known)
        names = ", ".join(sorted(known)) or "none"
        # Messages may ask for a name of a megabyte; no job has one of more than 200 characters (WIRE.md 1.3).
        shown = repr(job_name) if len(job_name) <= 200 else f"{job_name[:200]!r}..."
        super().__init__(f"This worker knows no job called {shown}. It knows: {names}.")


class NoSuchSchedule(MilvaionError):
    """A call names a schedule that nobody has written down; `known` are those that somebody has."""

    def __init__(self, schedule_id: str, known: Sequence[str], near: str | None = None) -> None:
        self.schedule_id = schedule_id
        self.known: tuple[str, ...] = tuple(known)
        names = ", ".join(map(repr, self.known[:20])) + (", …" if len(self.known) > 20 else "")
        hint = f"Did you mean {near!r}?" if near is not None else f"There are {names}." if names else "There are none."
        super().__init__(f"There is no schedule called {schedule_id!r}. {hint}")


class NoCurrentJob(MilvaionError):
    """`current_job()` was called where no job is running."""

    def __init__(self) -> None:
        super().__init__("current_job() was called outside a running job; it works in a job and in what the job calls.")


# --- about settings and start ---------------------------------------------------------------------------------------


class SettingsError(MilvaionError):
    """Code or settings contradict themselves; `problems` holds one line per mistake. Nothing was started."""

    def __init__(self, problems: Sequence[str], warnings: Sequence[str] = ()) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        self.warnings: tuple[str, ...] = tuple(warnings)
        """What else was found, which alone would not have been in the way."""
        count = len(self.problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(
            f"{count} problem{'s' if count != 1 else ''} in the settings or jobs, nothing was started:{lines}"
        )


class BrokerUnreachable(MilvaionError):
    """No broker answered in time, or it refused (`is_refusal`); `limit` names what says how long it was tried."""

    def __init__(
        self,
        broker: str,
        seconds: float,
        last_error: str,
        limit: str = "Worker:StartupConnectionTimeoutSeconds",
        *,
        is_refusal: bool = False,
    ) -> None:
        self.broker = broker
        self.seconds = seconds
        self.last_error = last_error
        self.is_refusal = is_refusal
        if is_refusal:  # the broker said all that there is to say
            super().__init__(f"{last_error}{'' if last_error.endswith(('.', '?')) else '.'}")
            return
        # Transports name the setting to look at where they know it, a user that was refused for instance.
        names_setting = "Worker:RabbitMQ:" in last_error
        super().__init__(
            f"Could not reach {broker} within {seconds:g} s; the last attempt ended with: "
            f"{last_error}{'' if last_error.endswith(('.', '?')) else '.'} "
            f"{'' if names_setting else 'Does it run where Worker:RabbitMQ:Host and Worker:RabbitMQ:Port say? '}"
            f"{limit} allows more time (0: for ever)."
        )

    def append(self, sentence: str) -> None:
        """Say more, by whoever knows more: where the settings come from, say."""
        super().__init__(f"{self}{sentence}")


# --- about links and messages ---------------------------------------------------------------------------------------


class LinkLost(MilvaionError):
    """The connection to the broker is gone. Unsettled deliveries come back, unconfirmed publishes are sent again.

    Also raised for the connection that carries cancel signals: those sent in the last `silent_for` seconds may not
    have been heard.
    """

    def __init__(self, why: str = "the connection to the broker was lost", silent_for: float = 0.0) -> None:
        super().__init__(why)
        self.silent_for = silent_for


class LinkRefused(LinkLost):
    """Somebody answered and refused: a wrong password, no such virtual host, something that is no broker.

    Trying again changes nothing until a person puts it right.
    """


class ReportsLost(MilvaionError):
    """The outbox file became unreadable while reports of this attempt were only there: it has to run again."""


class NotPublished(MilvaionError):
    """The broker did not take a message that a client wanted to publish."""


class DeliverySettled(MilvaionError):
    """A delivery was acked, requeued or rejected twice: a bug, since each delivery has one owner."""


class InvalidMessage(MilvaionError):
    """A message from outside has not the form of WIRE.md; `problem` says where."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(problem)


class InvalidTransition(MilvaionError):
    """An event that the occurrence's state does not allow (model/occurrence.py has the table)."""


class StoreUnavailable(MilvaionError):
    """The history cannot be read or written: the database is away, its disk is full, or its file is damaged."""


class AlreadyDispatched(MilvaionError):
    """Not enqueued: an occurrence with the same `unique` key waits or runs. `occurrence_id` is that one's."""

    def __init__(self, key: str, occurrence_id: str) -> None:
        super().__init__(
            f"Nothing was enqueued: occurrence {occurrence_id} has the unique key {key!r} and waits or runs. "
            'Enqueue with on_duplicate="merge" to get its id instead of this error.'
        )
        self.key = key
        self.occurrence_id = occurrence_id
