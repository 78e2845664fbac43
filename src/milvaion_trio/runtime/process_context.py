"""`JobContext` as a job in a process sees it: no Trio is there, so what is Trio's is refused with a word why."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NoReturn, cast

import trio
from attrs import define

from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.messages import JobMessage
from milvaion_trio.model.outcome import StopReason
from milvaion_trio.runtime.context import JobContext, LogSink
from milvaion_trio.runtime.process_frames import Request
from milvaion_trio.runtime.registry import RegisteredJob

if TYPE_CHECKING:
    from milvaion_trio.runtime.run import Run

__all__ = ["ProcessContext", "RemoteRun"]


@define(eq=False)
class RemoteRun:
    """A run, as far as the process knows it."""

    request: Request
    told_to_stop: bool = False
    found: RegisteredJob | None = None
    """Once its module is imported."""

    @property
    def registered(self) -> RegisteredJob:
        """The job."""
        if self.found is None:
            raise AssertionError("the job is found before there is a context")
        return self.found

    @property
    def occurrence_id(self) -> OccurrenceId:
        """The execution that this attempt belongs to."""
        return self.request.attempt.occurrence_id

    @property
    def attempt(self) -> AttemptKey:
        """Which attempt it is."""
        return self.request.attempt

    @property
    def job(self) -> JobMessage:
        """The whole message."""
        return self.request.job

    @property
    def run_number(self) -> int:
        """How often the attempt was started."""
        return self.request.run_number

    @property
    def fencing_token(self) -> int | None:
        """Of its exclusive key."""
        return self.request.fencing_token


class ProcessContext(JobContext):
    """One attempt of a job, seen from inside its process."""

    __slots__ = ("_remote",)

    def __init__(self, run: RemoteRun, sink: LogSink) -> None:
        super().__init__(cast("Run", run), sink, cleanup_timeout=0.0)
        self._remote = run

    @property
    def max_retries(self) -> int:
        """How many retries this job has."""
        return self._remote.request.max_retries

    @property
    def deadline(self) -> float | None:
        """When the time limit ends, on the clock of `time.monotonic()`, or `None` without a limit."""
        return self._remote.request.deadline

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """Raises `RuntimeError`."""
        _refuse("cancel_scope", "return or raise to end the job")

    @property
    def cancel_reason(self) -> StopReason | None:
        """Raises `RuntimeError`."""
        _refuse("cancel_reason", "catch JobCancelled, or call ctx.check_cancelled()")

    @asynccontextmanager
    async def cleanup(self, budget: float | None = None) -> AsyncIterator[None]:
        """Raises `RuntimeError`, cancelled or not."""
        _refuse("cleanup", "what is in `finally` has the worker's cleanup_timeout before the process is killed")
        yield


def _refuse(name: str, instead: str) -> NoReturn:
    raise RuntimeError(f'ctx.{name} is for jobs in Trio; in a job with run="process", {instead}.')
