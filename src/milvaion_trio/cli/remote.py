"""`milvaion-trio enqueue` and `cancel`: what a second terminal asks of a dev worker."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter

from milvaion_trio.cli.control import (
    Cancel,
    Done,
    Enqueue,
    Lines,
    Problem,
    Publish,
    Reported,
    Request,
    encode_request,
    read_answer,
)
from milvaion_trio.cli.failures import CommandFailed, ExitCode, UsageError
from milvaion_trio.cli.members import DELAY_WORDS, is_delay
from milvaion_trio.cli.message_file import read_message_file
from milvaion_trio.cli.options import SocketOption
from milvaion_trio.cli.sockets import connected, socket_place
from milvaion_trio.cli.terminal import error_console, write_line
from milvaion_trio.model.errors import InvalidMessage
from milvaion_trio.model.ids import parse_guid
from milvaion_trio.model.json_text import JsonValue, read
from milvaion_trio.model.occurrence import OccurrenceStatus

__all__ = ["cancel", "enqueue"]

PATIENCE = 10.0
"""Seconds for an answer that needs no waiting: a dev worker that takes longer has a job that blocks its event loop."""

COMPLETED = OccurrenceStatus.COMPLETED.name.title()


def enqueue(
    job: Annotated[str | None, Parameter(help="The job's name, in any case.")] = None,
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
            help="Print what the worker publishes about the occurrence, a JSON line each, until it has ended; exit "
            "with 0 if it ended Completed, with 1 if not.",
        ),
    ] = False,
    socket: SocketOption = None,
) -> int:
    """Give a dev worker a job to run, from another terminal.

    Prints the occurrence's id, or with --wait all that the worker reports about it.

        milvaion-trio enqueue SendEmailJob --data '{"to": "ada@example.org"}'
        milvaion-trio enqueue SendEmailJob --data '{"to": "ada@example.org"}' --wait
        milvaion-trio enqueue --message dispatch.json --wait
    """
    request: Request
    if message is not None:
        if job is not None or data is not None or delay is not None:
            raise UsageError("A message file says itself which job and data it is: leave JOB, --data and --delay out.")
        request = read_message_file(message, wait=wait)
    elif job is not None:
        request = Enqueue(job=job, data=_parsed(data), delay=_checked(delay), wait=wait)
    else:
        raise UsageError("Name a job or a message file: milvaion-trio enqueue JOB, or enqueue --message FILE.")
    done = trio.run(_ask, socket_place(socket), request, wait)
    if done.ended is None:
        write_line(done.occurrence_id or "")
        _note(done)
        return ExitCode.DONE
    error_console().print(": ".join(filter(None, [f"{done.occurrence_id} ended {done.ended}", done.text])))
    return ExitCode.DONE if done.ended == COMPLETED else ExitCode.FAILED


def cancel(
    occurrence_id: Annotated[str, Parameter(help="What enqueue printed.")],
    /,
    *,
    reason: Annotated[str | None, Parameter(metavar="TEXT", help="Why; shown as the occurrence's result.")] = None,
    socket: SocketOption = None,
) -> int:
    """Cancel an occurrence of a dev worker, from another terminal.

    A running job is cancelled at its next checkpoint. One that waits for a retry or is still to come never starts, and
    is reported Cancelled when its message comes due. Exits with 1 if the occurrence has ended already.

        milvaion-trio cancel 0f8fad5b-d9cb-469f-a165-70867728950e --reason 'wrong address'
    """
    if parse_guid(occurrence_id) is None:
        raise UsageError(f"{occurrence_id!r} is no occurrence id; that is the 36 characters which enqueue prints.")
    done = trio.run(_ask, socket_place(socket), Cancel(occurrence_id=occurrence_id, reason=reason), False)
    write_line(done.note or occurrence_id)
    return ExitCode.DONE


async def _ask(place: Path, request: Enqueue | Publish | Cancel, wait: bool) -> Done:
    """Send the request, print the messages that come back, and return how it ended."""
    async with connected(place) as stream:
        lines = Lines(stream)
        with trio.move_on_after(math.inf if wait else PATIENCE):
            try:
                return await _answered(lines, request, write_line)
            except trio.BrokenResourceError as error:
                raise CommandFailed("The dev worker closed the connection. Does it still run?") from error
    raise CommandFailed(f"The dev worker gave no answer within {PATIENCE:g} s: one of its jobs blocks its event loop.")


async def _answered(lines: Lines, request: Request, show: Callable[[str], None]) -> Done:
    await lines.send(encode_request(request))
    while (line := await lines.receive()) is not None:
        match read_answer(line):
            case Reported(text):
                show(text)
            case Problem(text):
                raise CommandFailed(text)
            case Done() as done:
                return done
    raise CommandFailed("The dev worker left before this ended.")


def _parsed(data: str | None) -> JsonValue:
    if data is None:
        return None
    try:
        return read(data, case_matters=True)
    except InvalidMessage as error:
        raise UsageError(
            f"--data cannot be read. {error.problem} Quote it for the shell, e.g. --data '{{\"to\": 1}}'."
        ) from error


def _checked(delay: float | None) -> float | None:
    if delay is not None and not is_delay(delay):
        raise UsageError(f"--delay is {delay:g}; it must be {DELAY_WORDS}.")
    return delay


def _note(done: Done) -> None:
    if done.note is not None:
        error_console().print(done.note)
