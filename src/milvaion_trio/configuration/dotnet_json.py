"""JSON as .NET reads its settings files: with comments, trailing commas and a byte order mark, all of it text.

Separate because a settings file is not a message: messages are read strictly (`model.json_text`).
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Final

from milvaion_trio.configuration.sources import Said

__all__ = ["NotJson", "read"]

_STRING: Final = r'"(?:[^"\\\r\n]|\\.)*+"?'
_COMMENT: Final = re.compile(_STRING + r"|//[^\r\n]*|/\*.*?\*/", re.DOTALL)
_VALUE_END: Final = re.compile(rf"({_STRING}|\w+|[}}\]])(?:(\s*),(?=\s*[}}\]]))?")


class NotJson(ValueError):
    """The text is not JSON; says where and why."""

    def __init__(self, why: str, line: int, column: int) -> None:
        super().__init__(f"line {line}, column {column}: {why}.")


class _Members(list[tuple[str, object]]):
    """A JSON object, in order, with every name as often as it stands there."""


class _Bare(str):
    """What stands in the file without quotes, as it stands there: .NET has a number's text, not its value."""


def read(data: bytes) -> list[Said]:
    """Everything in the file, path by path; raises `NotJson`."""
    if not data.strip():
        raise NotJson("the file is empty; write {} for no settings", 1, 1)
    text = _without_trailing_commas(_COMMENT.sub(_blanked, _decoded(data)))
    try:
        value: object = json.loads(text, object_pairs_hook=_Members, parse_int=_Bare, parse_float=_Bare)
        if not isinstance(value, _Members):
            raise NotJson("the file must hold one object, in braces", 1, 1)
        return list(_said(value, ()))
    except json.JSONDecodeError as error:
        raise NotJson(error.msg.removesuffix(" at"), error.lineno, error.colno) from None
    except RecursionError:
        raise NotJson("it is nested too deep", 1, 1) from None


def _decoded(data: bytes) -> str:
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        before = data[: error.start]
        column = error.start - before.rfind(b"\n")
        raise NotJson(f"this is not {error.encoding.upper()} text", before.count(b"\n") + 1, column) from None


def _blanked(match: re.Match[str]) -> str:
    """A comment as blanks, so that errors further on name the right place."""
    return match[0] if match[0].startswith('"') else re.sub(r"[^\r\n]", " ", match[0])


def _without_trailing_commas(text: str) -> str:
    def without(match: re.Match[str]) -> str:
        if match[1] in ("NaN", "Infinity"):  # Python reads these, nobody else does
            before = text[: match.start()]
            line, column = before.count("\n") + 1, match.start() - before.rfind("\n")
            raise NotJson(f"{match[1]} is not JSON", line, column)
        return match[1] if match[2] is None else f"{match[1]}{match[2]} "

    return _VALUE_END.sub(without, text)


def _said(value: object, path: tuple[str, ...]) -> Iterator[Said]:
    match value:
        case _Members() if value:
            for name, member in value:
                # .NET's separator may also stand inside of a name.
                yield from _said(member, (*path, *name.split(":")))
        case list() if value and not isinstance(value, _Members):
            for number, item in enumerate(value):
                yield from _said(item, (*path, str(number)))
        case None | list():
            yield Said(path, None)
        case bool():
            yield Said(path, str(value).lower(), is_quoted=False)
        case _:
            yield Said(path, str(value), is_quoted=not isinstance(value, _Bare))
