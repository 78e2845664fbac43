"""How single values in a job's data are read: texts, numbers, dates, one of a list of values.

Reading is strict, since data that almost fits is a mistake somebody wants to hear about.
"""

import functools
import operator
import re
import typing
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from typing import Final, TypeAlias
from uuid import UUID

from milvaion_trio.model.errors import InvalidMessage
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.json_text import WrittenFloat, read, write
from milvaion_trio.model.jsonable import jsonable
from milvaion_trio.model.time_span import parse_time_span
from milvaion_trio.policy.annotations import PLAIN_WORDS, words_for

__all__ = ["PLAIN_READINGS", "Misfit", "Reading", "as_it_is", "enum_reading", "folded", "literal_reading"]

Reading: TypeAlias = Callable[[object, object], object]
"""A hook as cattrs calls it: the decoded JSON and the type, which ours know already."""


class Misfit(ValueError):
    """A value is not what its place asks for."""

    def __init__(self, found: object, expected: str) -> None:
        super().__init__(f"found {_shown(found)}, expected {expected}")


def _shown(value: object) -> str:
    match value:
        case None | True | False:
            return {None: "null", True: "true", False: "false"}[value]
        case str():
            return f'the text "{value[:40]}…"' if len(value) > 40 else f'the text "{value}"'
        case list():
            return f"a list of {len(value)}"
        case dict():
            return "an object"
    return f"the number {value.digits[:40] if isinstance(value, WrittenFloat) else value}"


def as_it_is(value: object, _: object = None) -> typing.Any:
    """The decoded JSON, with plain floats: others' code (orjson, for one) takes no subclass of float."""
    match value:
        case WrittenFloat(is_whole=True):
            raise Misfit(value, "a whole number of at most 64 bits")
        case WrittenFloat():
            return float(value)
        case list():
            return [as_it_is(item) for item in value]
        case dict():
            return {name: as_it_is(member) for name, member in value.items()}
    return value


def _null(value: object, _: object) -> None:
    if value is not None:
        raise Misfit(value, "null")


def _text(value: object, _: object) -> str:
    if type(value) is not str:
        raise Misfit(value, "a text")
    return value


def _whole_number(value: object, _: object) -> int:
    if type(value) is not int:
        is_long = isinstance(value, WrittenFloat) and value.is_whole
        raise Misfit(value, "a whole number of at most 64 bits" if is_long else "a whole number")
    return value


def _number(value: object, _: object) -> float:
    if isinstance(value, float) or type(value) is int:
        return float(value)
    raise Misfit(value, "a number")


def _decimal(value: object, _: object) -> Decimal:
    """From a number, as .NET writes it, with all its digits; or from a text."""
    if type(value) is int:
        return Decimal(value)
    digits = value.digits if isinstance(value, WrittenFloat) else value
    if type(digits) is not str or _DECIMAL.fullmatch(digits) is None:
        raise Misfit(value, PLAIN_WORDS[Decimal])
    return Decimal(digits)


_DECIMAL = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,4})?", re.ASCII)


def _boolean(value: object, _: object) -> bool:
    if type(value) is not bool:
        raise Misfit(value, "true or false")
    return value


def _from_text(kind: type, pattern: str, parse: Callable[[str], object]) -> Reading:
    form = re.compile(pattern, re.ASCII)

    def reading(value: object, _: object) -> object:
        if type(value) is str and form.fullmatch(value):
            try:
                return parse(value)
            except ValueError:
                pass
        raise Misfit(value, PLAIN_WORDS[kind])

    return reading


PLAIN_READINGS: Final[dict[object, Reading]] = {
    object: as_it_is,
    typing.Any: as_it_is,
    type(None): _null,
    str: _text,
    int: _whole_number,
    float: _number,
    bool: _boolean,
    datetime: _from_text(datetime, r"\d.*", lambda text: Instant.parse(text).to_datetime()),
    date: _from_text(date, r"\d{4}-\d\d-\d\d", date.fromisoformat),
    time: _from_text(time, r"\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?", time.fromisoformat),
    timedelta: _from_text(timedelta, r"-?\d.*", parse_time_span),
    UUID: _from_text(UUID, r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", UUID),
    Decimal: _decimal,
}


def literal_reading(values: tuple[object, ...]) -> Reading:
    """One of these values; an enum's member by its name, too."""
    allowed = {_json(value): value for value in values if not isinstance(value, Enum)}
    for value in values:
        if isinstance(value, Enum):
            allowed[_json(value.name)] = allowed[_json(value)] = value
    words = "one of " + ", ".join(map(repr, values))

    def reading(value: object, _: object) -> object:
        text = _written(value)
        if text is None or text not in allowed:
            raise Misfit(value, words)
        return allowed[text]

    return reading


def enum_reading(kind: type[Enum]) -> Reading:
    """A member, by its value or by its name in any spelling; of a `Flag`, several by the sum of their values."""
    members = kind.__members__.values()  # which also has those of a `Flag` that stand for several bits
    by_value = {_json(member): member for member in members}
    bits = [member.value for member in members] if issubclass(kind, Flag) else []
    # .NET writes member names in its own spelling: InProgress is IN_PROGRESS.
    by_name = {folded(name): member for name, member in kind.__members__.items()}
    by_name |= dict(kind.__members__)
    words = words_for(kind)

    def reading(value: object, _: object) -> object:
        text = _written(value)
        member = None if text is None else by_value.get(text)
        if member is None and isinstance(value, str):
            member = by_name.get(value) or by_name.get(folded(value))
        if member is None and bits and type(value) is int:
            sum_of_members = functools.reduce(operator.or_, [each for each in bits if each & value == each], 0)
            member = kind(value) if value == sum_of_members else None
        if member is None:
            raise Misfit(value, words)
        return member

    return reading


def _written(value: object) -> str | None:
    """The decoded JSON as text, which tells 1 from true and "1"; `None` for a number that no value can be."""
    try:
        return write(as_it_is(value))
    except Misfit:
        return None


def _json(value: object) -> str | None:
    """The same of a value of Python, `None` for one that JSON cannot give."""
    try:
        return write(read(write(jsonable(value)), case_matters=True))
    except (TypeError, ValueError, InvalidMessage):
        return None


@functools.lru_cache(maxsize=1024)
def folded(name: str) -> str:
    """The name without what its spellings differ in: case, and `_`."""
    return name.replace("_", "").lower()
