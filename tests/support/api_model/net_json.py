"""JSON as System.Text.Json takes and writes it (WIRE.md 0.1), without any code of the worker that it judges.

Reading keeps what Python's own reader throws away: the order and the doubles of names, and whether a number was written
as an integer.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn, TypeAlias

from attrs import frozen

__all__ = ["JsonObject", "JsonValue", "Real", "Unparsable", "Verbatim", "fold", "parse", "plain", "texts_in", "write"]

MAX_DEPTH: Final = 64


class Unparsable(Exception):
    """The real reader throws here; what that does to the message depends on who reads."""


@frozen
class Real:
    """A number that is not written as an integer, or is too long to be one."""

    text: str


@frozen
class JsonObject:
    """An object as it was written."""

    pairs: tuple[tuple[str, "JsonValue"], ...]

    def by_folded_name(self) -> dict[str, "JsonValue"]:
        """The members for a reader that does not look at case; of equal names the last wins."""
        return {fold(name): value for name, value in self.pairs}

    def by_name(self) -> dict[str, "JsonValue"]:
        """The members for a reader that looks at case; of equal names the last wins."""
        return dict(self.pairs)


JsonValue: TypeAlias = str | int | Real | bool | list["JsonValue"] | JsonObject | None

_TOKENS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def fold(name: str) -> str:
    """A name for comparing without case; members of the wire are ASCII."""
    return name.lower() if name.isascii() else name


def parse(body: bytes | str, *, max_depth: int = MAX_DEPTH) -> JsonValue:
    """Read a document. Raises `Unparsable`.

    Stricter than the original in one thing: it refuses a lone surrogate also in members that nobody reads.
    """
    try:
        text = body if isinstance(body, str) else body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unparsable(f"not UTF-8: {error}") from error
    if _depth(text) > max_depth:
        raise Unparsable(f"nested deeper than {max_depth}")
    try:
        value: JsonValue = json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=Real, parse_constant=_no_constant
        )
    except ValueError as error:
        raise Unparsable(f"not JSON: {error}") from error
    if _SURROGATE_ESCAPE.search(text) and any(_SURROGATE.search(found) for found in texts_in(value)):
        raise Unparsable("a lone surrogate")
    return value


def texts_in(value: JsonValue) -> Iterable[str]:
    """Every string of a value, names included."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from texts_in(item)
        case JsonObject(pairs):
            for name, item in pairs:
                yield name
                yield from texts_in(item)


def plain(value: JsonValue) -> Any:
    """The value as Python's own reader gives it, for tests to compare."""
    match value:
        case list():
            return [plain(item) for item in value]
        case JsonObject(pairs):
            return {name: plain(item) for name, item in pairs}
        case Real(text):
            return float(text)
        case _:
            return value


def write(value: object) -> str:
    """A document in the default form: everything that could mean something in HTML, and all non-ASCII, is escaped."""
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case int():
            return str(value)
        case float():
            return repr(value).removesuffix(".0").replace("e", "E")
        case Verbatim():
            return f'"{value}"'
        case str():
            return f'"{_ESCAPED.sub(_escape, value)}"'
        case Mapping():
            return f"{{{','.join(f'{write(name)}:{write(item)}' for name, item in value.items())}}}"
        case Iterable():
            return f"[{','.join(map(write, value))}]"
    raise TypeError(f"no JSON value here: {value!r}")


class Verbatim(str):
    """A text that is written without escapes, as dates are: their `+` stays."""


_ESCAPED: Final = re.compile(r"""[^ !#-%(-*,-;=?-\[\]-_a-~]""")
_SHORT_ESCAPES: Final = {"\\": r"\\", "\b": r"\b", "\t": r"\t", "\n": r"\n", "\f": r"\f", "\r": r"\r"}


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    units = character.encode("utf-16-be", "surrogatepass")  # a lone one too: tests of readers need it
    return _SHORT_ESCAPES.get(character) or "".join(
        f"\\u{int.from_bytes(units[at : at + 2], 'big'):04X}" for at in range(0, len(units), 2)
    )


def _depth(text: str) -> int:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0
    depth = deepest = 0
    for token in _TOKENS.finditer(text):
        if token[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token[0] in "]}":
            depth -= 1
    return deepest


def _object(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    return JsonObject(tuple(pairs))


def _integer(text: str) -> int | Real:
    return int(text) if len(text) <= 20 else Real(text)


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")
