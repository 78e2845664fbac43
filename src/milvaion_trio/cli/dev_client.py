"""Asking a dev worker for something, from another terminal: `dev_server` answers."""

import math
from collections.abc import Callable
from pathlib import Path

import trio

from milvaion_trio.cli.control import Done, Lines, Problem, Reported, Request, Where, encode_request, read_answer
from milvaion_trio.cli.failures import CommandFailed
from milvaion_trio.cli.sockets import NobodyListens, connected
from milvaion_trio.cli.terminal import write_line

__all__ = ["ask_dev_worker", "folder_of_dev_worker", "history_of_dev_worker"]

PATIENCE = 10.0
"""Seconds for an answer that needs no waiting: a dev worker that takes longer has a job that blocks its event loop."""


async def ask_dev_worker(
    place: Path, request: Request, *, wait: bool, show: Callable[[str], None] = write_line
) -> Done:
    """Send the request, show the messages that come back, a JSON text each, and return how it ended.

    Raises `NobodyListens` when there is no dev worker, `CommandFailed` when it cannot do it. If cancelled, it may do
    it all the same.
    """
    async with connected(place) as stream:
        lines = Lines(stream)
        with trio.move_on_after(math.inf if wait else PATIENCE):
            try:
                return await _answered(lines, request, show)
            except trio.BrokenResourceError as error:
                raise CommandFailed("The dev worker closed the connection. Does it still run?") from error
    raise CommandFailed(f"The dev worker gave no answer within {PATIENCE:g} s: one of its jobs blocks its event loop.")


async def folder_of_dev_worker(place: Path) -> str | None:
    """Where the dev worker that listens was started, `None` where none does. If cancelled, nothing changes.

    Raises `CommandFailed` when it does not answer.
    """
    try:
        return (await ask_dev_worker(place, Where(), wait=False)).note
    except NobodyListens:
        return None


async def history_of_dev_worker(place: Path) -> str:
    """The file in which the dev worker that listens keeps its history. If cancelled, nothing changes.

    Raises `NobodyListens`, or `CommandFailed` where it keeps none or does not answer.
    """
    history = (await ask_dev_worker(place, Where(), wait=False)).text
    if history is None:
        raise CommandFailed(f"The dev worker that listens on {place} keeps no history: it was started with --no-data.")
    return history


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
