"""JSON text: a strict reader, and a writer in System.Text.Json's form.

The reader refuses what .NET refuses (RELIABILITY.md 5.2) and raises nothing but `InvalidMessage`.
Any JSON would be understood by the API; the writer's form makes our bytes comparable with those of a .NET worker.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from typing import Final, NoReturn, TypeAlias

from milvaion_trio.model.errors import InvalidMessage

__all__ = ["INT64_MAX", "INT64_MIN", "MAX_DEPTH", "JsonValue", "WrittenFloat", "quote", "read", "write"]

JsonValue: TypeAlias = "bool | int | float | Decimal | str | list[JsonValue] | dict[str, JsonValue] | None"
"""A JSON document. `Decimal` is only written, its digits as they are; the reader gives `float`, or `WrittenFloat`."""

MAX_DEPTH: Final = 64
"""Levels of nesting, in both directions: System.Text.Json's limit."""
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1


_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_REPLACEMENT = "\ufffd"


class WrittenFloat(float):
    """A number that also keeps the digits it was written with: a double holds 15 of them, a .NET decimal has 28."""

    __slots__ = ("digits",)

    digits: str

    @property
    def is_whole(self) -> bool:
        """Whether it is a whole number, of more than 64 bits, which would else be none."""
        return self.digits.lstrip("-").isdigit()


def read(data: bytes | str, *, case_matters: bool = False, keep_digits: bool = False) -> JsonValue:
    """Parse one JSON document, or raise `InvalidMessage`.

    A name that stands twice in an object is refused, and unless `case_matters` names that differ only in case too:
    .NET takes the last of them, and two readers must not see two messages. `keep_digits` gives `WrittenFloat` for
    `float`, and for whole numbers beyond 64 bits, which are else refused.
    """
    try:
        if isinstance(data, str):
            data = _SURROGATE.sub(_REPLACEMENT, data).encode()
        text = data.decode()
        if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
            _check_depth(data)
        value = _parse(text, _DECODERS[case_matters, keep_digits])
        # After strict UTF-8, an escape is the only way in for a lone surrogate.
        if _ESCAPED_SURROGATE.search(text) is not None:
            value = _without_surrogates(value)
    except (ValueError, RecursionError, OverflowError, MemoryError) as error:
        raise InvalidMessage(f"This is not JSON as Milvaion reads it: {str(error) or type(error).__name__}.") from error
    return value


def _parse(text: str, decoder: json.JSONDecoder) -> JsonValue:
    # decode() also skips blanks around the text, which costs a tenth more and is hardly ever needed.
    value: JsonValue = None
    try:
        value, end = decoder.raw_decode(text)
    except json.JSONDecodeError:
        end = -1
    return value if end == len(text) else decoder.decode(text)


def _check_depth(data: bytes) -> None:
    depth = 0
    for bracket in _TEXT.sub(b"", data).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")


def _object(members: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError(_twice(name for name, _ in members))
    return found


def _caseless_object(members: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    found = dict(members)
    if len({name.lower() for name in found}) != len(members):
        raise ValueError(_twice(name.lower() for name, _ in members))
    return found


def _twice(names: Iterable[str]) -> str:
    [(name, _)] = Counter(names).most_common(1)
    return f"the name {name[:40]!r} stands twice in one object"


@lru_cache(maxsize=1024)  # most numbers of a message are flags, counts and versions, and this is called for each
def _integer(digits: str) -> int:
    # The length first: int() refuses, or takes long over, thousands of digits.
    if len(digits) > 20 or not INT64_MIN <= (value := int(digits)) <= INT64_MAX:
        raise ValueError(f"the number {digits[:40]} does not fit into 64 bits")
    return value


def _fraction(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:40]} does not fit into a double")
    return value


def _written(digits: str) -> WrittenFloat:
    value = WrittenFloat(_fraction(digits))
    value.digits = digits
    return value


def _written_integer(digits: str) -> int | WrittenFloat:
    try:
        return _integer(digits)
    except ValueError:
        return _written(digits)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODERS = {
    (case_matters, keep_digits): json.JSONDecoder(
        object_pairs_hook=_object if case_matters else _caseless_object,
        parse_int=_written_integer if keep_digits else _integer,
        parse_float=_written if keep_digits else _fraction,
        parse_constant=_constant,
    )
    for case_matters in (False, True)
    for keep_digits in (False, True)
}


def _without_surrogates(value: JsonValue) -> JsonValue:
    if isinstance(value, str):
        return _SURROGATE.sub(_REPLACEMENT, value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return _object(
            [(_SURROGATE.sub(_REPLACEMENT, name), _without_surrogates(item)) for name, item in value.items()]
        )
    return value


_SPECIAL = re.compile(r"[^ !#-%(-*,-;=?-_a-~]")
"""What is escaped besides the double quote and the backslash."""


def write(value: JsonValue) -> str:
    """The text that System.Text.Json writes, without blanks; ASCII only.

    Raises `ValueError` for what a reader does not take: NaN, infinity, an int of more than 64 bits, too many levels.
    """
    return _write(value, MAX_DEPTH)


def quote(text: str) -> str:
    """A text as a JSON string."""
    # Most texts have no special character, and most that have one are JSON, whose quotes replace() handles best.
    text = text.replace("\\", r"\\").replace('"', r"\u0022")
    if _SPECIAL.search(text) is not None:
        text = _SPECIAL.sub(_escape, text)
    # Joined with +, since an f-string asks a subclass (an enum of texts) for another form.
    return '"' + text + '"'


def _write(value: JsonValue, levels: int) -> str:
    if isinstance(value, str):
        return quote(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if not INT64_MIN <= value <= INT64_MAX:
            raise ValueError("an int is beyond 64 bits, which JSON readers do not take; write it as text")
        return int.__repr__(value)
    if isinstance(value, WrittenFloat):
        return value.digits
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Decimal):
        return _decimal(value)
    if not levels:
        raise ValueError(f"the value is nested deeper than {MAX_DEPTH} levels, or contains itself")
    if isinstance(value, list):
        return f"[{','.join([_write(item, levels - 1) for item in value])}]"
    return f"{{{','.join([f'{quote(name)}:{_write(item, levels - 1)}' for name, item in value.items()])}}}"


def _float(value: float) -> str:
    """The shortest digits that read back as the same double, laid out as .NET does."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is no JSON number")
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)  # of finite numbers
    figures = "".join(map(str, digits))
    point = len(figures) + exponent  # where the decimal point stands, counted from the first digit
    if value and not -4 < point <= max(len(figures), 15):
        text = f"{figures[0]}{'.' if figures[1:] else ''}{figures[1:]}E{point - 1:+03d}"
    elif point <= 0:
        text = f"0.{'0' * -point}{figures}"
    else:
        text = f"{figures[:point]:0<{point}}{'.' if figures[point:] else ''}{figures[point:]}"
    return "-" * sign + text


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError(f"{value} is no JSON number")
    text = str(value)
    # A whole number beyond 64 bits is one to no reader, unless it is written as a fraction may be.
    return text if INT64_MIN <= value <= INT64_MAX or not text.lstrip("-").isdigit() else f"{value:E}"


def _escape(match: re.Match[str]) -> str:
    return _escaped(match[0])


@lru_cache(maxsize=1024)
def _escaped(letter: str) -> str:
    code = ord(letter)
    if letter in _SHORT:
        return _SHORT[letter]
    if 0xD800 <= code <= 0xDFFF:
        return r"\uFFFD"
    if code < 0x10000:
        return f"\\u{code:04X}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04X}\\u{0xDC00 + (code & 0x3FF):04X}"


_SHORT = {"\b": r"\b", "\t": r"\t", "\n": r"\n", "\f": r"\f", "\r": r"\r"}
