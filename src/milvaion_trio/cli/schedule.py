"""`milvaion-trio schedule`: the schedules of a cluster, or of a dev worker in another terminal."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter

from milvaion_trio.cli.control import Done, Scheduling
from milvaion_trio.cli.dev_client import ask_dev_worker
from milvaion_trio.cli.failures import ExitCode, UsageError
from milvaion_trio.cli.options import ConfigOption, SetOption, SocketOption, overrides, parsed_data
from milvaion_trio.cli.schedule_rows import Facts, schedules_table, words_of
from milvaion_trio.cli.scheduling import carry_out_in_cluster
from milvaion_trio.cli.terminal import error_console, output_console, write_json, write_line
from milvaion_trio.cli.whereto import done_there
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.json_text import read
from milvaion_trio.runtime.dispatching import Destination
from milvaion_trio.scheduler.desk import planned

__all__ = [
    "add_schedule",
    "list_schedules",
    "pause_schedule",
    "remove_schedule",
    "resume_schedule",
    "scheduled_there",
    "trigger_schedule",
]

ScheduleArgument: TypeAlias = Annotated[str, Parameter(name="ID", help="Its name, as list shows it.")]


def list_schedules(
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    socket: SocketOption = None,
    json: Annotated[bool, Parameter(negative="", help="One JSON array, with all that is known of each.")] = False,
) -> int:
    """List the schedules of a cluster, or of a dev worker in another terminal, with the next time of each.

    With --config or --set those that are kept in the Redis of the settings, of all groups of workers; with --socket
    those of a dev worker. Without them it finds its way as enqueue does.

        milvaion-trio schedule list --config appsettings.json
        milvaion-trio schedule list --json | jq -r '.[] | select(.state == "disabled") | .id'
    """
    _, schedules = scheduled_there(Scheduling(act="list"), config, settings, socket)
    if json:
        write_json(schedules)
    elif schedules:
        output_console().print(schedules_table(schedules))
    else:
        error_console().print("There are no schedules. Declare one, @worker.cron(…), or: milvaion-trio schedule add")
    return ExitCode.DONE


def add_schedule(
    job: Annotated[str, Parameter(name="JOB", help="The job's name; for a dev worker in any case.")],
    /,
    *,
    cron: Annotated[
        str | None, Parameter(metavar="EXPRESSION", help="At the times of this cron expression: '0 9 * * MON'.")
    ] = None,
    timezone: Annotated[
        str | None, Parameter(metavar="ZONE", help="Whose clocks the expression is about: Europe/Istanbul [UTC].")
    ] = None,
    every: Annotated[float | None, Parameter(metavar="SECONDS", help="At equal distances, 0.1 or more.")] = None,
    at: Annotated[str | None, Parameter(metavar="DATE", help="Once: 2027-05-04T09:00:00+03:00.")] = None,
    schedule_id: Annotated[
        str | None, Parameter(name="--id", metavar="ID", help="What the schedule is called [the job's name].")
    ] = None,
    data: Annotated[str | None, Parameter(metavar="JSON", help="The job's data, as JSON.")] = None,
    overlap: Annotated[
        Literal["skip", "queue", "cancel-previous", "allow"] | None,
        Parameter(metavar="RULE", help="What happens to a tick while an earlier run has not ended [skip]."),
    ] = None,
    misfire: Annotated[
        Literal["once", "all", "skip"] | None,
        Parameter(metavar="RULE", help="Which ticks run that nobody dispatched in time: the latest, all, none [once]."),
    ] = None,
    misfire_limit: Annotated[
        int | None, Parameter(metavar="COUNT", help="How many misfire all makes up for [100].")
    ] = None,
    grace: Annotated[
        float | None, Parameter(metavar="SECONDS", help="How late a tick may be and still be in time [60].")
    ] = None,
    jitter: Annotated[
        float | None, Parameter(metavar="SECONDS", help="By how much a tick is put off at most [0].")
    ] = None,
    start: Annotated[str | None, Parameter(metavar="DATE", help="No tick before.")] = None,
    end: Annotated[str | None, Parameter(metavar="DATE", help="No tick after.")] = None,
    max_runs: Annotated[int | None, Parameter(metavar="COUNT", help="How many ticks run at all [no limit].")] = None,
    disable_after: Annotated[
        int | None, Parameter(metavar="COUNT", help="Failures in a row after which it stops, 0 for never [5].")
    ] = None,
    failure_window: Annotated[
        float | None, Parameter(metavar="SECONDS", help="When a failure is forgotten [3600].")
    ] = None,
    lost_after: Annotated[
        float | None,
        Parameter(metavar="SECONDS", help="When a run without a known end blocks no later tick any more [86400]."),
    ] = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    worker_id: Annotated[
        str | None,
        Parameter(name="--worker-id", metavar="GROUP", help="The group of workers, if not that of the settings."),
    ] = None,
    socket: SocketOption = None,
    json: Annotated[bool, Parameter(negative="", help="The schedule as one JSON object.")] = False,
) -> int:
    """Have a job run by itself, or change when and how it does.

    One of --cron, --every and --at is needed. A schedule of the same id is replaced; it goes on where it was if its
    times are the same. Prints the id. Where it goes is decided as for list.

    The workers keep those that they declare as they declare them: change these in the code or the settings.

    Exit codes: 0 it is kept; 1 it is not, or nobody knows; 2 the command line or the settings are wrong.

        milvaion-trio schedule add SendReportJob --cron '0 9 * * MON' --timezone Europe/Istanbul
        milvaion-trio schedule add PollJob --every 30 --id poll-shop --data '{"shop": 7}' --config appsettings.json
    """
    keywords = {
        "id": schedule_id,
        "cron": cron,
        "timezone": timezone,
        "every": every,
        "at": at,
        "data": parsed_data(data),
        "overlap": overlap,
        "misfire": misfire,
        "misfire_limit": misfire_limit,
        "grace": grace,
        "jitter": jitter,
        "start": start,
        "end": end,
        "max_runs": max_runs,
        "disable_after": disable_after,
        "failure_window": failure_window,
        "lost_after": lost_after,
    }
    said = {name: value for name, value in keywords.items() if value is not None}
    try:  # before anybody is asked, who would say the same
        planned(Destination(worker_id="worker", job_name=job, pattern="worker.job"), said)
    except SettingsError as error:
        raise UsageError("\n".join(error.problems)) from error
    done, schedules = scheduled_there(
        Scheduling(act="add", job=job, keywords=said), config, settings, socket, worker_id
    )
    if json:
        write_json(schedules[0])
        return ExitCode.DONE
    write_line(done.text or "")
    _tell(schedules[0])
    _note(done)
    return ExitCode.DONE


def pause_schedule(
    schedule_id: ScheduleArgument,
    /,
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    socket: SocketOption = None,
) -> int:
    """Have no tick of a schedule run until it is resumed. What runs goes on.

    It stays paused when workers start that declare it. Where it is done is decided as for list.

        milvaion-trio schedule pause SendReportJob --config appsettings.json
    """
    return _done("pause", schedule_id, config, settings, socket)


def resume_schedule(
    schedule_id: ScheduleArgument,
    /,
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    socket: SocketOption = None,
) -> int:
    """Have the ticks of a schedule run again, also where failures had stopped it.

    Ticks that came due meanwhile do not run. Where it is done is decided as for list.

        milvaion-trio schedule resume SendReportJob --config appsettings.json
    """
    return _done("resume", schedule_id, config, settings, socket)


def remove_schedule(
    schedule_id: ScheduleArgument,
    /,
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    socket: SocketOption = None,
) -> int:
    """Take a schedule out, with how far it had come.

    One that a worker declares comes back when the worker starts next: pause it instead. Where it is done is decided as
    for list.

        milvaion-trio schedule remove poll-shop --config appsettings.json
    """
    return _done("remove", schedule_id, config, settings, socket)


def trigger_schedule(
    schedule_id: ScheduleArgument,
    /,
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    socket: SocketOption = None,
) -> int:
    """Run a schedule's job with its data now, besides its ticks, and print the occurrence's id.

    It counts for none of the schedule's rules, and runs also where it is paused. Where it is done is decided as for
    list.

        milvaion-trio schedule trigger SendReportJob --config appsettings.json
    """
    done, _ = scheduled_there(Scheduling(act="trigger", schedule_id=schedule_id), config, settings, socket)
    write_line(done.occurrence_id or "")
    return ExitCode.DONE


def scheduled_there(
    request: Scheduling,
    config: Path | None,
    settings: Sequence[str] | None,
    socket: Path | None,
    group: str | None = None,
) -> tuple[Done, list[Facts]]:
    """Have it done where the options say; returns the schedules that it is about too."""
    rows: list[str] = []
    in_dev = partial(ask_dev_worker, request=request, wait=False, show=rows.append)
    in_cluster = partial(carry_out_in_cluster, request=request, group=group, show=rows.append)
    given = overrides(list(settings or ()))
    over_redis = request.act != "trigger"  # which publishes
    done = done_there(socket, config, given, group, in_dev, in_cluster, over_redis=over_redis)
    return done, [_with_data(json.loads(row)) for row in rows]


def _with_data(facts: Facts) -> Facts:
    """The data as a value; on its way it is the text that is kept, for the digits of its numbers."""
    text = facts["data"]
    return facts if text is None else {**facts, "data": read(text, case_matters=True, keep_digits=True)}


def _done(act: str, schedule_id: str, config: Path | None, settings: Sequence[str] | None, socket: Path | None) -> int:
    done, _ = scheduled_there(Scheduling(act=act, schedule_id=schedule_id), config, settings, socket)
    write_line(done.note or schedule_id)
    return ExitCode.DONE


def _tell(schedule: Facts) -> None:
    following = next(iter(schedule["next"]), None)
    if schedule["state"] != "active":
        following = f"it is {schedule['state']}"
    else:
        following = f"next at {following}" if following else "no time to come; one that passed may run now"
    error_console().print(f"{schedule['job']} of {schedule['worker_id']}: {words_of(schedule)}, {following}")


def _note(done: Done) -> None:
    if done.note is not None:
        error_console().print(done.note)
