"""What somebody says about a schedule, in code, settings or a command; what is left out is the default's.

Separate from `model.schedule`, whose values are complete and looked up: here a schedule is a few words that two sources
may say half each. `policy.schedule_making` makes the one of the other.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Final, Literal, Self, TypeAlias, TypedDict, TypeVar

from attrs import evolve, field, fields, frozen

from milvaion_trio.model.errors import InvalidMessage, SettingsError
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.json_text import read
from milvaion_trio.model.schedule import Misfire, Overlap
from milvaion_trio.model.settings_rules import Check, Form, Range, problems_of

__all__ = ["Moment", "ScheduleKeywords", "ScheduleOptions", "ScheduleSettings", "taken_back"]

E = TypeVar("E", Overlap, Misfire)

_TIMES: Final = frozenset(("cron", "every", "at"))
"""The fields of `ScheduleSettings` of which one is needed."""

Moment: TypeAlias = datetime | str | Instant
"""An aware datetime, a date in ISO 8601 form with its distance from UTC, or an `Instant`."""


def _is_aware(value: object) -> bool:
    return isinstance(value, datetime) and value.utcoffset() is not None


def _is_json(value: object) -> bool:
    try:
        read(str(value), case_matters=True, keep_digits=True)
    except InvalidMessage:
        return False
    return True


Count: TypeAlias = Annotated[int, Range(1)]
WholeNumber: TypeAlias = Annotated[int, Range(0)]
Seconds: TypeAlias = Annotated[float, Range(0)]
Text: TypeAlias = Annotated[str, Form(r"[\s\S]+", "a text that is not empty")]
Date: TypeAlias = Annotated[
    datetime, Check(_is_aware, "a date and time with its distance from UTC, such as 2027-05-04T09:00:00+03:00")
]
JsonText: TypeAlias = Annotated[str, Check(_is_json, """JSON as a text, such as '{"to": "ada@example.org"}'""")]


class ScheduleOptions(TypedDict, total=False):
    """What schedules have in common, as keywords: the fields of `ScheduleSettings` with values of Python."""

    id: str
    """The schedule's name; unless given the job's."""
    data: object
    """The job's data, anything JSON-able."""
    overlap: Overlap | Literal["skip", "queue", "cancel-previous", "allow"]
    misfire: Misfire | Literal["once", "all", "skip"]
    misfire_limit: int
    grace: float
    jitter: float
    start: Moment
    end: Moment
    max_runs: int
    disable_after: int
    failure_window: float
    lost_after: float


class ScheduleKeywords(ScheduleOptions, total=False):
    """The same with the times: one of `cron`, `every` and `at` is needed."""

    cron: str
    timezone: str
    every: float
    at: Moment


def _overlap(value: object) -> object:
    return _member(Overlap, value)


def _misfire(value: object) -> object:
    return _member(Misfire, value)


def _member(kind: type[E], value: object) -> object:
    """The member of that value; anything else stays as it is, for the check to name it."""
    return kind(value) if isinstance(value, str) and value in set(kind) else value


@frozen(kw_only=True)
class ScheduleSettings:
    """When a job runs by itself, and how. `None` means that nobody says anything: settings over code over default."""

    job: Text | None = None
    """Name of the job; needed where code does not say it."""
    cron: Text | None = None
    """The times of a cron expression with five fields, or six with seconds first. One of cron, every and at is needed.
    """
    timezone: Text | None = None
    """Whose clocks the cron expression is about, `Europe/Istanbul`; UTC."""
    every: Annotated[float, Range(0.1)] | None = None
    """Equal distances in seconds, counted from when the schedule was made, or from its `start`."""
    at: Date | None = None
    """One moment."""
    data: JsonText | None = None
    """The job's data, as JSON text."""
    overlap: Overlap | None = field(default=None, converter=_overlap)
    """What happens to a tick while an earlier run has not ended: `skip` leaves it out, `queue` has it wait,
    `cancel-previous` cancels the earlier one, `allow` runs both; skip."""
    misfire: Misfire | None = field(default=None, converter=_misfire)
    """What happens to ticks that nobody dispatched in time: `once` runs the latest, `all` the latest up to
    `misfire_limit`, `skip` none; once."""
    misfire_limit: Annotated[int, Range(1, 10_000)] | None = None
    """How many ticks misfire `all` makes up for; 100."""
    grace: Seconds | None = None
    """Seconds that a tick may be late and still be in time; 60."""
    jitter: Seconds | None = None
    """Seconds by which a tick is put off at most, each by an amount of its own; 0."""
    start: Date | None = None
    """No tick before."""
    end: Date | None = None
    """No tick after."""
    max_runs: Count | None = None
    """Ticks that are dispatched at all; no limit."""
    disable_after: WholeNumber | None = None
    """Failures in a row after which it stops, 0 for never; 5."""
    failure_window: Seconds | None = None
    """Seconds after which a failure is forgotten; 3600."""
    lost_after: Annotated[float, Range(1)] | None = None
    """Seconds after which a run without a known end blocks no later tick any more; 86400."""

    def __attrs_post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if problems := problems_of(self):
            raise SettingsError(problems)

    @property
    def said(self) -> tuple[str, ...]:
        """The names of the fields that it says something about."""
        return tuple(each.name for each in fields(type(self)) if getattr(self, each.name) is not None)

    def over(self, other: "ScheduleSettings") -> Self:
        """These settings, and the other's where these say nothing. Times are said by one of them alone."""
        own = {*self.said, *taken_back(self.said)}
        return evolve(self, **{name: getattr(other, name) for name in other.said if name not in own})


def taken_back(said: Collection[str]) -> frozenset[str]:
    """The fields that do not hold any more when a source over another says these: other times, and their time zone."""
    if _TIMES.isdisjoint(said):
        return frozenset()
    return _TIMES.union(() if "cron" in said else ("timezone",)).difference(said)
