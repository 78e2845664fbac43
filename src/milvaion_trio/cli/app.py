"""The command line `milvaion-trio`: its commands, and the one place where errors become texts and exit codes."""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from cyclopts import App, CycloptsError, UnusedCliTokensError
from cyclopts.help import DefaultFormatter, PanelSpec
from rich.box import HORIZONTALS

from milvaion_trio.cli.check import check
from milvaion_trio.cli.demo import demo
from milvaion_trio.cli.dev import dev
from milvaion_trio.cli.failures import ExitCode, explain, own_traceback
from milvaion_trio.cli.list_jobs import list_jobs
from milvaion_trio.cli.remote import cancel, enqueue
from milvaion_trio.cli.run import run
from milvaion_trio.cli.terminal import fail, help_console
from milvaion_trio.cli.topology import drain, drop, show
from milvaion_trio.model.exception_groups import leaves
from milvaion_trio.worker import __version__

__all__ = ["app", "main"]

app = App(
    name="milvaion-trio",
    version=__version__,
    help="Background jobs on Trio.\n\n"
    "See them at work, with nothing to install: milvaion-trio demo\n\n"
    "Learn about a command, with examples: milvaion-trio COMMAND --help",
    help_formatter=DefaultFormatter(panel_spec=PanelSpec(box=HORIZONTALS, border_style="dim")),
    console=help_console(),
    result_action="return_value",
)
_COMMANDS: dict[str, Callable[..., int]] = {
    "demo": demo,
    "dev": dev,
    "enqueue": enqueue,
    "cancel": cancel,
    "run": run,
    "list": list_jobs,
    "check": check,
}
_TOPOLOGY: dict[str, Callable[..., int]] = {"show": show, "drain": drain, "drop": drop}
_USAGES = {"enqueue": "Usage: milvaion-trio enqueue [OPTIONS] [JOB]"}
"""Where the generated one does not name the argument."""
for _order, (_name, _command) in enumerate(_COMMANDS.items()):
    app.command(_command, name=_name, sort_key=_order, usage=_USAGES.get(_name))
_topology = App(
    name="topology",
    help="Look at the exchanges and queues of a cluster, and clear up those that are ours.",
    sort_key=len(_COMMANDS),
)
for _order, (_name, _command) in enumerate(_TOPOLOGY.items()):
    _usage = f"Usage: milvaion-trio topology {_name} [OPTIONS] [MODULE:WORKER]"
    _topology.command(_command, name=_name, sort_key=_order, usage=_usage)
app.command(_topology)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code."""
    sys.exit(_exit_code(arguments))


def _exit_code(arguments: Sequence[str] | None) -> int:
    try:
        result: object = app(arguments, exit_on_error=False, print_error=False)
    except (Exception, BaseExceptionGroup, KeyboardInterrupt) as error:
        code = _told(error)
        if code is None:  # a bug of ours, whose frames are all there is
            raise
        return code
    return result if isinstance(result, int) else ExitCode.DONE


def _told(error: BaseException) -> ExitCode | None:
    """Print what went wrong in words, and return the exit code; `None` for what has no words."""
    # Outside a worker's own handling of signals; nurseries may have wrapped it.
    if any(isinstance(each, KeyboardInterrupt) for each in leaves(error)):
        return ExitCode.FORCED
    if not isinstance(error, Exception):
        return None
    if isinstance(error, CycloptsError):
        fail(f"{_words(error)} See {' '.join(['milvaion-trio', *(error.command_chain or ())])} --help.")
        return ExitCode.USAGE
    explained = explain(error)
    if explained is None:
        shown = own_traceback(error)
        if shown is None:
            return None
        explained = f"Your code raised this outside of a job:\n{shown}", ExitCode.FAILED
    text, code = explained
    fail(text)
    return code


def _words(error: CycloptsError) -> str:
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"Nothing takes {' '.join(map(repr, error.unused_tokens))}: there are too many arguments."
    return str(error)
