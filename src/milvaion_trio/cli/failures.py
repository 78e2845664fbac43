"""What a command says when it cannot do its work, and the exit code that goes with it (DESIGN.md 2).

Every error that can be expected is one text on stderr; a traceback means a bug, ours or the user's.
"""

import difflib
import enum
import traceback

from milvaion_trio.cli.outcome_line import is_user_code
from milvaion_trio.loading import ModuleRaised
from milvaion_trio.model.errors import JobNotRegistered, MilvaionError, SettingsError
from milvaion_trio.model.exception_groups import sole

__all__ = ["CommandFailed", "ExitCode", "UsageError", "explain", "own_traceback", "with_hint"]


class ExitCode(enum.IntEnum):
    """What a shell or a service manager learns."""

    DONE = 0
    """Drained, or the command did what it was asked for."""
    FAILED = 1
    """The start failed, or what was asked for did not come about."""
    USAGE = 2
    """The command line, the settings or the jobs contradict themselves, or the module cannot be read or found: trying
    again changes nothing."""
    FORCED = 130
    """Left at once, on the third signal or the first one outside a worker: 128 + SIGINT."""


class CommandFailed(MilvaionError):
    """A command cannot do what it was asked for; the message says what to do about it."""


class UsageError(MilvaionError):
    """The command line asks for something that does not exist or does not go together."""


def explain(error: BaseException) -> tuple[str, ExitCode] | None:
    """The text and exit code of an error that can be expected; `None` for any other."""
    error = sole(error)
    match error:
        case ModuleRaised() if isinstance(error.__cause__, SettingsError):
            return explain(error.__cause__)
        case ModuleRaised(problems=(problem,)):
            # What a module does may go well the next time; what stands in it, or is not there, will not.
            is_lasting = isinstance(error.__cause__, SyntaxError | ImportError)
            return f"{problem}{_place(error.__cause__)}", ExitCode.USAGE if is_lasting else ExitCode.FAILED
        case SettingsError(problems=(problem,)):
            return problem, ExitCode.USAGE
        case SettingsError() | UsageError():
            return str(error), ExitCode.USAGE
        case MilvaionError():
            return str(error), ExitCode.FAILED
    return None


def with_hint(error: JobNotRegistered) -> str:
    """Its text, with the job that may have been meant."""
    near = difflib.get_close_matches(error.job_name, error.known, n=1)
    return f"{error} Did you mean {near[0]}?" if near else str(error)


def own_traceback(error: BaseException) -> str | None:
    """The traceback of an error of the user's code, from their first frame on; `None` where none of it is theirs."""
    shown = traceback.TracebackException.from_exception(sole(error))
    if not _leave_out_ours(shown):
        return None
    return "".join(shown.format()).rstrip()


def _leave_out_ours(shown: traceback.TracebackException) -> bool:
    """Cut the frames before the user's, in all that is shown; whether there is a frame of theirs."""
    first = next((index for index, frame in enumerate(shown.stack) if is_user_code(frame.filename)), None)
    if first is not None:
        del shown.stack[:first]
    inner = [each for each in (shown.__cause__, shown.__context__, *(shown.exceptions or ())) if each is not None]
    found = [_leave_out_ours(each) for each in inner]
    return first is not None or any(found)


def _place(cause: BaseException | None) -> str:
    """Where in the user's files a module raised: the traceback's last line, without the traceback."""
    if cause is None or isinstance(cause, SyntaxError):  # its text names the place itself
        return ""
    frames = traceback.extract_tb(cause.__traceback__)
    return f"\nIt was raised in {frames[-1].filename}, line {frames[-1].lineno}." if frames else ""
