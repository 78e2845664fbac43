"""`JobContext`: what a job sees of its own run.

Every attribute is read from the run when it is asked for; the context holds no state of its own but the data.
"""

import contextlib
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Protocol, TypeVar, overload

import trio

from milvaion_trio.host import is_on_asyncio
from milvaion_trio.model.errors import InvalidJobData, InvalidMessage, JobCancelled, NoCurrentJob
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.json_text import JsonValue, read
from milvaion_trio.model.messages import JobMessage, LogLevel
from milvaion_trio.model.outcome import StopReason
from milvaion_trio.policy.binding import DataReader
from milvaion_trio.policy.data_values import Misfit, as_it_is, folded
from milvaion_trio.runtime.run import Run

__all__ = ["JobContext", "JobLog", "LogSink", "current_job", "enter"]

T = TypeVar("T")

_UNBOUND = object()

_current: ContextVar["JobContext"] = ContextVar("milvaion_trio_current_job")


class LogSink(Protocol):
    """Where a job's log entries go."""

    def log(
        self, run: Run, level: LogLevel, message: str, data: dict[str, object] | None, *, category: str = "UserCode"
    ) -> None:
        """Take one entry. Never waits, never raises because of what the entry holds."""


class JobLog:
    """The job's own log: its entries are shown with the occurrence, in order, at least once.

    Safe to use from the job's thread too.
    """

    __slots__ = ("_run", "_sink")

    def __init__(self, run: Run, sink: LogSink) -> None:
        self._run = run
        self._sink = sink

    def debug(self, message: str, /, **data: object) -> None:
        """Add an entry of level Debug; `data` is any JSON-able facts."""
        self._sink.log(self._run, LogLevel.DEBUG, message, data or None)

    def info(self, message: str, /, **data: object) -> None:
        """Add an entry of level Information."""
        self._sink.log(self._run, LogLevel.INFORMATION, message, data or None)

    def warning(self, message: str, /, **data: object) -> None:
        """Add an entry of level Warning."""
        self._sink.log(self._run, LogLevel.WARNING, message, data or None)

    def error(self, message: str, /, **data: object) -> None:
        """Add an entry of level Error."""
        self._sink.log(self._run, LogLevel.ERROR, message, data or None)


class JobContext:
    """One attempt of a job, seen from inside."""

    __slots__ = ("_cleanup_timeout", "_data", "_run", "_sink")

    def __init__(self, run: Run, sink: LogSink, *, cleanup_timeout: float) -> None:
        self._run = run
        self._sink = sink
        self._cleanup_timeout = cleanup_timeout
        self._data: object = _UNBOUND

    def bind_data(self, data: object) -> None:
        """Set what `data` shows; the executor calls it once, before the job starts."""
        self._data = data

    @property
    def occurrence_id(self) -> OccurrenceId:
        """The execution this attempt belongs to; the same for all its retries."""
        return self._run.occurrence_id

    @property
    def idempotency_key(self) -> str:
        """A key to make effects happen once: the same for every run and every attempt of this occurrence."""
        return self._run.occurrence_id

    @property
    def job(self) -> JobMessage:
        """The whole message."""
        return self._run.job

    @property
    def attempt(self) -> int:
        """1 for the first try, 2 for the first retry, and so on."""
        return self._run.attempt.retry_count + 1

    @property
    def max_retries(self) -> int:
        """How many retries this job has."""
        return self._run.registered.effective.retry.max_retries

    @property
    def run_number(self) -> int:
        """How often this attempt was started, as far as this worker can tell; above 1 after a redelivery."""
        return self._run.run_number

    @property
    def fencing_token(self) -> int | None:
        """A number by which others can tell this run from an earlier holder of its exclusive key; `None` without a key.

        Of one key, a later run always has a larger one. Hand it to what the key protects, and have it refuse smaller
        ones: so it is safe also from a run that was stopped for long and does not know yet that its lease has ended.
        """
        return self._run.fencing_token

    @property
    def deadline(self) -> float | None:
        """When the time limit ends, on Trio's clock, or `None` without a limit."""
        return self._run.deadline

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The scope the job runs in. Cancelling it yourself counts as a failure: return or raise instead."""
        return self._run.scope

    @property
    def cancel_reason(self) -> StopReason | None:
        """Why the job was told to stop, or `None` while it was not."""
        return self._run.stop_reason

    @property
    def data(self) -> object:
        """The job's data: as bound to its parameter, else the decoded JSON."""
        if self._data is _UNBOUND:
            self._data = self._plain(self._decoded(), "$")
        return self._data

    @overload
    def get_data(self, key_or_type: str, default: object = ...) -> object: ...
    @overload
    def get_data(self, key_or_type: type[T]) -> T: ...
    def get_data(self, key_or_type: str | type[T], default: object = None) -> object:
        """One member of the data by name (case and `_` do not matter), or the whole data as a type.

        Raises `InvalidJobData` when the data does not fit the type; an absent member gives `default`.
        """
        if isinstance(key_or_type, str):
            value = self._decoded()
            if not isinstance(value, dict):
                return default
            wanted = folded(key_or_type)
            found = ((name, member) for name, member in value.items() if folded(name) == wanted)
            return next((self._plain(member, f"$.{name}") for name, member in found), default)
        return DataReader.for_type(self._run.registered.name, key_or_type).read(self._run.job.job_data)

    @property
    def log(self) -> JobLog:
        """The job's log."""
        return JobLog(self._run, self._sink)

    def progress(self, fraction: float, message: str = "") -> None:
        """Tell how far the job is, from 0 to 1. It becomes a log entry with data."""
        self._sink.log(
            self._run,
            LogLevel.INFORMATION,
            message or f"{min(max(fraction, 0.0), 1.0):.0%} done",
            {"Progress": min(max(fraction, 0.0), 1.0)},
        )

    @contextlib.asynccontextmanager
    async def cleanup(self, budget: float | None = None) -> AsyncIterator[None]:
        """Time to clean up although the job was cancelled: a shielded scope of `budget` seconds.

        Capped by the worker's `cleanup_timeout`, which is also the default. All blocks together get no more than that
        when the job's exclusive key was lost.
        When the budget ends, the block is cancelled. Raises `RuntimeError` in asyncio code, which needs no shield.
        """
        if is_on_asyncio():
            raise RuntimeError(
                'ctx.cleanup() is for jobs in Trio. With run="asyncio" a job is cancelled once: what it awaits in '
                "`finally` runs. Limit it with `async with asyncio.timeout(seconds):`."
            )
        seconds = self._cleanup_timeout if budget is None else min(budget, self._cleanup_timeout)
        deadline = min(trio.current_time() + seconds, self._run.must_end_by)
        with trio.CancelScope(shield=True, deadline=deadline):
            yield

    def check_cancelled(self) -> None:
        """Raise `JobCancelled` if the job was told to stop. For code that Trio cannot interrupt, as in threads."""
        if self._run.told_to_stop:
            raise JobCancelled("the job was told to stop")

    def _decoded(self) -> JsonValue:
        text = self._run.job.job_data
        if not text:
            return None
        try:
            return read(text, keep_digits=True)
        except InvalidMessage as error:
            raise InvalidJobData(self._run.registered.name, [error.problem]) from error

    def _plain(self, value: JsonValue, path: str) -> object:
        try:
            return as_it_is(value)
        except Misfit as misfit:
            raise InvalidJobData(self._run.registered.name, [f"{path}: {misfit}"]) from None


def current_job() -> JobContext:
    """The context of the job that calls this, also from code deep inside it and from its thread.

    Raises `NoCurrentJob` outside a job.
    """
    try:
        return _current.get()
    except LookupError:
        raise NoCurrentJob from None


def enter(context: JobContext) -> None:
    """Make the context the current one of this task, and of the threads it starts."""
    _current.set(context)
