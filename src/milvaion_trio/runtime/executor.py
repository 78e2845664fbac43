"""The executor: runs one attempt and finds out how it ended.

A pipeline over one `Run`: bind the data, get what is provided, run in the scope, classify. No step knows the broker.
The barrier around job code is complete: whatever a job raises fails that job alone (RELIABILITY.md F23).
"""

import math
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

import trio
from attrs import frozen

from milvaion_trio.model.error_text import error_text, error_type
from milvaion_trio.model.errors import InvalidJobData, JobCancelled, PermanentFailure, RetryLater, Snooze
from milvaion_trio.model.exception_groups import leaves
from milvaion_trio.model.json_text import MAX_DEPTH, JsonValue, write
from milvaion_trio.model.jsonable import jsonable
from milvaion_trio.model.messages import LogLevel
from milvaion_trio.model.outcome import (
    Cancelled,
    Completed,
    Failed,
    Interrupted,
    JobResult,
    Outcome,
    RetryRequested,
    Snoozed,
    StopReason,
    TimedOut,
)
from milvaion_trio.model.sanitise import clean_json
from milvaion_trio.policy.retry import RetryPolicy
from milvaion_trio.runtime.context import JobContext, LogSink, enter
from milvaion_trio.runtime.definition import RunMode
from milvaion_trio.runtime.providers import Providers
from milvaion_trio.runtime.run import Run
from milvaion_trio.runtime.threads import run_in_thread

__all__ = ["Executor"]


@frozen
class Executor:
    """Runs attempts; shared by all jobs of a worker."""

    providers: Providers
    sink: LogSink
    threads: trio.CapacityLimiter
    cleanup_timeout: float

    # A Ctrl-C of the host program must reach its main task, not end up as the failure of whichever job was running.
    @trio.lowlevel.enable_ki_protection
    async def execute(self, run: Run) -> Outcome:
        """Run the job and return its outcome; raises only when the tree around the job is itself cancelled."""
        value: object = None
        raised: BaseException | None = None
        try:
            with run.scope:
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
        async with self.providers.job_scope(context, needed, cleanup_timeout=self.cleanup_timeout) as provided:
            return await self._started(run, {**arguments, **provided})

    def _started(self, run: Run, arguments: Mapping[str, object]) -> Awaitable[object]:
        """The job, to be awaited. No coroutine itself: the frame would cost each running job half a kilobyte."""
        function = run.registered.callable_for(arguments)
        if run.registered.definition.mode is RunMode.TASK:
            return cast("Callable[[], Awaitable[object]]", function)()  # checked at start
        return run_in_thread(run, function, limiter=self.threads, grace=self.cleanup_timeout)

    def _classify(self, run: Run, value: object, raised: BaseException | None) -> Outcome:
        """The outcome rules of DESIGN.md 5, in their order."""
        if raised is None:
            return self._returned(run, value)
        reason = run.stop_reason
        if reason is not None:
            text = (
                None
                if isinstance(raised, _ScopeCancelled | JobCancelled)
                else error_text(raised, skip_frames_in=_HERE, without=(trio.Cancelled,))
            )
            match reason:
                case StopReason.CANCELLED:
                    return Cancelled(run.stop_text, text)
                case StopReason.TIMEOUT:
                    return TimedOut(run.time_limit or 0.0, trio.current_time() - run.started_clock, text)
                case StopReason.SHUTDOWN:
                    return Interrupted()
        return _failed(raised, run.registered.effective.retry)

    def _returned(self, run: Run, value: object) -> Outcome:
        while isinstance(value, JobResult):
            if not value.succeeded:
                message = value.message or "the job returned JobResult.failure() without a message"
                return Failed(message if isinstance(message, str) else _safe_repr(message), "JobResult")
            value = value.value
        if value is None:
            return Completed(None)
        if isinstance(value, str):
            return Completed(value)
        try:
            return Completed(_json_text(jsonable(value)))
        except Exception as error:  # a property of the returned object may raise anything
            # The work is done, so failing it now would only repeat it. Say what happened and what was sent instead.
            kind = type(value).__name__
            self.sink.log(
                run,
                LogLevel.WARNING,
                f"The job returned a {kind}, which has no JSON form ({error}); its repr was reported instead. "
                "Return None, text, numbers, lists, dicts, attrs classes, dataclasses or JobResult.",
                None,
                category="UserDefined",
            )
            return Completed(_safe_repr(value))


class _ScopeCancelled(BaseException):
    """Stands for the cancellation that the job's own scope caught."""


_CAUGHT = _ScopeCancelled()


def _failed(raised: BaseException, policy: RetryPolicy) -> Outcome:
    if isinstance(raised, _ScopeCancelled):
        text = "Type: Cancelled\nMessage: the job cancelled its own scope, so it has no result\nStackTrace: \n"
        return Failed(text, "Cancelled")
    # A nursery in the job wraps what its children raise; a request inside a group is still a request.
    inner = tuple(leaves(raised))
    only = inner[0] if len(inner) == 1 else raised
    if isinstance(only, Snooze):
        return Snoozed(only.delay)
    text = error_text(raised if len(inner) > 1 else only, skip_frames_in=_HERE)
    if isinstance(only, RetryLater):
        return RetryRequested(only.delay, text, error_type(only))
    permanent = any(isinstance(leaf, PermanentFailure | InvalidJobData) or policy.forbids(leaf) for leaf in inner)
    return Failed(text, error_type(only), permanent=permanent)


def _from_outside(error: BaseException) -> bool:
    """Whether this is the cancellation of the tree around the job, and not something the job raised.

    `Cancelled` that reaches us while nothing around us is cancelled was leaked by job code: that is its failure.
    """
    return trio.current_effective_deadline() == -math.inf and all(
        isinstance(leaf, trio.Cancelled) for leaf in leaves(error)
    )


def _json_text(value: JsonValue) -> str:
    text = write(value)
    # A workflow copies parts of a result into the data of its next job, and no jsonb column takes this escape: a
    # worker that dead-letters that job would hang the API (WIRE.md 4.5, 12.1).
    return write(clean_json(value, depth=MAX_DEPTH)) if "\\u0000" in text else text


def _safe_repr(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"


_PACKAGE = os.path.dirname(os.path.dirname(__file__))
_HERE = (os.path.join(_PACKAGE, "runtime"), os.path.join(_PACKAGE, "policy"))
"""Frames of ours stand at the head of every stack and tell a job's author nothing."""
