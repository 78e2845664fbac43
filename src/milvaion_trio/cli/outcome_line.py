"""A result or an error text as one line for a person: what happened, and where in the user's own code.

Separate from the narration because `enqueue --wait` ends with the same line.
"""

import os
import re
import sysconfig

from milvaion_trio.model.error_text import error_parts, one_line

__all__ = ["cut", "error_line", "is_user_code", "outcome_line"]

WIDEST_TEXT = 200
"""Characters of a result or of a job's log entry that are shown."""

WIDEST_ERROR = 2000
"""Characters of an error: every mistake in a job's data shall be seen, and a screen still has room."""

REST = "enqueue --wait shows all of it"

_INNER = "\nInner Exception:\n"
_FRAME = re.compile(r'^\s*File "([^"]+)", line (\d+), in (.+)$', re.MULTILINE)
_ERROR_TEXT = re.compile(r"Type: .+\nMessage: ")
_FOREIGN = tuple(
    {
        os.path.join(folder, "")
        for folder in (
            *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
            os.path.dirname(os.path.dirname(__file__)),
        )
    }
)


def outcome_line(text: str, rest: str = REST) -> str:
    """The one line of a result or an error text that says most; `rest` names the place of what was cut."""
    found = _ERROR_TEXT.search(text)
    if found is None:
        return cut(one_line(text), WIDEST_TEXT, rest)
    # Something may stand before it: that retries are used up, or that the job was stopped first.
    before, error = text[: found.start()], text[found.start() :]
    is_stopped = before.endswith("\n")
    line = (f"{one_line(before)} " if is_stopped else "") + _summary(error)
    return cut(line, WIDEST_ERROR, rest)


def error_line(kind: str, message: str, stack: str | None, inner: str | None) -> str:
    """An error in one line: type, message and place; of a group, all that is in it."""
    line = f"{kind.rpartition('.')[2]}: {one_line(message)}".removesuffix(": ")
    if kind.endswith("ExceptionGroup") and inner:
        return f"{line}: {'; '.join(map(_summary, inner.split(_INNER)))}"
    return line + _place(stack or "")


def cut(text: str, limit: int, rest: str = REST) -> str:
    """The text, or as much of it as may be shown, and where all of it is."""
    return text if len(text) <= limit else f"{text[:limit]} … ({rest})"


def is_user_code(filename: str) -> bool:
    """Whether a file is neither ours nor Python's nor an installed library's."""
    return not filename.startswith(("<", *_FOREIGN))


def _summary(error: str) -> str:
    parts = error_parts(error)
    first = error.partition("\n")[0]
    if not first.startswith("Type: "):
        return one_line(error)
    return error_line(first.removeprefix("Type: "), parts.message, parts.stack_trace, parts.inner)


def _place(stack: str) -> str:
    """The innermost frame of the user's code; without one, the innermost of all."""
    frames = _FRAME.findall(stack)
    own = [frame for frame in frames if is_user_code(frame[0])] or frames
    if not own:
        return ""
    filename, line, function = own[-1]
    return f" ({os.path.basename(filename)}, line {line}, in {function})"
