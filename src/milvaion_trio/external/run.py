"""A run of another scheduler's job as its own code sees it, and how what it raised is told.

Separate from the telling: this is used in any thread, waits for nothing, and raises nothing of its own.
"""

import math
import sys
import sysconfig
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from attrs import define, field, frozen

from milvaion_trio.external.job import ExternalJob
from milvaion_trio.model.error_text import error_text
from milvaion_trio.model.errors import JobCancelled
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.json_text import write
from milvaion_trio.model.messages import ExternalEvent, LogEntry, LogLevel
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.sanitise import clean_json
from milvaion_trio.runtime.log_buffer import as_logged

if TYPE_CHECKING:
    from milvaion_trio.external.unsent import Unsent

__all__ = ["RunEnd", "RunStart", "TrackedRun", "cancelled", "completed", "failed", "missed", "outcome_of"]

OUR_FRAMES: Final = (
    str(Path(__file__).parent),
    str(Path(sysconfig.get_path("purelib")) / "apscheduler"),
)
"""Where the outermost frames of a failure say nothing about it."""

Outcome = tuple[ExternalEvent, OccurrenceStatus, str | None, str | None]
"""Event, status, result and error text."""


@frozen(eq=False, kw_only=True)
class RunStart:
    """That a run began."""

    job: ExternalJob
    occurrence_id: OccurrenceId
    external_id: str | None = None
    """Its name in its own scheduler, if it has one there."""
    scheduled_for: datetime | None = None
    at: Instant


@frozen(kw_only=True)
class RunEnd:
    """How and when it ended."""

    event: ExternalEvent
    status: OccurrenceStatus
    at: Instant
    duration_ms: int | None = None
    result: str | None = None
    exception: str | None = None


@define(eq=False)
class TrackedRun:
    """A run that is reported: `with milvaion.track("nightly-etl") as run:`. Use it from any thread."""

    start: RunStart
    _unsent: "Unsent"
    _now: Callable[[], Instant]
    _result: str | None = field(default=None, init=False)
    stored_at: float = field(default=math.inf, init=False)
    """From when on, on Trio's clock, the server can be taken to have its start."""
    is_over: bool = field(default=False, init=False)

    @property
    def occurrence_id(self) -> OccurrenceId:
        """Its id on the Milvaion server."""
        return self.start.occurrence_id

    def log(self, level: str, message: object, /, **data: object) -> None:
        """Add a line to the log that the server shows with the run, of a level such as `info` or `error`.

        `data` is any JSON-able facts.
        """
        text, facts = as_logged(message, data or None)
        named = LEVELS.get(str(level).lower(), str(level))
        entry = LogEntry(timestamp=self._now(), level=named, message=text, data=facts, category="UserCode")
        if not self.is_over:
            self._unsent.logged(self, entry)

    def result(self, value: object) -> None:
        """What the run has brought about, shown when it has ended well; anything JSON-able."""
        self._result = _text(value)

    def end(self, outcome: Outcome) -> None:
        """It is over; said once, the first time."""
        if self.is_over:
            return
        self.is_over = True
        event, status, result, exception = outcome
        at = self._now()
        if event is ExternalEvent.COMPLETED and status is OccurrenceStatus.COMPLETED:
            result = self._result or result or f"{self.start.job.id} finished without a return value"
        # By the same clock as its dates, that they fit: who sets the clock sees it in both.
        elapsed = None if event is ExternalEvent.VETOED else max(at.ticks - self.start.at.ticks, 0) // 10_000
        self._unsent.ended(
            self,
            RunEnd(event=event, status=status, at=at, duration_ms=elapsed, result=result, exception=exception),
        )


LEVELS: Final = {
    "trace": LogLevel.TRACE,
    "debug": LogLevel.DEBUG,
    "info": LogLevel.INFORMATION,
    "information": LogLevel.INFORMATION,
    "warning": LogLevel.WARNING,
    "error": LogLevel.ERROR,
    "critical": LogLevel.CRITICAL,
}


def completed(value: object = None) -> Outcome:
    """It ended well, with this value if it has one."""
    return ExternalEvent.COMPLETED, OccurrenceStatus.COMPLETED, None if value is None else _text(value), None


def failed(error: BaseException) -> Outcome:
    """It raised: an end like any other, with the status that says so (WIRE.md 3.7)."""
    text = error_text(error, skip_frames_in=OUR_FRAMES, without=(trio.Cancelled,))
    return ExternalEvent.COMPLETED, OccurrenceStatus.FAILED, None, text


def cancelled(why: str) -> Outcome:
    """It was stopped."""
    return ExternalEvent.CANCELLED, OccurrenceStatus.CANCELLED, why, None


def missed(why: str) -> Outcome:
    """Its time came and it did not run."""
    return ExternalEvent.VETOED, OccurrenceStatus.CANCELLED, why, None


def outcome_of(error: BaseException | None) -> Outcome:
    """What its code's end means. Who leaves by `sys.exit()` without an error has ended well."""
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return completed()
    if _is_stop(error):
        return cancelled(f"Stopped by {type(_first(error)).__name__}")
    return failed(error)


def _is_stop(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_stop(inner) for inner in error.exceptions)
    asyncio = sys.modules.get("asyncio")  # of a program that has it
    stops = (trio.Cancelled, KeyboardInterrupt, GeneratorExit, JobCancelled)
    return isinstance(error, stops) or (asyncio is not None and isinstance(error, asyncio.CancelledError))


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _text(value: object) -> str:
    """A text as it is, all else as JSON."""
    if isinstance(value, str):
        return value
    _, facts = as_logged("", {"value": value})
    return "" if facts is None else write(clean_json(facts["value"]))
