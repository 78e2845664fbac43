"""`milvaion-trio enqueue` and `cancel`: what a second terminal asks of a dev worker, or of a cluster."""

import json
from collections.abc import Awaitable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from milvaion_trio.cli.cluster import Cluster
from milvaion_trio.cli.control import Cancel, Done, Enqueue, Publish
from milvaion_trio.cli.dev_client import ask_dev_worker
from milvaion_trio.cli.failures import ExitCode, UsageError
from milvaion_trio.cli.members import DELAY_WORDS, is_delay
from milvaion_trio.cli.message_file import read_message_file
from milvaion_trio.cli.options import ConfigOption, SetOption, SocketOption, overrides, parsed_data
from milvaion_trio.cli.terminal import error_console, write_json, write_line
from milvaion_trio.cli.whereto import done_there
from milvaion_trio.model.ids import parse_guid
from milvaion_trio.model.occurrence import OccurrenceStatus

__all__ = ["cancel", "enqueue"]

COMPLETED = OccurrenceStatus.COMPLETED.name.title()


def enqueue(
    job: Annotated[str | None, Parameter(help="The job's name; for a dev worker in any case.")] = None,
    /,
    *,
    data: Annotated[str | None, Parameter(metavar="JSON", help="The job's data, as JSON.")] = None,
    delay: Annotated[float | None, Parameter(metavar="SECONDS", help="Start it that much later.")] = None,
    message: Annotated[
        Path | None,
        Parameter(
            metavar="FILE",
            help="Publish this message instead. A JSON object with exchange, routing_key, properties (headers as "
            '{"type": "S", "value": …}) and body_raw is published byte for byte with these properties. Any other '
            "file is taken for the body of a job message, which must name a job of the worker; its headers are made "
            "up like the dispatcher's.",
        ),
    ] = None,
    wait: Annotated[
        bool,
        Parameter(
            negative="",
            help="Print what the dev worker publishes about the occurrence, a JSON line each, until it has ended; exit "
            "with 0 if it ended Completed, with 1 if not. Not in a cluster, where only Milvaion's server hears it.",
        ),
    ] = False,
    config: ConfigOption = None,
    settings: SetOption = None,
    worker_id: Annotated[
        str | None,
        Parameter(name="--worker-id", metavar="GROUP", help="The group of workers, if not that of the settings."),
    ] = None,
    socket: SocketOption = None,
    json: Annotated[
        bool,
        Parameter(negative="", help="One JSON object instead: the id, and with --wait the messages and how it ended."),
    ] = False,
) -> int:
    """Give a job to the workers of a cluster, or to a dev worker in another terminal.

    With --config, --set or --worker-id it goes to RabbitMQ, with --socket to a dev worker. Without them it goes to a
    dev worker that was started in this folder; else to the RabbitMQ that a settings file here or the environment
    names; else to the one of a folder above, or to the only one of yours. Where there is a choice, stderr says what was
    chosen.

    Prints the occurrence's id, or with --wait all that the dev worker reports about it.

    Exit codes: 0 enqueued, and with --wait ended Completed; 1 it was not enqueued, nobody knows whether it was, or it
    ended otherwise; 2 the command line or the settings are wrong.

        milvaion-trio enqueue SendEmailJob --data '{"to": "ada@example.org"}'
        milvaion-trio enqueue SendEmailJob --data '{"to": "ada@example.org"}' --wait
        milvaion-trio enqueue CleanUpJob --wait --json | jq -r .text
        milvaion-trio enqueue SendEmailJob --config appsettings.json --delay 60
        milvaion-trio enqueue --message dispatch.json --wait
    """
    request: Enqueue | Publish
    if message is not None:
        if job is not None or data is not None or delay is not None:
            raise UsageError("A message file says itself which job and data it is: leave JOB, --data and --delay out.")
        request = read_message_file(message, wait=wait)
    elif job is not None:
        request = Enqueue(job=job, data=parsed_data(data), delay=_checked(delay), wait=wait)
    else:
        raise UsageError("Name a job or a message file: milvaion-trio enqueue JOB, or enqueue --message FILE.")

    def in_cluster(cluster: Cluster) -> Awaitable[Done]:
        if wait:
            raise UsageError(
                "--wait shows what a dev worker reports. In a cluster only Milvaion's server is told how a job ends, "
                "or milvaion-trio monitor: look there (milvaion-trio occurrences show ID), and leave --wait out."
            )
        return cluster.enqueue(request, worker_id)

    messages: list[str] = []
    in_dev = partial(ask_dev_worker, request=request, wait=wait, show=messages.append if json else write_line)
    done = done_there(socket, config, overrides(settings), worker_id, in_dev, in_cluster)
    if json:
        _print_json(done, messages if wait else None)
    elif done.ended is None:
        write_line(done.occurrence_id or "")
        _note(done)
    else:
        error_console().print(": ".join(filter(None, [f"{done.occurrence_id} ended {done.ended}", done.text])))
    return ExitCode.DONE if done.ended in (None, COMPLETED) else ExitCode.FAILED


def cancel(
    occurrence_id: Annotated[str, Parameter(help="What enqueue printed.")],
    /,
    *,
    reason: Annotated[str | None, Parameter(metavar="TEXT", help="Why; shown as the occurrence's result.")] = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    socket: SocketOption = None,
    json: Annotated[bool, Parameter(negative="", help="One JSON object: the id, and what was done.")] = False,
) -> int:
    """Cancel an occurrence in a cluster, or of a dev worker in another terminal.

    With --config or --set the signal goes over Redis to all workers, with --socket to a dev worker. Without them it
    finds its way as enqueue does.

    A running job is cancelled at its next checkpoint. One that waits for a retry or is still to come never starts, and
    is reported Cancelled when its message comes due.

    Exit codes: 0 told, 1 nobody could be told, or a dev worker saw the occurrence end already; 2 the command line or
    the settings are wrong.

        milvaion-trio cancel 0f8fad5b-d9cb-469f-a165-70867728950e --reason 'wrong address'
    """
    parsed = parse_guid(occurrence_id)
    if parsed is None:
        raise UsageError(f"{occurrence_id!r} is no occurrence id; that is the 36 characters which enqueue prints.")
    in_dev = partial(ask_dev_worker, request=Cancel(occurrence_id=occurrence_id, reason=reason), wait=False)
    request = Cancel(occurrence_id=parsed, reason=reason)
    given = overrides(settings)
    done = done_there(socket, config, given, None, in_dev, lambda cluster: cluster.cancel(request), over_redis=True)
    if json:
        _print_json(done, None)
    else:
        write_line(done.note or occurrence_id)
    return ExitCode.DONE


def _print_json(done: Done, messages: Sequence[str] | None) -> None:
    """What was done; with the messages of an occurrence that was waited for."""
    facts: dict[str, object] = {"occurrence_id": done.occurrence_id, "note": done.note}
    if messages is not None:
        facts |= {"ended": done.ended, "text": done.text, "messages": [json.loads(each) for each in messages]}
    write_json(facts)


def _checked(delay: float | None) -> float | None:
    if delay is not None and not is_delay(delay):
        raise UsageError(f"--delay is {delay:.15g}; it must be {DELAY_WORDS}.")
    return delay


def _note(done: Done) -> None:
    if done.note is not None:
        error_console().print(done.note)
