"""The executor: runs one attempt and finds out how it ended.

A pipeline over one `Run`: bind the data, get what is provided, run in the scope, classify. No step knows the broker.
The barrier around job code is complete: whatever a job raises fails that job alone (RELIABILITY.md F23).
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

import trio
from attrs import frozen

from milvaion_trio.model.error_text import error_text
from milvaion_trio.model.errors import JobCancelled
from milvaion_trio.model.exception_groups import leaves
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.messages import LogLevel
from milvaion_trio.model.outcome import Cancelled, Failed, Interrupted, Outcome, StopReason, TimedOut
from milvaion_trio.policy.retry import RetryPolicy
from milvaion_trio.runtime.context import JobContext, LogSink, enter
from milvaion_trio.runtime.definition import RunMode
from milvaion_trio.runtime.endings import OUR_FRAMES, failed, returned
from milvaion_trio.runtime.places import Places
from milvaion_trio.runtime.processes import RaisedInProcess
from milvaion_trio.runtime.providers import Providers
from milvaion_trio.runtime.run import Run
from milvaion_trio.runtime.threads import run_in_thread

__all__ = ["Executor"]


@frozen
class Executor:
    """Runs attempts; shared by all jobs of a worker."""

    providers: Providers
    sink: LogSink
    places: Places
    cleanup_timeout: float

    # A Ctrl-C of the host program must reach its main task, not end up as the failure of whichever job was running.
    @trio.lowlevel.enable_ki_protection
    async def execute(self, run: Run, first: Callable[[AttemptKey], Awaitable[None]] | None = None) -> Outcome:
        """Run the job and return its outcome; raises only when the tree around the job is itself cancelled.

        `first` is awaited before any code of the job runs; a stop of the job ends it, and its time begins behind it.
        """
        value: object = None
        raised: BaseException | None = None
        try:
            with run.scope:
                if first is not None:
                    await first(run.attempt)
                    run.begin_time()
                value = await self._call(run)
        except BaseException as error:  # noqa: ASYNC103  # the barrier; what comes from outside is raised again
            if _from_outside(error):
                raise
            raised = error
        if raised is None and run.scope.cancelled_caught:
            raised = _CAUGHT
        return self._classify(run, value, raised)

    async def _call(self, run: Run) -> object:
        context = JobContext(run, self.sink, cleanup_timeout=self.cleanup_timeout)
        enter(context)
        if run.registered.definition.mode is RunMode.PROCESS:  # everything else is done there
            return await self.places.processes.run(run)
        arguments: dict[str, object] = {}
        parameters = run.registered.parameters
        if run.registered.reader is not None and parameters.data is not None:
            data = run.registered.reader.read(run.job.job_data)
            context.bind_data(data)
            arguments[parameters.data.name] = data
        if parameters.context is not None:
            arguments[parameters.context] = context
        needed = run.registered.needed
        if not needed:
            return await self._started(run, arguments)
        async with self.providers.job_scope(
            context, needed, cleanup_timeout=self.cleanup_timeout, must_end_by=lambda: run.must_end_by
        ) as provided:
            return await self._started(run, {**arguments, **provided})

    def _started(self, run: Run, arguments: Mapping[str, object]) -> Awaitable[object]:
        """The job, to be awaited. No coroutine itself: the frame would cost each running job half a kilobyte."""
        function = run.registered.callable_for(arguments)
        mode = run.registered.definition.mode
        if mode is RunMode.TASK:
            return cast("Callable[[], Awaitable[object]]", function)()  # checked at start
        if mode is RunMode.ASYNCIO:
            return self.places.asyncio.run(run, function)
        return run_in_thread(run, function, limiter=self.places.threads, grace=self.cleanup_timeout)

    def _classify(self, run: Run, value: object, raised: BaseException | None) -> Outcome:
        """The outcome rules of DESIGN.md 5, in their order."""
        if raised is None:
            in_process = run.registered.definition.mode is RunMode.PROCESS
            return cast("Outcome", value) if in_process else self._returned(run, value)
        reason = run.stop_reason
        if reason is not None:
            text = _text_after_stop(raised)
            match reason:
                case StopReason.CANCELLED:
                    return Cancelled(run.stop_text, text, run.left_behind)
                case StopReason.TIMEOUT:
                    elapsed = trio.current_time() - run.started_clock
                    return TimedOut(run.time_limit or 0.0, elapsed, text, run.left_behind)
                case StopReason.SHUTDOWN | StopReason.LEASE_LOST:
                    return Interrupted()
        return _failed(raised, run.registered.effective.retry)

    def _returned(self, run: Run, value: object) -> Outcome:
        return returned(value, lambda text: self.sink.log(run, LogLevel.WARNING, text, None, category="UserDefined"))


class _ScopeCancelled(BaseException):
    """Stands for the cancellation that the job's own scope caught."""


_CAUGHT = _ScopeCancelled()


def _failed(raised: BaseException, policy: RetryPolicy) -> Outcome:
    if isinstance(raised, _ScopeCancelled):
        text = "Type: Cancelled\nMessage: the job cancelled its own scope, so it has no result\nStackTrace: \n"
        return Failed(text, "Cancelled")
    return raised.raised.outcome_by(policy) if isinstance(raised, RaisedInProcess) else failed(raised, policy)


def _text_after_stop(raised: BaseException) -> str | None:
    """What the job raised on its way out; `None` when that was only its way to obey."""
    if isinstance(raised, RaisedInProcess):
        return None if raised.raised.because_told else raised.raised.text
    if isinstance(raised, _ScopeCancelled | JobCancelled):
        return None
    return error_text(raised, skip_frames_in=OUR_FRAMES, without=(trio.Cancelled,))


def _from_outside(error: BaseException) -> bool:
    """Whether this is the cancellation of the tree around the job, and not something the job raised.

    `Cancelled` that reaches us while nothing around us is cancelled was leaked by job code: that is its failure.
    """
    return trio.current_effective_deadline() == -math.inf and all(
        isinstance(leaf, trio.Cancelled) for leaf in leaves(error)
    )
