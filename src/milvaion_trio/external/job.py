"""What a Milvaion server is told about a job of another scheduler.

Separate from its runs: the server has to know the job before it takes the first of them.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TypedDict

from attrs import field, frozen

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.instant import Instant
from milvaion_trio.policy.cron import parse_cron

__all__ = ["About", "ExternalJob", "instant_of"]

LONGEST_ID = 500
LONGEST_NAME = 200
"""Characters that the server's columns have."""


class About(TypedDict, total=False):
    """The keywords that say more about a job than its id."""

    name: str | None
    description: str | None
    cron: str | None
    next_run: datetime | None
    tags: Iterable[str]
    type_name: str | None


def _listed(tags: Iterable[str]) -> tuple[str, ...]:
    return (tags,) if isinstance(tags, str) else tuple(tags)


@frozen(kw_only=True)
class ExternalJob:
    """A job that somebody else schedules and runs."""

    id: str
    """Its name for the server, the same for ever."""
    name: str | None = None
    """What people see; the id where nothing is said."""
    description: str | None = None
    cron: str | None = None
    """Six fields, seconds first, in UTC. Only shown."""
    next_run: datetime | None = None
    tags: tuple[str, ...] = field(default=(), converter=_listed)
    type_name: str | None = None
    """What runs, e.g. `reports.nightly`."""
    is_active: bool = True
    """Whether its scheduler still has it."""

    def __attrs_post_init__(self) -> None:
        """Refuse what the server could not keep, and what is no text; raises `ValueError` or `TypeError`."""
        for name in ("id", "name", "description", "cron", "type_name"):
            value = getattr(self, name)
            if not isinstance(value, str) and (value is not None or name == "id"):
                raise TypeError(f"The {name} of an external job is a text, not {value!r}.")
        if self.cron is not None:
            try:
                is_never = parse_cron(self.cron, seconds=True).is_never
            except SettingsError as error:
                raise ValueError(f"cron {self.cron!r}, with which the job would be lost: {error}") from None
            if is_never:
                raise ValueError(f"cron {self.cron!r}, with which the job would be lost: no date fits it.")
        if not 0 < len(self.id) <= LONGEST_ID:
            raise ValueError(
                f"The id of an external job has {len(self.id)} characters; Milvaion keeps 1 to {LONGEST_ID}. It names "
                "the job for ever, so give it a short one that stays the same."
            )

    @property
    def display_name(self) -> str:
        """As much of its name as fits."""
        return (self.name or self.id)[:LONGEST_NAME]


def instant_of(moment: datetime | None) -> Instant | None:
    """A date of Python on the wire, in UTC; one without a time zone is taken as local time."""
    return None if moment is None else Instant.from_datetime(moment.astimezone(UTC))
