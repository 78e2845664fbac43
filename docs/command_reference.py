"""The reference of the commands, from the commands: their docstrings, parameters and defaults.

Each command has its part, `command NAME`, in docs/reference/commands.md; what stands around the parts is written by
hand. That no command is without its part is held by `tests/docs`.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, get_args, get_origin

from cyclopts import App
from cyclopts.argument import Argument
from docs.prose import sentences, table_row

from milvaion_trio.cli.app import app

__all__ = ["command_parts", "commands", "options"]


def command_parts() -> dict[str, Callable[[], str]]:
    """The text of each command by the name of its part, in the order of `--help`."""
    return {f"command {name}": partial(_described, command) for name, command in commands()}


def commands(group: App = app, before: str = "") -> Iterator[tuple[str, App]]:
    """Every command that `--help` shows, also those of groups: `topology show`."""
    offered = [(name, group[name]) for name in group if not name.startswith("-")]
    for name, command in sorted(offered, key=lambda each: each[1].sort_key or 0):
        if not command.show:
            continue
        if command.default_command is None:
            yield from commands(command, f"{before} {name}".strip())
        else:
            yield f"{before} {name}".strip(), command


def options(command: App) -> Iterator[str]:
    """The names of the command's options, `--config` for one."""
    for argument in _arguments(command):
        yield from (name for name in argument.names if name.startswith("-"))


def _described(command: App) -> str:
    arguments = list(_arguments(command))
    usage = str(command.usage).removeprefix("Usage: ")
    lines = ["", "```text", usage, "```", ""]
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help)):
        if paragraph.strip() == usage:  # an example that would only repeat it
            continue
        if paragraph.startswith("    "):
            lines += ["```console", *inspect.cleandoc(paragraph).splitlines(), "```", ""]
        elif paragraph.startswith("- "):
            lines += [
                *(f"- {_marked(' '.join(item.split()))}" for item in re.split(r"^- ", paragraph, flags=re.M)[1:]),
                "",
            ]
        else:
            lines += [*map(_marked, sentences(paragraph)), ""]
    if arguments:
        lines += ["| argument | unless given | meaning |", "| --- | --- | --- |"]
        lines += [_row(argument) for argument in arguments]
        lines.append("")
    return "\n".join(lines)


def _arguments(command: App) -> Iterator[Argument]:
    yield from (argument for argument in command.assemble_argument_collection() if argument.show)


def _row(argument: Argument) -> str:
    metavar = argument.parameter.metavar
    name = ", ".join(f"`{each}{f' {metavar}' if metavar else ''}`" for each in argument.names)
    default = argument.field_info.default
    meaning = _marked(" ".join((argument.parameter.help or "").split()))
    if argument.required:
        shown = "must be given"
    elif default in (None, False, inspect.Parameter.empty):
        # What is the default in effect, although the command cannot know it, stands in brackets at the end.
        meaning, shown = _IN_EFFECT.sub("", meaning), "".join(_IN_EFFECT.findall(meaning))
    else:
        shown = f"`{default}`"
    choices = list(_choices(argument.hint))
    if choices:
        meaning += f" One of {', '.join(f'`{choice}`' for choice in choices)}."
    return table_row(name, shown, meaning)


_IN_EFFECT = re.compile(r" \[([^\]]+)\](?=\.$)")


def _choices(hint: object) -> Iterator[object]:
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    else:
        for inner in get_args(hint):
            yield from _choices(inner)


_NAME = re.compile(
    r"(?<![\w`/.-])"
    r"(--[a-z][a-z-]*(?: [A-Z]+\b)?|[A-Z]+:[A-Z]+|Worker:[\w:]+|[\w/]+\.(?:json|toml|py)|mtrio\."
    r"|\[tool\.[\w-]+\]|milvaion-trio\[\w+\]|[a-z_]+\.[a-z_]+=\w+)"
    r"(?![\w`/])"
)
"""What is a name although the docstring, which `--help` shows as it is, does not mark it."""


def _marked(text: str) -> str:
    """The text with names marked as code, as far as it does not do so itself."""
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [_NAME.sub(r"`\1`", part) for part in parts[::2]]
    return "".join(parts)
