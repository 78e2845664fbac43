"""A cron trigger of APScheduler as Milvaion's six fields, where these say the same.

Separate because the two grammars differ where one looks away: APScheduler's week begins on Monday with 0, and it knows
weeks, years and time zones. What is written here is compared with the trigger before it is believed.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.policy.cron import parse_cron

__all__ = ["CronLike", "cron_text"]

COMPARED: Final = 50
"""Ticks that have to be the same: most of a year of a weekly job."""
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ORDER: Final = ("second", "minute", "hour", "day", "month", "day_of_week")


class Field(Protocol):
    """One of a trigger's fields; as text it is its expression."""

    @property
    def name(self) -> str:
        """E.g. `day_of_week`."""


class CronLike(Protocol):
    """What is needed of a trigger."""

    @property
    def fields(self) -> list[Field]:
        """All eight."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The first at or after `now`."""


def cron_text(trigger: CronLike, now: datetime) -> str | None:
    """Six fields in UTC, as Milvaion shows them; `None` where no six fields tick when the trigger does."""
    texts = {each.name: str(each) for each in trigger.fields}
    days = re.sub(r"(?<![/\d])[0-6](?!\d)", lambda day: DAYS[int(day[0])], texts["day_of_week"])
    text = " ".join([*(texts[name] for name in ORDER[:-1]), days]).replace(" last ", " L ")
    return text if _ticks_alike(text, trigger, now) else None


def _ticks_alike(text: str, trigger: CronLike, now: datetime) -> bool:
    try:
        cron = parse_cron(text, seconds=True)
    except SettingsError:
        return False
    moment = now.astimezone(UTC)
    for _ in range(COMPARED):
        expected = trigger.get_next_fire_time(None, moment)
        told = cron.after(int(moment.timestamp() * 1000) - 1)
        if expected is None or told is None:
            return False
        if round(expected.timestamp() * 1000) != told:
            return False
        moment = expected.astimezone(UTC) + timedelta(seconds=1)
    return True
