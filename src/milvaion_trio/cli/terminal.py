"""Where commands print: consoles that keep quiet about colour unless a terminal wants it.

Separate because three rules hold for all commands: no colour without a terminal or with `NO_COLOR`, no line broken that
another program may read, and a reader that goes away (`| head`) ends nothing.
"""

import io
import json
import os
import re
import sys
import uuid
from collections.abc import Iterable
from typing import IO, Literal, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from milvaion_trio.cli.narration import Mood
from milvaion_trio.model.json_text import WrittenFloat

__all__ = [
    "BAD",
    "GOOD",
    "QUIET",
    "STYLES",
    "WAITING",
    "error_console",
    "fail",
    "forget_output",
    "help_console",
    "output_console",
    "say_all_in_any_encoding",
    "table",
    "write_json",
    "write_line",
]

GOOD = "green"
BAD = "red"
WAITING = "yellow"
QUIET = "dim"

STYLES = {Mood.PLAIN: "", Mood.GOOD: GOOD, Mood.WAITING: WAITING, Mood.BAD: BAD, Mood.QUIET: QUIET}
"""What a remark's mood looks like."""

IDS = ("Occurrence", "Replayed as")
"""Columns of ids, which a person copies."""
PLENTY = 1000
"""Columns where nobody looks: a table in a pipe is as wide as it needs to be."""


_CONTROLS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)))
"""All but tabulators and line ends: what jobs and other people's messages say must not steer a terminal."""


class _Console(Console):
    """A console whose reader may leave: what is printed after that is lost, and nothing else happens.

    Of texts only what can be seen is printed; colours and whatever else steers a terminal are our own.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(text.translate(_CONTROLS), style)

    def on_broken_pipe(self) -> None:
        self.quiet = True
        _forget(self.file)


def output_console() -> Console:
    """For what a command was asked for."""
    return _console(sys.stdout)


def error_console() -> Console:
    """For everything that is said beside it."""
    return _console(sys.stderr)


def help_console() -> Console:
    """For help texts, which are broken into lines between words."""
    return _console(sys.stdout, is_prose=True)


def _console(stream: TextIO, *, is_prose: bool = False) -> Console:
    # rich drops only colours for NO_COLOR; without a colour system there is no escape sequence at all.
    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    return _Console(
        file=stream,
        color_system=colours,
        width=None if is_prose or stream.isatty() else PLENTY,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=not is_prose,
    )


def table(*columns: str, width: int = 0) -> Table:
    """An empty table in the one form that all commands use, in which nothing is cut.

    A terminal with fewer columns than `width` breaks its lines itself, so that a person can still copy what is in them.
    """
    made = Table(
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
        border_style=QUIET,
    )
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column in IDS)
    if output_console().width < width:
        made.width = width
    return made


def write_line(text: str) -> None:
    """Print a line for another program on stdout, as it is and at once."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _forget(sys.stdout)


def say_all_in_any_encoding() -> None:
    """Let characters that stdout has no code for be written as escapes, as on stderr."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not _is_unicode(sys.stdout):
        sys.stdout.reconfigure(errors="backslashreplace")


def _is_unicode(stream: TextIO) -> bool:
    return (stream.encoding or "utf-8").lower().startswith("utf")


def forget_output() -> None:
    """Print nothing more on stdout, where nothing can be printed any more."""
    _forget(sys.stdout)


def write_json(value: object) -> None:
    """Print a JSON document on stdout, indented; in plain ASCII where the encoding is no Unicode.

    A `WrittenFloat` with its digits.
    """
    mark = uuid.uuid4().hex  # `json` knows no number but its own
    text = json.dumps(_marked(value, mark), indent=2, ensure_ascii=not _is_unicode(sys.stdout))
    write_line(re.sub(f'"{mark}([^"]*)"', r"\1", text))


def _marked(value: object, mark: str) -> object:
    match value:
        case WrittenFloat():
            return mark + value.digits
        case dict():
            return {name: _marked(member, mark) for name, member in value.items()}
        case list() | tuple():
            return [_marked(item, mark) for item in value]
    return value


def fail(text: str) -> None:
    """Print why a command failed."""
    error_console().print(Text.assemble(("error: ", BAD), text))


def _forget(stream: IO[str]) -> None:
    # So that the interpreter's own flush at its end does not complain either.
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
