"""The command line `milvaion-trio`: its commands, and the one place where errors become texts and exit codes."""

import errno
import sys
from collections.abc import Callable, Sequence
from inspect import signature
from typing import NoReturn

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError
from cyclopts.help import DefaultFormatter, PanelSpec
from rich.box import HORIZONTALS

from milvaion_trio.cli.check import check
from milvaion_trio.cli.completion import completion
from milvaion_trio.cli.config import check_config, show_config
from milvaion_trio.cli.demo import demo
from milvaion_trio.cli.dev import dev
from milvaion_trio.cli.dlq import list_failures, purge_failures, replay_failures, show_failure
from milvaion_trio.cli.failures import ExitCode, explain, own_traceback
from milvaion_trio.cli.history import history, show_occurrence
from milvaion_trio.cli.list_jobs import list_jobs
from milvaion_trio.cli.monitor import monitor
from milvaion_trio.cli.new import new
from milvaion_trio.cli.outbox import flush_outbox, list_outbox
from milvaion_trio.cli.reload import COMMAND_LINE
from milvaion_trio.cli.remote import cancel, enqueue
from milvaion_trio.cli.retry import retry
from milvaion_trio.cli.run import run
from milvaion_trio.cli.schedule import (
    add_schedule,
    list_schedules,
    pause_schedule,
    remove_schedule,
    resume_schedule,
    trigger_schedule,
)
from milvaion_trio.cli.schedule_next import next_times
from milvaion_trio.cli.scheduler import scheduler
from milvaion_trio.cli.schema import schema
from milvaion_trio.cli.terminal import fail, forget_output, help_console, say_all_in_any_encoding, write_json
from milvaion_trio.cli.topology import drain, drop, show
from milvaion_trio.cli.workers import workers
from milvaion_trio.model.exception_groups import leaves
from milvaion_trio.worker import __version__

__all__ = ["app", "main"]


def _shown_default(value: object) -> object:
    """Of flags only that they are there is worth a word."""
    return None if value is False else value


app: App = App(
    name="milvaion-trio",
    version=__version__,
    help="Background jobs on Trio.\n\n"
    "See them at work, with nothing to install: milvaion-trio demo\n\n"
    "Learn about a command, with examples: milvaion-trio COMMAND --help",
    help_formatter=DefaultFormatter(panel_spec=PanelSpec(box=HORIZONTALS, border_style="dim")),
    console=help_console(),
    default_parameter=Parameter(show_default=_shown_default),
    result_action="return_value",
)
_COMMANDS: dict[str, tuple[Callable[..., int], str]] = {
    "new": (new, "NAME"),
    "demo": (demo, ""),
    "dev": (dev, "MODULE:WORKER"),
    "enqueue": (enqueue, "[JOB]"),
    "cancel": (cancel, "OCCURRENCE_ID"),
    "run": (run, "MODULE:WORKER"),
    "scheduler": (scheduler, "[MODULE:WORKER]"),
    "schedule list": (list_schedules, ""),
    "schedule add": (add_schedule, "JOB"),
    "schedule pause": (pause_schedule, "ID"),
    "schedule resume": (resume_schedule, "ID"),
    "schedule trigger": (trigger_schedule, "ID"),
    "schedule remove": (remove_schedule, "ID"),
    "schedule next": (next_times, "EXPRESSION|ID"),
    "list": (list_jobs, "MODULE:WORKER"),
    "check": (check, "MODULE:WORKER"),
    "config show": (show_config, "[MODULE:WORKER]"),
    "config check": (check_config, "[MODULE:WORKER]"),
    "schema": (schema, "MODULE:WORKER [JOB]"),
    "outbox list": (list_outbox, "[MODULE:WORKER]"),
    "outbox flush": (flush_outbox, "[MODULE:WORKER]"),
    "topology show": (show, "[MODULE:WORKER]"),
    "topology drain": (drain, "[MODULE:WORKER]"),
    "topology drop": (drop, "[MODULE:WORKER]"),
    "monitor": (monitor, ""),
    "history": (history, ""),
    "occurrences show": (show_occurrence, "OCCURRENCE_ID"),
    "workers": (workers, ""),
    "retry": (retry, "OCCURRENCE_ID"),
    "dlq list": (list_failures, ""),
    "dlq show": (show_failure, "OCCURRENCE_ID"),
    "dlq replay": (replay_failures, "[OCCURRENCE_ID...]"),
    "dlq purge": (purge_failures, "[OCCURRENCE_ID...]"),
    "completion": (completion, "SHELL"),
}
"""Every command in the order of `--help`, and its arguments as its usage shows them."""
_GROUPS = {
    "config": "See which settings hold here, where each comes from, and what is wrong with them.",
    "schedule": "See when jobs run by themselves, and decide it.",
    "outbox": "See what a worker still has to report, and send it when no worker does.",
    "topology": "Look at the exchanges and queues of a cluster, and clear up those that are ours.",
    "occurrences": "See all that a monitor has kept of an occurrence.",
    "dlq": "See what failed for good, run it once more, or delete it.",
}


def _put_together() -> None:
    groups: dict[str, App] = {"": app}
    for order, (full_name, (command, arguments)) in enumerate(_COMMANDS.items()):
        group, _, name = full_name.rpartition(" ")
        if group not in groups:
            groups[group] = App(name=group, help=_GROUPS[group], sort_key=order)
            app.command(groups[group])
        options = any(each.kind is each.KEYWORD_ONLY for each in signature(command).parameters.values())
        usage = " ".join(filter(None, ["Usage: milvaion-trio", full_name, "[OPTIONS]" * options, arguments]))
        groups[group].command(command, name=name, sort_key=order, usage=usage)


_put_together()


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What writing to a file, a full disk and a closed terminal end with."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code."""
    say_all_in_any_encoding()
    sys.exit(_exit_code(sys.argv[1:] if arguments is None else arguments))


def _exit_code(arguments: Sequence[str]) -> int:
    COMMAND_LINE.set(arguments)
    try:
        result: object = app(arguments, exit_on_error=False, print_error=False)
    except (Exception, BaseExceptionGroup, KeyboardInterrupt) as error:
        told = _told(error)
        if told is None:  # a bug of ours, whose frames are all there is
            raise
        text, code = told
        if code is not ExitCode.FORCED:  # whoever pressed Ctrl-C knows
            fail(text)
        if "--json" in arguments:  # who reads JSON from stdout shall find some there, whatever has happened
            write_json({"error": text, "exit_code": code})
        return code
    return result if isinstance(result, int) else ExitCode.DONE


def _told(error: BaseException) -> tuple[str, ExitCode] | None:
    """What went wrong in words, and the exit code; `None` for what has no words."""
    # Outside a worker's own handling of signals; nurseries may have wrapped it.
    if any(isinstance(each, KeyboardInterrupt) for each in leaves(error)):
        return "Interrupted.", ExitCode.FORCED
    if not isinstance(error, Exception):
        return None
    if isinstance(error, OSError) and error.errno in _FULL:
        forget_output()
        return f"The output could not be written: {error.strerror}.", ExitCode.FAILED
    if isinstance(error, CycloptsError):
        help_command = " ".join(["milvaion-trio", *(error.command_chain or ()), "--help"])
        return f"{_words(error)} See {help_command}.", ExitCode.USAGE
    explained = explain(error)
    if explained is None and (shown := own_traceback(error)) is not None:
        return f"Your code raised this outside of a job:\n{shown}", ExitCode.FAILED
    return explained


def _words(error: CycloptsError) -> str:
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"Nothing takes {' '.join(map(repr, error.unused_tokens))}: there are too many arguments."
    return str(error).partition(" Available commands:")[0]  # the first eight of them; the help has all
