"""Schedules and how far they have come, as values.

Times are whole milliseconds since 1970 in UTC: ticks are compared and hashed by the million, and a tick's time is part
of its occurrence's id. What a schedule does at which time is decided in `policy.scheduling`.
"""

import enum
import uuid
from typing import Annotated, Final, TypeAlias

from attrs import field, frozen

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.ids import JobId, OccurrenceId
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.settings_rules import Form, Range, problems_of

__all__ = [
    "Cron",
    "Entry",
    "Every",
    "Millis",
    "Misfire",
    "Once",
    "OpenRun",
    "Overlap",
    "Progress",
    "Recurrence",
    "RunEnd",
    "Schedule",
    "job_id_of",
    "occurrence_id_of",
]

Millis: TypeAlias = int
"""Milliseconds since 1970, UTC."""

Count: TypeAlias = Annotated[int, Range(1)]
WholeNumber: TypeAlias = Annotated[int, Range(0)]
Seconds: TypeAlias = Annotated[float, Range(0)]
Text: TypeAlias = Annotated[str, Form(r"[\s\S]+", "a text that is not empty")]
Name: TypeAlias = Annotated[str, Form(r"\S(.{0,198}\S)?", "1 to 200 characters, without spaces at its ends")]

_NAMESPACE: Final = uuid.UUID("5f0c2b1e-6a0b-5d57-9c39-7d0f4be0a6d4")
"""Of our own UUIDv5 ids; any fixed one does, and it may never change."""


class Overlap(enum.StrEnum):
    """What happens to a tick while the run of an earlier one has not ended."""

    SKIP = "skip"
    """It is left out."""
    QUEUE = "queue"
    """It waits, and runs when the earlier one has ended."""
    CANCEL_PREVIOUS = "cancel-previous"
    """The earlier one is cancelled, and it runs."""
    ALLOW = "allow"
    """It runs beside the earlier one."""


class Misfire(enum.StrEnum):
    """What happens to ticks that nobody dispatched within their grace: all schedulers were down, or it was paused."""

    ONCE = "once"
    """The latest of them runs, for all of them."""
    ALL = "all"
    """The latest of them run, up to `misfire_limit`."""
    SKIP = "skip"
    """None runs."""


@frozen(kw_only=True)
class Cron:
    """At the times of a cron expression (`policy.cron`), on the clocks of a time zone."""

    expression: Text
    timezone: Text = "UTC"


@frozen
class Every:
    """At equal distances, counted from when the schedule was made, or from its `start`."""

    seconds: Annotated[float, Range(0.1)]


@frozen
class Once:
    """At one moment."""

    at: Millis


Recurrence: TypeAlias = Cron | Every | Once


@frozen(kw_only=True)
class Schedule:
    """What is to run when. What is written here is the operator's; how far it has come is `Progress`."""

    id: Name
    """Its name, the same in code, settings and commands."""
    job: Text
    """Name of the job."""
    worker_id: Text
    """The group of workers that runs it."""
    pattern: Text
    """The routing pattern of the job's queue."""
    when: Recurrence
    data: str | None = None
    """The job's data, as JSON text."""
    overlap: Overlap = Overlap.SKIP
    misfire: Misfire = Misfire.ONCE
    misfire_limit: Annotated[int, Range(1, 10_000)] = 100
    """How many ticks `Misfire.ALL` makes up for."""
    grace: Seconds = 60.0
    """Seconds that a tick may be late and still be on time."""
    jitter: Seconds = 0.0
    """Seconds by which a tick is put off at most; the same tick by the same, whoever dispatches it."""
    start: Millis | None = None
    """No tick before."""
    end: Millis | None = None
    """No tick after."""
    max_runs: Count | None = None
    """Ticks that are dispatched at all."""
    disable_after: WholeNumber = 5
    """Failures in a row after which it stops, 0 for never (WIRE.md 4.4)."""
    failure_window: Seconds = 3600.0
    """Seconds after which a failure is forgotten, so that the next one is the first again (WIRE.md 4.4)."""
    lost_after: Annotated[float, Range(1)] = 86_400.0
    """Seconds after which a run without a known end blocks no later tick any more."""
    origin: str = "client"
    """Who made it: `code`, `settings` or `client`."""

    def __attrs_post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if problems := problems_of(self):
            raise SettingsError(problems)


@frozen
class OpenRun:
    """A tick that was dispatched and whose run has not ended, as far as anybody said."""

    tick: Millis
    dispatched: Millis


@frozen(kw_only=True)
class Progress:
    """How far a schedule has come. Written by the leading scheduler alone, fenced by its token."""

    created: Millis | None = None
    """`Entry.created` of the entry that it is about: about one of another time it says nothing."""
    decided: Millis | None = None
    """Every tick up to this one is dispatched, left out, or among `waiting`; `None` before the first decision."""
    runs: WholeNumber = 0
    """Ticks dispatched so far."""
    open_runs: tuple[OpenRun, ...] = ()
    waiting: tuple[Millis, ...] = ()
    """Ticks that wait for the run before them, oldest first."""
    ran: tuple[Millis, ...] = ()
    """Ticks after `decided` whose ends were told already: a leader dispatched them and died before it wrote so."""
    failures: WholeNumber = 0
    """In a row."""
    last_failure: Millis | None = None
    disabled: Millis | None = None
    """When too many failures stopped it; a later `Entry.resumed` starts it again."""
    disabled_why: str = ""
    last_tick: Millis | None = None
    """The last one that was dispatched."""
    last_status: OccurrenceStatus | int | None = None
    """How the last run that ended did so."""
    left_out: WholeNumber = 0
    """Ticks that did not run, by overlap or misfire."""


@frozen(kw_only=True)
class Entry:
    """A schedule as the book has it."""

    schedule: Schedule
    created: Millis
    """When a schedule of this name and recurrence came into the book."""
    paused: bool = False
    resumed: Millis | None = None
    """When it was resumed last."""
    progress: Progress = field(factory=Progress)


@frozen(kw_only=True)
class RunEnd:
    """Somebody saw the end of a scheduled occurrence: the worker that ran it, or a monitor."""

    schedule_id: str
    tick: Millis
    status: OccurrenceStatus | int
    at: Millis
    error: str = ""
    """Of a failure, its beginning."""

    @property
    def is_known(self) -> bool:
        """Whether it was seen to end. Else it was taken for lost, so that its schedule goes on; it may run yet."""
        return self.status != OccurrenceStatus.UNKNOWN


def job_id_of(schedule_id: str) -> JobId:
    """The job id in all messages of this schedule, the same for ever."""
    return JobId(str(uuid.uuid5(_NAMESPACE, schedule_id)))


def occurrence_id_of(schedule_id: str, tick: Millis) -> OccurrenceId:
    """The occurrence of this tick, whoever dispatches it and however often (DESIGN.md 9, decision 11)."""
    return OccurrenceId(str(uuid.uuid5(_NAMESPACE, f"{schedule_id}@{tick}")))
