"""An exception as the text that Milvaion stores and shows (WIRE.md 3.1).

Lines `Type: `, `Message: ` and `StackTrace: `, then each inner exception after a blank line and `Inner Exception:`.
Separate because job code can raise anything: an exception whose `__str__` raises, a chain that bites its own tail, a
group with a million leaves. Whatever it is, there is a text of bounded length, and nothing is raised.
"""

import os
import re
import traceback
from collections.abc import Iterator

from attrs import frozen

__all__ = ["ErrorParts", "error_parts", "error_summary", "error_text", "error_type", "one_line"]

_INNER_SEPARATOR = "\nInner Exception:\n"
_STACK_LABEL = "StackTrace: "
_INNER_LIMIT = 20
"""Inner exceptions told; people read the first."""
_GROUP_DEPTH = 8
"""Groups in groups that are opened. Nurseries nest, but nobody nests them deeper on purpose."""
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_FRAMES = 100
"""Innermost frames told; a runaway recursion has a thousand."""


def error_text(
    error: BaseException,
    *,
    skip_frames_in: str | tuple[str, ...] | None = None,
    without: tuple[type[BaseException], ...] = (),
) -> str:
    """The exception, and what caused it, in the form of a .NET worker.

    An exception group is told with its leaves; the groups in between say nothing new.
    `skip_frames_in` is a folder, or several: the outermost frames are left out as long as their files are in them.
    Inner exceptions of the types in `without` are not told.
    """
    try:
        found = [each for each in _with_inner(error) if each is error or not isinstance(each, without)]
        texts = [_text_of_one(each, skip_frames_in) for each in found[: _INNER_LIMIT + 1]]
    except Exception as obstacle:
        # Not even its attributes can be read, which takes a property or a metaclass that raises.
        return f"Type: {error_type(error)}\nMessage: (could not be read: {error_type(obstacle)})\n{_STACK_LABEL}\n"
    if len(found) > len(texts):
        texts.append(f"(only the first {_INNER_LIMIT} are shown)\n")
    return _INNER_SEPARATOR.join(texts)


def error_type(error: BaseException) -> str:
    """Its short class name."""
    return type(error).__name__


@frozen
class ErrorParts:
    """What a log entry tells of an error text."""

    message: str
    stack_trace: str | None
    inner: str | None
    """The texts of the inner exceptions."""


def error_parts(text: str) -> ErrorParts:
    """Take an error text apart. Of any other text, all of it is the message."""
    outer, found, inner = text.partition(_INNER_SEPARATOR)
    message, _, stack = outer.partition(f"\n{_STACK_LABEL}")
    first, label, rest = message.partition("Message: ")
    if label and first.startswith("Type: "):
        message = rest
    return ErrorParts(message.strip(), stack.rstrip() or None, inner if found else None)


def error_summary(text: str) -> str:
    """An error text in one line: type, message, innermost frame, e.g. `KeyError: 'to' (mail.py, line 12, send)`.

    Of any other text, its lines joined.
    """
    prefix, label, rest = text.partition("Type: ")
    if not label or "\n" in prefix:
        return one_line(text)
    parts = error_parts(label + rest)
    kind = rest.partition("\n")[0].rpartition(".")[2]
    message = one_line(parts.message)
    frames = _FRAME.findall(parts.stack_trace or "")
    place = f" ({os.path.basename(frames[-1][0])}, line {frames[-1][1]}, {frames[-1][2]})" if frames else ""
    return f"{prefix}{kind}: {message}{place}"


def one_line(text: str) -> str:
    """The lines of a text behind each other, those of a list without its dashes: `It does not fit: this; that`."""
    line = ""
    for part in (part.strip().removeprefix("- ") for part in text.splitlines()):
        if part:
            line += f"{'' if not line else ' ' if line.endswith(':') else '; '}{part}"
    return line


def _with_inner(error: BaseException) -> Iterator[BaseException]:
    """The exception, then its leaves and causes depth first; at most one more than are told, to know that there are."""
    seen: set[int] = set()
    count = 0
    waiting = [(error, 0)]
    while waiting and count <= _INNER_LIMIT + 1:
        each, depth = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        is_opened = isinstance(each, BaseExceptionGroup) and depth < _GROUP_DEPTH
        if not is_opened or each is error:
            count += 1
            yield each
        cause = each.__cause__ if each.__cause__ is not None or each.__suppress_context__ else each.__context__
        if cause is not None:
            waiting.append((cause, depth))
        if isinstance(each, BaseExceptionGroup) and is_opened:
            # The stack needs the first leaf last; no more of them than can be told.
            waiting.extend((leaf, depth + 1) for leaf in reversed(each.exceptions[: _INNER_LIMIT + 2]))


def _text_of_one(error: BaseException, skip_frames_in: str | tuple[str, ...] | None) -> str:
    return f"Type: {_full_type(error)}\nMessage: {_message(error)}\n{_STACK_LABEL}{_stack(error, skip_frames_in)}\n"


def _full_type(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        message = f"{error} "[:-1]  # a plain str, even if __str__ returns a subclass with methods of its own
    except Exception as obstacle:
        message = f"(its __str__ raised {error_type(obstacle)})"
    notes = getattr(error, "__notes__", None)
    if isinstance(notes, list):
        message = "\n".join([message, *(note for note in notes if isinstance(note, str))])
    return message


def _stack(error: BaseException, skip_frames_in: str | tuple[str, ...] | None) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    first = 0
    if skip_frames_in is not None:
        while first < len(frames) and frames[first].filename.startswith(skip_frames_in):
            first += 1
    return "".join(traceback.StackSummary.from_list(frames[max(first, len(frames) - _FRAMES) :]).format()).rstrip()
