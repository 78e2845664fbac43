"""`milvaion-trio schedule next`: when an expression or a schedule ticks, and what the expression means.

Separate from the other commands about schedules: for an expression nobody is asked.
"""

import re
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from cyclopts import Parameter

from milvaion_trio.cli.control import Scheduling
from milvaion_trio.cli.failures import ExitCode, UsageError
from milvaion_trio.cli.options import ConfigOption, SetOption, SocketOption
from milvaion_trio.cli.schedule import scheduled_there
from milvaion_trio.cli.schedule_rows import moment_text, words_of
from milvaion_trio.cli.terminal import error_console, table, write_json, write_line
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.policy.cron import CronTimes, parse_cron
from milvaion_trio.policy.cron_words import field_meanings

__all__ = ["next_times"]

MOST: Final = 1000
_EXPRESSION: Final = re.compile(r"@\S+|\s*[0-9*?]\S*\s.*", re.DOTALL)
"""What is meant for an expression, right or wrong: a macro, or several words of which the first is for numbers."""


def next_times(
    what: Annotated[str, Parameter(name="EXPRESSION|ID", help="A cron expression in quotes, or a schedule's name.")],
    /,
    *,
    count: Annotated[int, Parameter(name=("--count", "-n"), metavar="COUNT", help="How many times.")] = 5,
    timezone: Annotated[
        str | None, Parameter(metavar="ZONE", help="Whose clocks the expression is about: Europe/Istanbul [UTC].")
    ] = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    socket: SocketOption = None,
    json: Annotated[bool, Parameter(negative="", help="One JSON object: what it is, and the times.")] = False,
) -> int:
    """Print the next times of a cron expression, and what it means; or those of a schedule.

    For an expression nothing else is needed, no worker and no server. It has five fields, or six with seconds first, or
    is a macro like @daily. Day of month and day of week both have to fit.
    A schedule is looked for as by list; its times include its jitter, and one that is paused has none.

    Exit codes: 0 printed, 1 there is no such schedule, 2 the expression cannot be read.

        milvaion-trio schedule next '0 9 * * MON' --timezone Europe/Istanbul
        milvaion-trio schedule next '0 0 L * *' -n 12
        milvaion-trio schedule next SendReportJob --config appsettings.json
    """
    if not 1 <= count <= MOST:
        raise UsageError(f"--count is {count}; it must be a whole number, 1 to {MOST}.")
    if _EXPRESSION.fullmatch(what):
        return _of_expression(what, timezone or "UTC", count, as_json=json)
    if timezone is not None:
        raise UsageError(
            f"--timezone goes with an expression, and {what!r} is taken for a schedule, which has its own."
        )
    _, (facts,) = scheduled_there(Scheduling(act="next", schedule_id=what, count=count), config, settings, socket)
    if json:
        write_json(facts)
        return ExitCode.DONE
    why = f": {facts['why']}" if facts["why"] else ""
    error_console().print(f"{facts['id']}, {words_of(facts)}, is {facts['state']}{why}")
    _print(facts["next"])
    return ExitCode.DONE


def _of_expression(expression: str, timezone: str, count: int, *, as_json: bool) -> int:
    try:
        times = parse_cron(expression, timezone)
    except SettingsError as error:
        raise UsageError("\n".join(error.problems)) from error
    found = list(_found(times, count))
    meanings = list(field_meanings(times))
    if as_json:
        fields = [{"name": name, "text": text, "meaning": meaning} for name, text, meaning in meanings]
        write_json({"expression": times.expression, "timezone": timezone, "fields": fields, "next": found})
        return ExitCode.DONE
    explained = table("Field", "Written", "Means")
    for row in meanings:
        explained.add_row(*row)
    error_console().print(explained)
    if not found:
        error_console().print("It never ticks: no date fits its day of month, month and day of week together.")
    _print(found)
    return ExitCode.DONE


def _found(times: CronTimes, count: int) -> Iterator[str]:
    zone = ZoneInfo(times.timezone)
    moment = times.after(time.time_ns() // 1_000_000)
    while moment is not None and count:
        yield moment_text(moment, zone) or ""
        moment, count = times.after(moment), count - 1


def _print(times: Sequence[str]) -> None:
    for each in times:
        write_line(each)
