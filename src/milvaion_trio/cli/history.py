"""`milvaion-trio history` and `occurrences show`: what happened, as a monitor has kept it."""

import re
import time
from collections.abc import Sequence
from typing import Annotated, Final

from cyclopts import Parameter
from rich.text import Text

from milvaion_trio.cli.failures import ExitCode, UsageError
from milvaion_trio.cli.history_rows import (
    brief,
    duration_words,
    failure_json,
    failure_name,
    line_json,
    moment,
    occurrence_json,
    shown_status,
)
from milvaion_trio.cli.history_store import check_count, occurrence_in, opened_history, settings_here
from milvaion_trio.cli.options import ConfigOption, SetOption, overrides
from milvaion_trio.cli.terminal import (
    BAD,
    GOOD,
    QUIET,
    WAITING,
    error_console,
    output_console,
    table,
    write_json,
)
from milvaion_trio.model.history import FailedOccurrence, LogLine, OccurrenceRecord
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.occurrence import OccurrenceStatus, status_name
from milvaion_trio.ports.history import OccurrenceQuery

__all__ = ["history", "show_occurrence", "since_of"]

_S = OccurrenceStatus
_COLOURS: Final[dict[OccurrenceStatus, str]] = {
    _S.QUEUED: QUIET,
    _S.RUNNING: WAITING,
    _S.COMPLETED: GOOD,
    _S.CANCELLED: QUIET,
    _S.SKIPPED: QUIET,
}
"""Of all others something is wrong."""
NARROWEST: Final = 140
"""Columns of a table in which its errors take a few lines, and all else one."""
_AGO: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([smhdw])", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_STATUSES: Final = {status_name(status).lower(): status for status in OccurrenceStatus}


def history(
    *,
    job: Annotated[str | None, Parameter(metavar="NAME", help="Only of this job, in any case.")] = None,
    status: Annotated[
        list[str] | None,
        Parameter(
            negative="",
            metavar="NAME",
            help="Only with this status: Queued, Running, Completed, Failed, Cancelled, TimedOut, Unknown (lost) or "
            "Skipped. Repeatable.",
        ),
    ] = None,
    worker: Annotated[str | None, Parameter(metavar="GROUP", help="Only of this group of workers.")] = None,
    schedule: Annotated[str | None, Parameter(metavar="ID", help="Only of this schedule.")] = None,
    since: Annotated[
        str | None,
        Parameter(metavar="WHEN", help="Only those created since: 90s, 15m, 2h, 3d, 1w ago, or a date in UTC."),
    ] = None,
    limit: Annotated[int, Parameter(metavar="COUNT", help="Show so many, the newest.")] = 50,
    config: ConfigOption = None,
    settings: SetOption = None,
    json: Annotated[bool, Parameter(negative="", help="One JSON object, with numbers as numbers.")] = False,
) -> int:
    """List occurrences, the newest first: what ran when, for how long, and how it ended.

    It reads what `milvaion-trio monitor` keeps, which may run meanwhile.

        milvaion-trio history --status Failed --since 2h
        milvaion-trio history --job SendEmailJob --limit 10 --json
    """
    check_count("--limit", limit)
    query = OccurrenceQuery(
        job_name=job,
        worker_id=worker,
        schedule_id=schedule,
        statuses={_status_of(name) for name in status or ()},
        since=since_of(since, time.time_ns()),
        limit=limit,
    )
    with opened_history(settings_here(config, overrides(settings))) as store:
        rows, counts, name = store.find(query), store.counts(), store.name
    if json:
        total = {shown_status(_known(number)): count for number, count in sorted(counts.items())}
        write_json({"store": name, "counts": total, "occurrences": [occurrence_json(row) for row in rows]})
        return ExitCode.DONE
    if rows:
        columns = ("Created", "Job", "Worker", "Status", "Took", "Runs", "Occurrence", "Result or error")
        shown = table(*columns, width=NARROWEST)
        for row in rows:
            shown.add_row(
                moment(row.created_at),
                row.job_name or "",
                row.worker_id or "",
                _status_text(row.status),
                duration_words(row.duration_ms),
                str(row.runs or ""),
                row.id,
                brief(row.exception or row.result),
            )
        output_console().print(shown)
    more = f"{len(rows)} shown" if rows else "None of this kind"
    error_console().print(f"{more}, of {sum(counts.values())} occurrences in {name}.")
    return ExitCode.DONE


def show_occurrence(
    occurrence_id: Annotated[str, Parameter(help="What history and enqueue print.")],
    /,
    *,
    lines: Annotated[int, Parameter(metavar="COUNT", help="Show so many lines of its log, the last ones.")] = 1000,
    config: ConfigOption = None,
    settings: SetOption = None,
    json: Annotated[bool, Parameter(negative="", help="One JSON object, with numbers as numbers.")] = False,
) -> int:
    """Show all that is known of one occurrence: its data, how its status changed, its result or error, its log.

    What jobs gave to their log besides the text is in the lines of --json.

        milvaion-trio occurrences show 0f8fad5b-d9cb-469f-a165-70867728950e
    """
    check_count("--lines", lines)
    with opened_history(settings_here(config, overrides(settings))) as store:
        row = occurrence_in(store, occurrence_id)
        log, failure = store.lines(row.id, lines), store.failure(row.id)
    if json:
        dead = None if failure is None else failure_json(failure)
        write_json({**occurrence_json(row), "log": [line_json(line) for line in log], "dead_letter": dead})
        return ExitCode.DONE
    _print_facts(row)
    _print_failure(failure)
    _print_log(log)
    return ExitCode.DONE


def since_of(text: str | None, now_ns: int) -> Instant | None:
    """The moment that somebody means; raises `UsageError`."""
    if text is None:
        return None
    if (found := _AGO.fullmatch(text.strip())) is not None:
        seconds = float(found[1]) * _SECONDS[found[2]]
        try:
            return Instant.from_unix_ns(now_ns).plus(-seconds)
        except ValueError:
            raise UsageError(f"--since is {text!r}, which is before all dates there are.") from None
    try:
        return Instant.parse(text.strip().replace(" ", "T"))
    except ValueError:
        raise UsageError(
            f"--since is {text!r}; it must be a time ago (90s, 15m, 2h, 3d, 1w) or a date like 2030-01-31 or "
            "2030-01-31T12:00:00Z."
        ) from None


def _status_of(name: str) -> OccurrenceStatus:
    status = _STATUSES.get(name.lower().replace("_", "").replace("-", ""))
    if status is None and name.lower() == "lost":
        return _S.UNKNOWN
    if status is None:
        known = ", ".join(map(status_name, OccurrenceStatus))
        raise UsageError(f"--status is {name!r}; it must be one of {known}.")
    return status


def _known(number: int) -> OccurrenceStatus | int:
    try:
        return OccurrenceStatus(number)
    except ValueError:
        return number


def _status_text(status: OccurrenceStatus | int) -> Text:
    colour = _COLOURS.get(status, BAD) if isinstance(status, OccurrenceStatus) else ""
    return Text(shown_status(status), style=colour)


def _print_facts(row: OccurrenceRecord) -> None:
    console = output_console()
    facts: list[tuple[str, str | Text | None]] = [
        ("Occurrence", row.id),
        ("Job", row.job_name),
        ("Status", _status_text(row.status)),
        ("Worker", " ".join(filter(None, [row.worker_id, f"({row.instance_id})" if row.instance_id else None]))),
        ("Created", moment(row.created_at)),
        ("To run at", moment(row.execute_at)),
        ("Started", moment(row.start_time)),
        ("Ended", moment(row.end_time)),
        ("Took", duration_words(row.duration_ms)),
        ("Runs", str(row.runs or "")),
        ("Schedule", row.schedule_id),
        ("Reported by", row.source),
        ("Data", row.job_data),
        ("Result", row.result),
    ]
    for name, value in facts:
        if value:
            console.print(Text.assemble((f"{name:<12}", QUIET), value))
    if row.exception:
        console.print(Text("Error", style=QUIET))
        console.print(Text(row.exception.rstrip(), style=BAD))
    if row.changes:
        console.print()
        shown = table("At", "From", "To")
        for change in row.changes:
            shown.add_row(moment(change.at), shown_status(change.before), _status_text(change.after))
        console.print(shown)


def _print_failure(failure: FailedOccurrence | None) -> None:
    if failure is None:
        return
    again = f", replayed as {failure.replayed_as}" if failure.replayed_as else ""
    console = output_console()
    console.print()
    console.print(f"Dead letter of {moment(failure.failed_at)}: {failure_name(failure)}{again}")


def _print_log(lines: Sequence[LogLine]) -> None:
    if not lines:
        return
    console = output_console()
    console.print()
    shown = table("At", "Level", "Message")
    for line in lines:
        shown.add_row(moment(line.at), line.level, line.message)
    console.print(shown)
