"""Settings in TOML: `milvaion.toml`, or the table `[tool.milvaion-trio]` of a `pyproject.toml`.

These files are ours, so an unknown key is a mistake, and a value of another type too: `port = "5672"` is a text.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from milvaion_trio.configuration.keys import SCHEMA_VERSION, dotted
from milvaion_trio.configuration.sources import Origin, Said, Source
from milvaion_trio.model.settings_rules import shown_name

__all__ = ["DEFAULT_NAME", "PYPROJECT", "TABLE", "read", "read_pyproject"]

DEFAULT_NAME: Final = "milvaion.toml"
PYPROJECT: Final = "pyproject.toml"
TABLE: Final = ("tool", "milvaion-trio")
"""Where in a `pyproject.toml`."""

_PLACE: Final = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.S)
_OUR_TABLE: Final = re.compile(r"""(?m)^\s*\[?\s*["']?tool["']?\s*\.\s*["']?milvaion""")
"""Something of ours, in a text that is no TOML."""
_TOKEN: Final = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|'{3}.*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|#[^\n]*|[\[{]|[\]}]|\n''', re.S
)
"""What decides where a statement ends: texts and comments, which may hold anything, brackets, and ends of lines."""
_TOO_LONG: Final = "the number is too long."
_TOO_DEEP: Final = "line 1, column 1: it is nested too deep."


class _NotToml(ValueError):
    """The text is not TOML; says where and why."""


def read(path: Path, name: str) -> Source | None:
    """What the file says; `None` where there is no such file. One that cannot be read is a source with a problem."""
    origin = _origin(name)
    try:
        text = _text(path.read_bytes())
        return _source(_parsed(text), text, (), origin)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Source.unreadable(origin, error)
    except _NotToml as error:
        return Source.refused(origin, error)


def read_pyproject(path: Path, name: str, *, is_chosen: bool) -> Source | None:
    """What the table for this worker says; `None` where there is no such table.

    `is_chosen` means that somebody wants the settings from there, so that a missing table is a problem.
    """
    origin = _origin(name)
    try:
        data = path.read_bytes()
    except OSError as error:
        if isinstance(error, FileNotFoundError) or (isinstance(error, IsADirectoryError) and not is_chosen):
            return None
        # Nobody knows whether there is something of ours in it, so that to go on may be to go on without settings.
        return Source.unreadable(origin, error)
    try:
        text = _text(data)
        tools = _parsed(text).get(TABLE[0])
    except _NotToml as error:
        # Somebody else's file, unless there is something of ours in it; also in UTF-16, as some editors write it.
        is_ours = _OUR_TABLE.search(data.replace(b"\0", b"").decode(errors="ignore"))
        return Source.refused(origin, error) if is_chosen or is_ours else None
    tools = tools if isinstance(tools, dict) else {}
    table = tools.get(TABLE[1])
    if isinstance(table, dict):
        return _source(table, text, TABLE, origin)
    near = difflib.get_close_matches(TABLE[1], [_hyphened(tool) for tool in tools], n=1, cutoff=0.75)
    if table is not None:
        return Source.refused(origin, "tool.milvaion-trio is a single value; it must be a table.")
    if near:
        (tool,) = [tool for tool in tools if _hyphened(tool) == near[0]][:1]
        return Source.refused(origin, f"[tool.{tool}] is not read; did you mean [tool.{TABLE[1]}]?")
    return Source.refused(origin, f"there is no table [tool.{TABLE[1]}] in it.") if is_chosen else None


def _origin(name: str) -> Origin:
    return Origin(name=name, written=".".join, spelled=dotted, is_strict=True, is_short=True)


def _hyphened(name: str) -> str:
    return name.lower().replace("_", "-")


# --- text -----------------------------------------------------------------------------------------------------------


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        raise _NotToml(f"line {line}, column {column}: this is not UTF-8 text.") from None


def _parsed(text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = _PLACE.fullmatch(str(error))
        if match is None:
            raise _NotToml(f"{error}.") from None
        lines = text.split("\n")
        line, column = match["line"] or len(lines), match["column"] or len(lines[-1]) + 1
        raise _NotToml(f"line {line}, column {column}: {shown_name(match['what'].rstrip('.'))}.") from None
    except RecursionError:
        raise _NotToml(_TOO_DEEP) from None
    except ValueError:  # a number with thousands of digits
        raise _NotToml(f"line {_line_of_number(text)}: {_TOO_LONG}") from None


def _line_of_number(text: str) -> int:
    """Where the first statement begins that has a number of too many digits."""
    for first, statement in _statements(text):
        try:
            tomllib.loads(statement)
        except tomllib.TOMLDecodeError:  # behind the number the text need not be TOML
            continue
        except ValueError:
            return first
    return 1


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each statement of a valid text with the line it begins on; in one pass, as other people's may be long."""
    start, first, line, depth = 0, 1, 1, 0
    for token in _TOKEN.finditer(text):
        match token[0]:
            case "\n":
                line += 1
                if not depth:
                    yield first, text[start : token.end()]
                    start, first = token.end(), line
            case "[" | "{":
                depth += 1
            case "]" | "}":
                depth -= 1
            case other:
                line += other.count("\n")
    yield first, text[start:]


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """On which line each key of a valid text stands: statement by statement, each of which is TOML by itself."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for first, statement in _statements(text):
        paths = list(_paths(tomllib.loads(statement), ()))
        if statement.lstrip().startswith("["):
            table = paths[-1]
            paths = [table[:depth] for depth in range(len(table) + 1)]
        else:
            paths = [(*table, *path) for path in paths]
        for path in paths:
            lines.setdefault(path, first)
    return lines


def _paths(table: Mapping[str, object], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, value in table.items():
        path = (*above, name)
        yield path
        if isinstance(value, dict):
            yield from _paths(value, path)


# --- what it says ---------------------------------------------------------------------------------------------------


def _source(table: Mapping[str, object], text: str, above: tuple[str, ...], origin: Origin) -> Source:
    try:
        lines = {path[len(above) :]: line for path, line in _lines(text).items() if path[: len(above)] == above}
        said = list(_said(table, (), None, lines))
    except _NotToml as error:
        return Source.refused(origin, error)
    except RecursionError:
        return Source.refused(origin, _TOO_DEEP)
    version = table.get("version", SCHEMA_VERSION)
    line = lines.get(("version",))
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        shown = shown_name(json.dumps(version, default=str))
        problem = f"version is {shown}; it must be {SCHEMA_VERSION}, the version of the"
        return Source(origin, problems=[f"{origin.name}, line {line}: {problem} names in this file."])
    if version > SCHEMA_VERSION:
        problem = (
            f"version is {version}, and this milvaion-trio knows the names of version {SCHEMA_VERSION} only. Install a "
            f"newer milvaion-trio, or write the file for version {SCHEMA_VERSION}."
        )
        return Source(origin, problems=[f"{origin.name}, line {line}: {problem}"])
    return Source.of((one for one in said if one.path[:1] != ("version",)), origin)


def _said(
    value: object, path: tuple[str, ...], line: int | None, lines: Mapping[tuple[str, ...], int]
) -> Iterator[Said]:
    line = lines.get(path, line)
    match value:
        case dict() if value:
            for name, member in value.items():
                yield from _said(member, (*path, name), line, lines)
        case list() if value:
            for number, item in enumerate(value):
                yield from _said(item, (*path, str(number)), line, lines)
        case dict() | list():
            yield Said(path, None, kind=type(value), line=line)
        case bool():
            yield Said(path, str(value).lower(), is_quoted=False, kind=bool, line=line)
        case str() | int() | float():
            yield Said(path, _written(value, line), is_quoted=isinstance(value, str), kind=type(value), line=line)
        case datetime():
            yield Said(path, value.isoformat(), is_quoted=False, kind=datetime, line=line)
        case _:  # dates or times alone, which no setting is
            yield Said(path, str(value), is_quoted=False, kind=object, line=line)


def _written(value: object, line: int | None) -> str:
    try:
        return str(value)
    except ValueError:  # Python reads thousands of hexadecimal digits, and does not write as many decimal ones
        raise _NotToml(f"line {line}: {_TOO_LONG}") from None
