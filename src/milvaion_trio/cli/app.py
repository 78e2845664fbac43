"""The command line `milvaion-trio`: its commands, and the one place where errors become texts and exit codes."""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from cyclopts import App, CycloptsError, UnusedCliTokensError
from cyclopts.help import DefaultFormatter, PanelSpec
from rich.box import HORIZONTALS

from milvaion_trio.cli.demo import demo
from milvaion_trio.cli.dev import dev
from milvaion_trio.cli.failures import ExitCode, explain, own_traceback
from milvaion_trio.cli.list_jobs import list_jobs
from milvaion_trio.cli.remote import cancel, enqueue
from milvaion_trio.cli.run import run
from milvaion_trio.cli.terminal import fail, help_console
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
}
_USAGES = {"enqueue": "Usage: milvaion-trio enqueue [OPTIONS] [JOB]"}
"""Where the generated one does not name the argument."""
for _order, (_name, _command) in enumerate(_COMMANDS.items()):
    app.command(_command, name=_name, sort_key=_order, usage=_USAGES.get(_name))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code."""
    sys.exit(_exit_code(arguments))


def _exit_code(arguments: Sequence[str] | None) -> int:
    try:
        result: object = app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        fail(f"{_words(error)} See {' '.join(['milvaion-trio', *(error.command_chain or ())])} --help.")
        return ExitCode.USAGE
    except KeyboardInterrupt:  # outside a worker's own handling of signals
        return ExitCode.FORCED
    except Exception as error:
        explained = explain(error)
        if explained is None:
            shown = own_traceback(error)
            if shown is None:  # a bug of ours, whose frames are all there is
                raise
            explained = f"Your code raised this outside of a job:\n{shown}", ExitCode.FAILED
        text, code = explained
        fail(text)
        return code
    return result if isinstance(result, int) else ExitCode.DONE


def _words(error: CycloptsError) -> str:
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return f"Nothing takes {' '.join(map(repr, error.unused_tokens))}: there are too many arguments."
    return str(error)
