"""A schedule as commands show it: the facts for programs, and the table for people.

The facts travel between terminals, so they are values of JSON; times are written on the clocks of the schedule.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from rich.table import Table
from rich.text import Text

from milvaion_trio.cli.terminal import BAD, GOOD, QUIET, WAITING, table
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.occurrence import OccurrenceStatus, status_name
from milvaion_trio.model.schedule import Cron, Entry, Every, Millis, Once, Recurrence
from milvaion_trio.policy.scheduling import is_disabled, is_over, next_ticks

__all__ = ["Facts", "facts_of", "moment_text", "schedules_table", "when_of", "words_of"]

Facts = Mapping[str, Any]
"""Of one schedule; as `facts_of` makes it, maybe in another process."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STYLES = {"active": GOOD, "paused": WAITING, "disabled": BAD, "unclear": BAD, "over": QUIET}


def facts_of(entry: Entry, now: Millis, count: int) -> Facts:
    """What there is to know about a schedule, with this many of its next times."""
    schedule, progress = entry.schedule, entry.progress
    try:
        following, is_spent, zone, unclear = next_ticks(entry, now, count), is_over(entry), _zone(schedule.when), ""
    except (SettingsError, LookupError) as error:  # a time zone that only others know: the rest is to be seen here
        zone, following, is_spent = UTC, (), False
        unclear = " ".join(error.problems) if isinstance(error, SettingsError) else f"{error.args[0]}."
    if entry.paused:
        state, why = "paused", ""
    elif is_disabled(entry):
        state, why = "disabled", progress.disabled_why
    elif unclear:
        state, why = "unclear", unclear
    else:
        state, why = "over" if is_spent else "active", ""
    return {
        "id": schedule.id,
        "job": schedule.job,
        "worker_id": schedule.worker_id,
        **when_of(schedule.when, zone),
        "data": schedule.data,
        "overlap": schedule.overlap.value,
        "misfire": schedule.misfire.value,
        "misfire_limit": schedule.misfire_limit,
        "grace": schedule.grace,
        "jitter": schedule.jitter,
        "start": moment_text(schedule.start, zone),
        "end": moment_text(schedule.end, zone),
        "max_runs": schedule.max_runs,
        "disable_after": schedule.disable_after,
        "failure_window": schedule.failure_window,
        "lost_after": schedule.lost_after,
        "origin": schedule.origin,
        "state": state,
        "why": why or None,
        "next": [moment_text(tick, zone) for tick in following],
        "last": moment_text(progress.last_tick, zone),
        "last_status": _status(progress.last_status),
        "runs": progress.runs,
        "open_runs": len(progress.open_runs),
        "waiting": len(progress.waiting),
        "left_out": progress.left_out,
        "failures": progress.failures,
    }


def moment_text(moment: Millis | None, zone: tzinfo = UTC) -> str | None:
    """In ISO 8601 form on the clocks of the zone, with its distance from UTC."""
    if moment is None:
        return None
    whole = _EPOCH + timedelta(milliseconds=moment)
    with suppress(OverflowError):  # "for ever" may be an end in the last hours that there are
        whole = whole.astimezone(zone)
    return whole.isoformat(timespec="milliseconds" if moment % 1000 else "seconds")


def words_of(facts: Facts) -> str:
    """When it runs."""
    if facts.get("cron"):
        return f"{facts['cron']} {facts['timezone']}"
    return f"every {facts['every']:g} s" if facts.get("every") else f"at {facts['at']}"


def schedules_table(schedules: Sequence[Facts]) -> Table:
    """One row for each."""
    rows = table("Schedule", "When", "Job", "Next", "Last", "Runs", "")
    for facts in schedules:
        ended = f"{facts['open_runs']} not ended" if facts["open_runs"] else facts["last_status"]
        last = " ".join(filter(None, [facts["last"], ended]))
        rows.add_row(
            str(facts["id"]),
            words_of(facts),
            f"{facts['job']} of {facts['worker_id']}",
            next(iter(facts["next"]), ""),
            Text(last, style=BAD if facts["failures"] else ""),
            str(facts["runs"]),
            Text(_state(facts), style=_STYLES[facts["state"]]),
        )
    return rows


def _state(facts: Facts) -> str:
    """The state and why, without the stack of the error that it may be about."""
    why = str(facts["why"] or "").partition("\nStackTrace")[0].replace("\n", ", ")
    return ": ".join(filter(None, [str(facts["state"]), why]))


def when_of(when: Recurrence, zone: tzinfo = UTC) -> Facts:
    """The facts that `words_of` is about."""
    match when:
        case Cron(expression=expression, timezone=timezone):
            return {"cron": expression, "timezone": timezone}
        case Every(seconds):
            return {"every": seconds}
        case Once(at):
            return {"at": moment_text(at, zone)}


def _status(status: OccurrenceStatus | int | None) -> str | None:
    """Milvaion's name; of one that only a later version knows, its number."""
    return status_name(status) if isinstance(status, OccurrenceStatus) else None if status is None else str(status)


def _zone(when: Recurrence) -> tzinfo:
    return ZoneInfo(when.timezone) if isinstance(when, Cron) and when.timezone != "UTC" else UTC
